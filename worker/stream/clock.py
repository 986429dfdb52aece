"""Time in the stream layer: the group's watermark, the timers it fires, and the consumer lag."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError
from faust.types import TP
from mode import get_logger

from worker.stream.delivery import AbandonedError
from worker.stream.state_store import MAX_TIMERS
from worker.stream.watermark import Watermark

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.observe.interface import StreamObserver
    from worker.pipeline.ports import Processor
    from worker.stream.delivery import Delivery
    from worker.stream.options import StreamOptions

log = get_logger(__name__)


def wall_clock() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Timers:
    """Fires the timers of the open partitions.

    A session that has expired may be refreshed, and a uid that is due to be forgotten may be claimed again, by a record
    that is not processed yet: it lies in another partition, or on the topic of a later stage. So timers wait until the
    consumer group has processed all input up to their time. By the wall clock that is the group's watermark. By event
    time no timer fires before the end of the input, which only the caller knows: see `fire_last`.

    Args:
        options: topics and partitions.
        processor: the pure core.
        delivery: takes the results.
        observer: is called with what happened.
        clock: milliseconds since the epoch.
        newest: partition -> newest record time, milliseconds.
        is_active: returns whether partitions may be processed now.
    """

    def __init__(
        self,
        options: StreamOptions,
        processor: Processor,
        delivery: Delivery,
        observer: StreamObserver,
        *,
        clock: Callable[[], int],
        newest: Mapping[int, int],
        is_active: Callable[[], bool],
    ) -> None:
        self.watermark = Watermark(len(options.stages()))
        self._options = options
        self._processor = processor
        self._delivery = delivery
        self._observer = observer
        self._clock = clock
        self._newest = newest
        self._is_active = is_active

    async def fire_all(self, consumer: Any) -> None:
        """Advance the watermark, and fire the timers that are due in every open partition."""
        await self._move_watermark(consumer)
        for partition in list(self._delivery.queues):
            try:
                await self._fire(partition, self._watermark_time())
            except AbandonedError:
                continue

    async def fire_last(self) -> None:
        """Fire the timers of each partition up to its newest record. All input must have been processed.

        Raises:
            AbandonedError: a partition was lost meanwhile.
        """
        for partition, newest in list(self._newest.items()):
            await self._fire(partition, newest)

    async def _move_watermark(self, consumer: Any) -> None:
        now, firsts = self._clock(), self._options.firsts()
        topics = [topic for stage in self._options.stages() for topic in stage]
        tps = [TP(topic, partition) for topic in topics for partition in range(self._options.partitions)]
        try:
            progress = await consumer.progress(*tps)
        except (KafkaError, TimeoutError) as error:
            log.info("The group's progress is unknown, the watermark does not advance: %r", error)
        else:
            # A producer's transaction ends with an offset that is no record's, and is never committed.
            passed = {tp: at._replace(end=at.end - (tp.topic in firsts)) for tp, at in progress.items()}
            self.watermark.look(now, passed)
        self._observer.on_watermark_lag(self.watermark.behind(self._clock()))

    def _watermark_time(self) -> int:
        """Return the time up to which timers may fire, milliseconds."""
        return min(self._clock(), self.watermark.time)

    async def _fire(self, partition: int, now: int) -> None:
        """Fire the timers of a partition that are due by `now`, milliseconds.

        Raises:
            AbandonedError: the partition is not, or no longer, processed here.
        """
        more = True
        while more and (shard := self._delivery.queues.get(partition)) is not None and self._is_active():
            started = time.perf_counter()
            result = self._processor.fire_timers(partition, now, shard)
            # `pop_due` gives at most this many at once: there may be more.
            more = len(result.states) >= MAX_TIMERS
            if result.states or result.rows or result.messages:
                self._observer.on_timers(partition, time.perf_counter() - started, result)
                await self._delivery.submit(partition, result)


class LagMonitor:
    """Records of each assigned input partition that are not durable yet.

    Args:
        topics: the input topics.
        observer: is called with the lag.
    """

    def __init__(self, topics: list[str], observer: StreamObserver) -> None:
        self._topics = topics
        self._observer = observer
        self._ends: Mapping[TP, int | None] = {}

    async def look(self, consumer: Any) -> None:
        """Ask the brokers for the ends, and report the lag."""
        try:
            # The consumer gets no high watermark of partitions that are not fetched because the buffers are full.
            self._ends = await consumer.highwaters(*self._inputs(consumer))
        except KafkaError as error:
            log.info("The ends of the input are unknown: %r", error)
        for tp, lag in self.lag(consumer).items():
            self._observer.on_lag(tp, lag)

    def lag(self, consumer: Any) -> dict[TP, int]:
        """Return the lag of the partitions for which it is known."""
        inputs = self._inputs(consumer)
        known = {tp: max(self._ends.get(tp) or 0, consumer.highwater(tp) or 0) for tp in inputs}
        return {tp: max(0, end - consumer.done_offset(tp)) for tp, end in known.items()}

    def _inputs(self, consumer: Any) -> set[TP]:
        return {tp for tp in consumer.assignment() if tp.topic in self._topics}
