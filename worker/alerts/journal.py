"""The journal: a compacted topic with one record per delivery. `outbox` describes the protocol."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from worker.alerts.outbox import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from worker.alerts.outbox import AlertDelivery

log = structlog.get_logger(__name__)
RETRY_SECONDS = 0.5
FETCH_MS = 200


class JournalWriter:
    """Writes deliveries; they are durable when it returns.

    Attributes:
        failing: why the last write failed; empty when it did not.
    """

    def __init__(self, options: Mapping[str, Any], topic: str) -> None:
        self._options = options
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None
        self.failing = ""

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaError: Kafka does not answer.
        """
        self._producer = AIOKafkaProducer(**self._options, acks="all", max_request_size=8 << 20)
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def write(self, deliveries: Sequence[AlertDelivery]) -> None:
        """Write deliveries; retry without limit."""
        await self._write([(each.partition, each.key, encode(each)) for each in deliveries])

    async def forget(self, partition: int, keys: Iterable[str]) -> None:
        """Write tombstones for deliveries that are no longer needed."""
        await self._write([(partition, key, None) for key in keys])

    async def _write(self, records: Sequence[tuple[int, str, bytes | None]]) -> None:
        while records:
            try:
                await self._once(records)
            except (KafkaError, OSError, TimeoutError) as error:
                if not self.failing:
                    log.warning("the journal of deliveries cannot be written; trying again", why=repr(error))
                self.failing = type(error).__name__
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.failing = ""
                return

    async def _once(self, records: Sequence[tuple[int, str, bytes | None]]) -> None:
        if self._producer is None:
            raise RuntimeError("the journal was not started")
        sent = [
            await self._producer.send(self._topic, value, key.encode("utf-8", "replace"), partition)
            for partition, key, value in records
        ]
        await asyncio.gather(*sent)


class JournalReader:
    """Reads the journal of some partitions to its end, and then continues, for requests of `alerts replay`."""

    def __init__(self, options: Mapping[str, Any], topic: str) -> None:
        self._options = {**options, "group_id": None, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
        self._topic = topic

    async def load(
        self, partitions: Iterable[int], on_request: Callable[[AlertDelivery], None] | None = None
    ) -> tuple[list[AlertDelivery], asyncio.Task[None] | None]:
        """Return the deliveries of some partitions, and the task that continues reading.

        Args:
            partitions: the partitions.
            on_request: called with deliveries that are requested again from now on; None: stop at the end.

        Raises:
            KafkaError: Kafka does not answer.
        """
        consumer = AIOKafkaConsumer(**self._options)
        await consumer.start()
        try:
            found = await self._read_to_end(consumer, [TopicPartition(self._topic, each) for each in partitions])
        except BaseException:
            await consumer.stop()
            raise
        if on_request is None:
            await consumer.stop()
            return found, None
        return found, asyncio.create_task(_follow(consumer, on_request))

    async def _read_to_end(self, consumer: AIOKafkaConsumer, tps: list[TopicPartition]) -> list[AlertDelivery]:
        if not tps:
            return []
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        found: dict[tuple[int, bytes], AlertDelivery | None] = {}
        while not all([await consumer.position(tp) >= end for tp, end in ends.items()]):
            for tp, records in (await consumer.getmany(timeout_ms=FETCH_MS)).items():
                found.update({(tp.partition, record.key): _read(record.value) for record in records})
        return [each for each in found.values() if each is not None]


async def _follow(consumer: AIOKafkaConsumer, on_request: Callable[[AlertDelivery], None]) -> None:
    try:
        while True:
            for records in (await consumer.getmany(timeout_ms=FETCH_MS * 5)).values():
                for delivery in filter(None, (_read(record.value) for record in records)):
                    if delivery.requested:
                        on_request(delivery)
    finally:
        await consumer.stop()


def _read(value: bytes | None) -> AlertDelivery | None:
    try:
        return decode(value) if value is not None else None
    except msgspec.MsgspecError as error:
        log.warning("a record of the journal of deliveries is not readable and is skipped", why=str(error))
        return None
