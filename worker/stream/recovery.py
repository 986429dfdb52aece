"""Recovery of shards from the changelog.

Faust's own recovery waits for a record at the last offset before the end of each changelog partition, and hangs when
there is none: compaction, retention, deletion and transaction markers all remove it. This module reads each partition
with a plain consumer outside the group until its position has reached the high watermark of the broker's fetch
responses, and has passed the fence marker with which this worker took the partition. The marker is never compacted
away, because it is the last record of its key, so the wait for it ends. A new leader whose high watermark is still too
low cannot end recovery too early. An empty fetch response does not mean the end: brokers send those for some partitions
while others filled the response. (The end offsets that brokers return on request are not used: Tansu returns the first
offset of the last batch plus one.)
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from faust.tables.manager import TableManager as FaustTableManager
from faust.tables.recovery import RebalanceAgain, ServiceStopped
from faust.tables.recovery import Recovery as FaustRecovery
from mode import Service, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.pipeline.ports import Record
    from worker.stream.state_store import DurableShard

log = get_logger(__name__)

POLL_MS = 50
RETRY_SECONDS = 1.0


async def restore(
    options: Mapping[str, Any],
    topic: str,
    shards: Mapping[int, DurableShard],
    marks: Mapping[int, int] | None = None,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Read each shard's changelog partition from the shard's `offset` to the end.

    A shard whose offset is beyond the changelog's end is cleared first: the changelog was created again. Kafka errors
    are retried until recovery is complete.

    Args:
        options: aiokafka connection options.
        topic: the changelog.
        shards: partition number -> shard.
        marks: partition number -> an offset that is known to be durable and must be read.
        on_progress: called with partition and number of records applied.
    """
    while True:
        try:
            async with _reader(options) as consumer:
                await _Restore(consumer, topic, shards, marks or {}, on_progress).run()
        except KafkaError as error:
            log.warning("Recovery failed, retrying: %r", error)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return


def _reader(options: Mapping[str, Any]) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **{
            "auto_offset_reset": "earliest",
            "max_partition_fetch_bytes": 4 << 20,
            "fetch_max_wait_ms": POLL_MS,
            **options,
            "group_id": None,
            "enable_auto_commit": False,
        }
    )


class _Restore:
    """One pass over the changelog partitions of some shards."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        topic: str,
        shards: Mapping[int, DurableShard],
        marks: Mapping[int, int],
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._consumer = consumer
        self._shards = {TopicPartition(topic, partition): shard for partition, shard in shards.items()}
        self._marks = marks
        self._on_progress = on_progress or (lambda _partition, _records: None)

    async def run(self) -> None:
        """Read until every partition is complete."""
        self._consumer.assign(list(self._shards))
        for tp, shard in self._shards.items():
            self._consumer.seek(tp, 0 if shard.offset is None else shard.offset + 1)
        pending = set(self._shards)
        while pending := {tp for tp in pending if not await self._complete(tp)}:
            batches = await self._consumer.getmany(*pending, timeout_ms=POLL_MS, max_records=20_000)
            for tp, records in batches.items():
                self._apply(tp, records)

    def _apply(self, tp: TopicPartition, records: Sequence[Record]) -> None:
        shard = self._shards[tp]
        if shard.offset is not None and records[0].offset <= shard.offset:
            # The shard's offset is beyond the end: the consumer was reset to the beginning.
            self._start_anew(tp, records[0].offset)
        # A record with an empty key is a fence marker.
        shard.restore(((r.key, r.value) for r in records if r.key), records[-1].offset)
        self._on_progress(tp.partition, len(records))

    def _start_anew(self, tp: TopicPartition, end: int) -> None:
        shard = self._shards[tp]
        log.warning(
            "The local state reaches offset %s, but %s was created again and ends at %s: recovering all of it",
            shard.offset,
            tp,
            end,
        )
        shard.clear()

    async def _complete(self, tp: TopicPartition) -> bool:
        position, highwater = await self._consumer.position(tp), self._consumer.highwater(tp)
        if highwater is None:
            return False
        shard = self._shards[tp]
        if shard.offset is not None and shard.offset >= highwater:
            self._start_anew(tp, highwater)
            self._consumer.seek(tp, 0)
            return False
        if position < max(highwater, self._marks.get(tp.partition, -1) + 1):
            return False
        if position:
            shard.restore((), position - 1)
        shard.restored()
        self._consumer.pause(tp)
        return True


class Recovery(FaustRecovery):  # type: ignore[misc]
    """Faust's recovery service with its own reader of the changelog; the signals are Faust's."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _restart_recovery(self) -> None:
        while not await self.wait_for_stopped(self.signal_recovery_start):
            self.signal_recovery_start.clear()
            try:
                self._set_recovery_started()
                await self._wait(self._restore_assigned())
                await self._wait(self.on_recovery_completed(self._generation_id))
            except (RebalanceAgain, IllegalStateError):
                self.log.info("Recovery restarts because the assigned partitions changed")
            except ServiceStopped:
                return

    @Service.task  # type: ignore[untyped-decorator]
    async def _slurp_changelogs(self) -> None:
        """Do nothing: the group's consumer does not read changelogs."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _publish_stats(self) -> None:
        """Do nothing: the observer reports progress."""

    async def _restore_assigned(self) -> None:
        for table, tps in list(self.actives_for_table.items()):
            started = monotonic()
            shards = {tp.partition: table.data.open(tp.partition) for tp in tps}
            if shards:
                # Fence earlier owners first; then read what they wrote.
                taken = await asyncio.gather(*(self.app.changelog_writer.take(partition) for partition in shards))
                marks = dict(zip(shards, taken, strict=True))
                await restore(self.app.kafka_options, table.changelog_topic.get_topic_name(), shards, marks)
            self.app.on_restored(shards, monotonic() - started)

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Start the streams at their committed offsets."""
        consumer = self.app.consumer
        await self.app.on_rebalance_complete.send()
        self._set_recovery_ended()
        if self.app.consumer_generation_id != generation_id:
            return
        await self._seek_streams(consumer)
        self.app.open_partitions()
        self.completed.set()
        self.app.flow_control.resume()
        consumer.resume_flow()
        await self.app._fetcher.maybe_start()  # noqa: SLF001  as Faust does
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        self.app.on_rebalance_end()
        self.log.info("Worker ready")

    async def _seek_streams(self, consumer: Any) -> None:
        streams = {tp for tp in consumer.assignment() if not self._is_changelog_tp(tp)}
        consumer.resume_partitions(streams)
        while True:
            try:
                await consumer.perform_seek()
            except KafkaError as error:
                if isinstance(error, IllegalStateError):
                    raise
                self.log.warning("Could not read the committed offsets, retrying: %r", error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return


class TableManager(FaustTableManager):  # type: ignore[misc]
    """Faust's table manager with this recovery, without Faust's one-second wait for tables to be declared."""

    _recovery: Recovery | None = None

    @property
    def recovery(self) -> Recovery:
        """Return the recovery service."""
        if self._recovery is None:
            self._recovery = Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Register the tables and start recovery."""
        await self._update_channels()
        await self.recovery.start()
