"""Faust transport that passes batches of records to an agent, one message a batch. Scheme `sessionwatch://`.

Faust takes about 250 µs to carry a message from the consumer to an agent. A message that carries up to
`broker_max_poll_records` records of one partition makes that cost negligible. Consequences:

- A message's value is a `FetchedBatch`; its offset is that of the batch's last record. Offsets of messages have
  gaps, so Faust's accounting of acknowledged offsets and gaps is replaced by one number a partition: the next
  offset to commit, set by `Consumer.done` in order.
- Acknowledging a message object has no effect: agents use `stream.noack()`.
- Changelog partitions are assigned with the group but never fetched here; `worker.stream.recovery` reads them.

Connection settings come from the app's `kafka_options`, plain aiokafka keyword arguments, and not from Faust's.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.structs import OffsetAndMetadata
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ConsumerMessage

from worker.stream.watermark import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence

    from faust.types import TP

    from worker.pipeline.ports import Record


LAST_COMMIT_SECONDS = 2.0
PROGRESS_SECONDS = 5.0


class FetchedBatch(NamedTuple):
    """Consecutive records of one topic-partition, in order; never empty."""

    tp: TP
    records: Sequence[Record]


class FetchedBatchSchema(faust.Schema):  # type: ignore[misc]  # Faust is untyped
    """Passes fetched batches through without decoding."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> None:
        """Return None: the records have the keys."""

    def loads_value(self, app: Any, message: Any, **_: Any) -> FetchedBatch:  # noqa: ARG002  Faust's signature
        """Return the batch."""
        batch: FetchedBatch = message.value
        return batch


class RebalanceListener(driver.ConsumerRebalanceListener):  # type: ignore[misc]
    """Keeps changelog partitions out of the fetcher, and counts an assignment as a confirmed heartbeat."""

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Called in the consumer's thread when partitions are being assigned."""
        thread = self._thread
        thread.pause_changelogs(assigned)
        thread.heard_at = monotonic()
        await super().on_partitions_assigned(assigned)


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread of aiokafka's consumer.

    Attributes:
        heard_at: monotonic time at which the last confirmed heartbeat was sent.
    """

    heard_at: float = float("-inf")

    async def on_start(self) -> None:
        """Start the consumer and record its heartbeats."""
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator  # noqa: SLF001  aiokafka has no hook for heartbeats
        beat = coordinator._do_heartbeat  # noqa: SLF001

        async def timed_beat() -> bool:
            sent = monotonic()
            confirmed: bool = await beat()
            if confirmed:
                self.heard_at = sent
            return confirmed

        coordinator._do_heartbeat = timed_beat  # noqa: SLF001

    async def on_thread_stop(self) -> None:
        """Leave the group; aiokafka does not leave generation 0, which is Tansu's first."""
        coordinator = self._consumer and self._consumer._coordinator  # noqa: SLF001
        if coordinator and coordinator.generation == 0:
            request = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(coordinator._send_req(request), 1)  # noqa: SLF001
        await super().on_thread_stop()

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:  # noqa: ARG002  Faust's signature
        conf = self.app.conf
        self._assignor = self.app.assignor
        return AIOKafkaConsumer(
            **{
                "group_id": conf.id,
                "partition_assignment_strategy": [self._assignor],
                "enable_auto_commit": False,
                "auto_offset_reset": conf.consumer_auto_offset_reset,
                "max_poll_records": conf.broker_max_poll_records,
                "max_poll_interval_ms": int(conf.broker_max_poll_interval * 1000),
                "fetch_max_wait_ms": int(self.app.settings.fetch_wait * 1000),
                "max_partition_fetch_bytes": conf.consumer_max_fetch_size,
                "session_timeout_ms": int(conf.broker_session_timeout * 1000),
                "rebalance_timeout_ms": int(conf.broker_rebalance_timeout * 1000),
                "heartbeat_interval_ms": int(conf.broker_heartbeat_interval * 1000),
                "request_timeout_ms": int(conf.broker_request_timeout * 1000),
                "check_crcs": conf.broker_check_crcs,
                "metadata_max_age_ms": conf.consumer_metadata_max_age_ms,
                **self.app.kafka_options,
            }
        )

    def pause_changelogs(self, assigned: Iterable[Any]) -> None:
        """Keep aiokafka from prefetching changelog partitions."""
        changelogs = self.app.tables.changelog_topics
        self._ensure_consumer().pause(*(tp for tp in assigned if tp.topic in changelogs))

    async def seek_to_committed(self) -> Mapping[TP, int | None]:
        """Seek the stream partitions to their committed offsets, those without one to their beginning."""
        return await self.call_thread(self._seek_to_committed)  # type: ignore[no-any-return]

    async def _seek_to_committed(self) -> Mapping[TP, int | None]:
        consumer = self._ensure_consumer()
        changelogs = self.app.tables.changelog_topics
        tps = [tp for tp in consumer.assignment() if tp.topic not in changelogs]
        if not tps:
            return {}
        committed: dict[TP, int | None] = await consumer.seek_to_committed(*tps)
        # Records may have been fetched, and dropped, before the seek; aiokafka leaves the position there.
        fresh = [tp for tp, offset in committed.items() if not offset]
        if fresh:
            await consumer.seek_to_beginning(*fresh)
        return committed

    async def progress(self, *tps: TP) -> Mapping[TP, Progress]:
        """Return the group's progress on partitions, those of other workers included."""
        return await self.call_thread(self._progress, tps)  # type: ignore[no-any-return]

    async def _progress(self, tps: Sequence[TP]) -> Mapping[TP, Progress]:
        consumer = self._ensure_consumer()
        asked = [driver.ensure_aiokafka_TP(tp) for tp in tps]
        # Committed offsets first, then ends: the outputs of committed records must lie before those ends. The
        # consumer's own `committed` asks for one partition at a time. The time-out is needed because the call waits for
        # a coordinator without limit, and commits wait in the same queue.
        async with asyncio.timeout(PROGRESS_SECONDS):
            committed = await consumer._coordinator.fetch_committed_offsets(asked)  # noqa: SLF001  see above
            begins = await consumer.beginning_offsets(asked)
            ends = await consumer.end_offsets(asked)
        return {
            ensure_TP(tp): Progress(begins[tp], ends[tp], committed[tp].offset if tp in committed else 0)
            for tp in asked
        }

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; return False when it failed, in which case the next commit covers it."""
        try:
            await self._ensure_consumer().commit(
                {driver.ensure_aiokafka_TP(tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
            )
        except (CommitFailedError, IllegalStateError):
            self.log.info("Offsets not committed: the group has a newer generation")
            return False
        except KafkaError as error:
            self.log.warning("Offsets not committed, the next commit will cover them: %r", error)
            return False
        return True


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Consumer of batches; commits the offsets given to `done`."""

    RebalanceListener = RebalanceListener

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._done: dict[TP, int] = {}

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def heartbeat_age(self) -> float:
        """Seconds since the last confirmed heartbeat was sent; infinite before the first assignment."""
        thread: ConsumerThread = self._thread
        return monotonic() - thread.heard_at

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ASYNC109  Faust's signature
        """Yield one message for each partition that the fetcher has records of."""
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if not records or self.should_stop:
            return
        if not self.flow_active:
            await self._seek_back()
            return
        for tp, batch in records.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if active is None or tp in active or tp in self._buffered_partitions:
                yield ensure_TP(tp), self._batch_message(ensure_TP(tp), batch, generation)

    async def _seek_back(self) -> None:
        try:
            await self.perform_seek()
        except Exception as error:  # noqa: BLE001  the seek at the end of the rebalance is what counts
            self.log.info("Could not seek back while partitions were paused: %r", error)

    def _batch_message(self, tp: TP, records: Sequence[Record], generation: int) -> ConsumerMessage:
        last = records[-1]
        return ConsumerMessage(
            tp.topic, tp.partition, last.offset, last.timestamp / 1000, 0, [], None,
            FetchedBatch(tp, records), None, 0, 0, tp, generation_id=generation,
        )  # fmt: skip

    async def progress(self, *tps: TP) -> Mapping[TP, Progress]:
        """Return the group's progress on partitions, those of other workers included.

        Raises:
            KafkaError, TimeoutError: the brokers do not answer.
        """
        thread: ConsumerThread = self._thread
        return await thread.progress(*tps)

    def done(self, tp: TP, offset: int) -> None:
        """Called when all records of a partition up to and including `offset` are durable."""
        self._done[tp] = offset + 1

    def done_offset(self, tp: TP) -> int:
        """Return the offset after the last durable record of a partition; 0 when there is none."""
        return max(self._done.get(tp, 0), self._committed_offset[tp] or 0)

    def ack(self, message: Any) -> bool:  # noqa: ARG002  Faust's signature
        """Do nothing: a message that was processed is not durable yet."""
        return False

    async def perform_seek(self) -> None:
        """Seek all partitions to their committed offsets and commit from there on."""
        self._done.clear()
        await super().perform_seek()

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: there are always gaps between batches."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:  # noqa: ARG002  all go in one request
        return iter(list(self._done))

    def _new_offset(self, tp: TP) -> int | None:
        return self._done.get(tp)

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:  # noqa: ARG002, FBT001, FBT002  Faust's signature
        assigned = self.assignment()
        mine = {tp: offset for tp, offset in offsets.items() if tp in assigned}
        if not mine or not await self._commit(mine):
            return False
        self._committed_offset.update(mine)
        self.app.on_committed(mine)
        return True

    async def last_commit(self, seconds: float) -> None:
        """Commit what is durable before partitions are revoked, if it succeeds within `seconds`."""
        if self.crashed:
            return  # its thread no longer answers
        try:
            await asyncio.wait_for(self.commit(), seconds)
        except (TimeoutError, KafkaError) as error:
            self.log.warning("Could not commit the last offsets: %r", error)

    async def on_stop(self) -> None:
        """Commit, and stop."""
        await self.last_commit(LAST_COMMIT_SECONDS)
        self.transport._topic_waiters.clear()  # noqa: SLF001  as Faust's consumer does

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: a partition that waits for the store is healthy; readiness reports the wait."""


class Producer(driver.Producer):  # type: ignore[misc]
    """Faust's own producer; it only declares topics here."""

    def _new_producer(self, transactional_id: str | None = None) -> AIOKafkaProducer:
        return AIOKafkaProducer(**self.app.kafka_options, transactional_id=transactional_id)


class Transport(driver.Transport):  # type: ignore[misc]
    """Kafka transport of batches."""

    Consumer = Consumer
    Producer = Producer
