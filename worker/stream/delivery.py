"""The delivery protocol: nothing lost, nothing doubled.

For every batch of one partition, in this order:

(a) rows, messages and new states are computed, on the newest states in memory (the caller's part);
(b) messages are published and rows inserted, and both awaited until they are durable;
(c) the states are written to the changelog, and awaited;
(d) the offset is handed to the consumer, which commits it with the next round.

Batches of one partition pass (c) and (d) in order, while later ones are computed and pass (b): the latency of the store
does not limit the throughput of the worker. Outputs that become durable together are written together: rows of many
batches and partitions go into one insert (`inserter`), and only the last state of each key is written.

**Who may block.** `submit` waits while more than `max_rows` or `max_bytes` are in flight (`inflight`). This is the only
back-pressure: the waiting agent stops taking batches, its buffer fills, the consumer stops fetching and stays in the
group, and memory is bounded by what is in flight and in these buffers. Nothing else blocks the caller.

**Who commits.** Only `ack`, called after (c), in order. A batch whose offset is committed has everything durable.

**After a crash** between (b) and (c) the batch is computed again from the same states, with the same row keys and
finding ids. Between (c) and (d) its states are ahead, and the processor skips records that the states already include.

**When a partition is lost**, its queue is closed: steps that have not begun do not run. If a batch was in flight, the
states in memory are ahead of the durable ones, and the caller must drop them.

**Errors.** Writers retry. What they raise is final: the queues are closed and `on_fatal` is called.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol

from worker.stream.inflight import DeliveryLimits, InFlight, InFlightBatch, PartitionQueue
from worker.stream.inserter import RowInserter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence

    from faust.types import TP

    from worker.pipeline.ports import BatchResult, Message
    from worker.stream.inserter import Writer
    from worker.stream.state_store import DurableShard

FENCE_SECONDS = 0.05
AFTER_CHANGELOG = "after-changelog"


class AbandonedError(Exception):
    """This worker no longer owns the partition."""


class Changelog(Protocol):
    """The log of states; see `worker.stream.publisher.ChangelogWriter`."""

    async def write(
        self,
        partition: int,
        states: Mapping[bytes, bytes | None],
        may_send: Callable[[], Awaitable[None]],
    ) -> tuple[int, int]:
        """Return the offsets of the first and the last state when all are durable.

        Raises:
            AbandonedError: another worker has taken the partition.
        """

    async def release(self, partition: int) -> None:
        """Drop everything of a partition that is waiting to be sent."""


class Delivery:
    """Runs steps (b) to (d).

    Args:
        writer: rows.
        publish: messages; returns when they are durable, in order.
        changelog: states.
        ack: takes a partition and the last offset that is durable.
        is_member: returns whether it is certain now that no other worker owns our partitions.
        on_fatal: called with an error after which the worker cannot continue.
        on_lost: called with a partition that was abandoned because another worker owns it.
        limits: bounds.
        on_insert: called after each insert with the count of rows by table, and for each batch among them the
            timestamp of its oldest record.
        faults: called with the name of each step passed; tests kill the worker there.
    """

    def __init__(
        self,
        *,
        writer: Writer,
        publish: Callable[[Iterable[Message]], Awaitable[None]],
        changelog: Changelog,
        ack: Callable[[TP, int], None],
        is_member: Callable[[], bool],
        on_fatal: Callable[[BaseException], None],
        on_lost: Callable[[int], None],
        limits: DeliveryLimits | None = None,
        on_insert: Callable[[Mapping[str, int], Sequence[int]], None] | None = None,
        faults: Callable[[str], None] | None = None,
    ) -> None:
        self.limits = limits or DeliveryLimits()
        self._publish = publish
        self._changelog = changelog
        self._ack = ack
        self._is_member = is_member
        self._on_fatal = on_fatal
        self._on_lost = on_lost
        self._faults = faults
        self._queues: dict[int, PartitionQueue] = {}
        self.in_flight = InFlight(self.limits)
        self._inserter = RowInserter(writer, self.limits, self.in_flight, on_insert, self._pass)
        self._inserting: asyncio.Task[None] | None = None

    # Start and stop

    async def start(self) -> None:
        """Start inserting."""
        self._inserting = asyncio.create_task(self._guarded(self._inserter.run()))

    async def stop(self) -> None:
        """Close all queues and stop, even when batches are in flight."""
        for partition in list(self._queues):
            await self.close(partition)
        if self._inserting is not None:
            self._inserting.cancel()
            await asyncio.gather(self._inserting, return_exceptions=True)

    def open(self, partition: int, shard: DurableShard) -> None:
        """Accept batches of a partition."""
        if partition in self._queues:
            raise ValueError(f"partition {partition} is open already")
        queue = self._queues[partition] = PartitionQueue(partition, shard)
        queue.tasks = [
            asyncio.create_task(self._guarded(self._publish_forever(queue))),
            asyncio.create_task(self._guarded(self._finish_forever(queue), queue)),
        ]

    def is_open(self, partition: int) -> bool:
        """Return whether batches of a partition are accepted."""
        return partition in self._queues

    @property
    def queues(self) -> Mapping[int, DurableShard]:
        """The open partitions and their shards."""
        return {partition: queue.shard for partition, queue in self._queues.items()}

    async def close(self, partition: int) -> bool:
        """Abandon a partition; return True when nothing was in flight, so that its shard equals the durable state."""
        writing = (queue := self._queues.get(partition)) is not None and queue.writing
        clean = self.abandon(partition)
        if queue is not None:
            await asyncio.gather(*queue.tasks, return_exceptions=True)
        if writing:
            # The producer would still send what is waiting in it.
            await self._changelog.release(partition)
        return clean

    def abandon(self, partition: int) -> bool:
        """Start what `close` does, without waiting for it."""
        queue = self._queues.pop(partition, None)
        if queue is None:
            return True
        queue.open = False
        for task in queue.tasks:
            task.cancel()
        clean = not queue.batches
        self._inserter.drop(queue)
        self.in_flight.remove(queue.batches)
        self.in_flight.wake()
        return clean

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109  the bound is the point
        """Wait until nothing is in flight, at most `timeout` seconds; meanwhile rows are inserted at once."""
        with self.in_flight.draining(), suppress(TimeoutError):
            self._inserter.wake()
            await asyncio.wait_for(self.in_flight.wait_until_empty(), timeout)

    def flush(self) -> None:
        """Insert the rows that wait now without further delay."""
        self._inserter.flush()

    # State

    @property
    def stalled_for(self) -> float:
        """Seconds the oldest batch has been in flight; 0 when there is none."""
        oldest = [queue.batches[0].at for queue in self._queues.values() if queue.batches]
        return _now() - min(oldest) if oldest else 0.0

    @property
    def ready(self) -> bool:
        """Whether batches become durable in time."""
        return self.stalled_for < self.limits.stall_seconds

    def is_idle(self, partition: int) -> bool:
        """Return whether nothing of a partition is in flight."""
        queue = self._queues.get(partition)
        return queue is None or not queue.batches

    # Steps

    async def submit(
        self, partition: int, result: BatchResult, *, source: tuple[TP, int] | None = None, size: int = 0
    ) -> None:
        """Take over a result; wait while too much is in flight.

        Args:
            partition: its partition number.
            result: what was computed; it must not be changed afterwards.
            source: the input partition and the last offset covered; None for timers.
            size: bytes of the record values that the result was computed from.

        Raises:
            AbandonedError: this worker does not own the partition, or lost it while waiting.
        """
        queue = self._queues.get(partition)
        if not await self.in_flight.wait_for_room(queue) or queue is None:
            raise AbandonedError(f"partition {partition}")
        batch = InFlightBatch(queue, result, source, size, _now())
        queue.batches.append(batch)
        self.in_flight.add(batch)
        if not batch.published:
            queue.to_publish.append(batch)
            queue.work.set()
        if not batch.inserted:
            self._inserter.add(batch)
        self._inserter.wake()
        if batch.durable:
            queue.news.set()

    async def _publish_forever(self, queue: PartitionQueue) -> None:
        while True:
            await queue.work.wait()
            queue.work.clear()
            batches, queue.to_publish = queue.to_publish, deque()
            await self._publish(message for batch in batches for message in batch.messages)
            for batch in batches:
                batch.messages = []
                batch.published = True
            queue.news.set()

    async def _finish_forever(self, queue: PartitionQueue) -> None:
        while True:
            await queue.news.wait()
            queue.news.clear()
            while done := list(takewhile(lambda batch: batch.durable, queue.batches)):
                await self._write_states(queue, done)
                self._acknowledge(queue, done)

    async def _write_states(self, queue: PartitionQueue, batches: list[InFlightBatch]) -> None:
        states: dict[bytes, bytes | None] = {}
        for batch in batches:
            states.update(batch.states)
        if not states:
            return
        queue.writing = True
        try:
            _, last = await self._changelog.write(queue.partition, states, lambda: self._may_send(queue))
        finally:
            queue.writing = False
        queue.shard.persist(states, last)
        self._pass(AFTER_CHANGELOG)

    async def _may_send(self, queue: PartitionQueue) -> None:
        """Wait until it is certain that this worker owns the partition.

        Raises:
            AbandonedError: it does not.
        """
        while queue.open and not self._is_member():  # noqa: ASYNC110  the age of a heartbeat is waited for
            await asyncio.sleep(FENCE_SECONDS)
        if not queue.open:
            raise AbandonedError(f"partition {queue.partition}")

    def _acknowledge(self, queue: PartitionQueue, batches: list[InFlightBatch]) -> None:
        last = dict(batch.source for batch in batches if batch.source is not None)
        for _ in batches:
            queue.batches.popleft()
        for tp, offset in last.items():
            self._ack(tp, offset)
        self.in_flight.remove(batches)

    async def _guarded(self, work: Coroutine[Any, Any, None], queue: PartitionQueue | None = None) -> None:
        try:
            await work
        except AbandonedError:
            if queue is not None and queue.open:
                self.abandon(queue.partition)
                self._on_lost(queue.partition)
        except Exception as error:  # noqa: BLE001  whatever it is, nothing can go on
            for partition in list(self._queues):
                self.abandon(partition)
            self._on_fatal(error)

    def _pass(self, step: str) -> None:
        if self._faults is not None:
            self._faults(step)


def _now() -> float:
    return asyncio.get_running_loop().time()
