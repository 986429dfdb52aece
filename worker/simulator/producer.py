"""Produces simulated traffic to a topic, each record at its time of arrival."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable, Callable, Iterable

    from worker.simulator import SimEvent

EARLY_MS = 5
"""Records that are due within this time are sent at once: a shorter sleep costs more than it is worth."""


class RecordSender(Protocol):
    """The part of aiokafka's producer that is needed."""

    async def send(self, topic: str, *, value: bytes, key: bytes, timestamp_ms: int) -> Future[object]:
        """Put a record into the next batch; the future is done when that is acknowledged."""


class TrafficProducer:
    """Sends events at their time of arrival, those of the past at once.

    Args:
        events: in order of arrival.
        topic: where to; the keys decide the partition.
        clock: milliseconds since the epoch.
        sleep: takes seconds.
        until_ms: stop at the first event that arrives later.

    Attributes:
        sent: events handed to the producer so far. is_live: those of the past are all sent.
        failed: the first error of one of them.
    """

    def __init__(
        self,
        events: Iterable[SimEvent],
        topic: str,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
        until_ms: float = float("inf"),
    ) -> None:
        self.sent = 0
        self.is_live = False
        self.failed: BaseException | None = None
        self._events = events
        self._topic = topic
        self._clock = clock
        self._sleep = sleep
        self._until = until_ms

    async def run(self, producer: RecordSender) -> None:
        """Send until the events or the time are up, or a send failed."""
        for event in self._events:
            if self.failed is not None or event.arrival_ms > self._until:
                return
            ahead = event.arrival_ms - self._clock()
            if ahead > EARLY_MS:
                self.is_live = True
                await self._sleep(ahead / 1000)
            await self._send(producer, event)

    async def _send(self, producer: RecordSender, event: SimEvent) -> None:
        timestamp = int(event.arrival_ms)
        sending = await producer.send(self._topic, value=event.value, key=event.key, timestamp_ms=timestamp)
        sending.add_done_callback(self._on_sent)
        self.sent += 1

    def _on_sent(self, sending: Future[object]) -> None:
        if not sending.cancelled():
            self.failed = self.failed or sending.exception()
