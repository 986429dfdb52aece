"""Incident documents by their offset on the topic: from memory when they were read recently, else read again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Mapping

CAPACITY = 64 << 20
"""Bytes of documents kept in memory."""
FETCH_MS = 500
READ_AHEAD = 500


class Documents:
    """A bounded cache in front of the incidents topic."""

    def __init__(self, options: Mapping[str, Any], topic: str, capacity: int = CAPACITY) -> None:
        self._options = {**options, "group_id": None, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
        self._topic = topic
        self._capacity = capacity
        self._cached: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._size = 0
        self._lock = asyncio.Lock()
        self._consumer: AIOKafkaConsumer | None = None

    def keep(self, partition: int, offset: int, document: bytes) -> None:
        """Keep a document that was read for another reason."""
        if (partition, offset) not in self._cached:
            self._size += len(document)
        self._cached[partition, offset] = document
        while self._size > self._capacity and len(self._cached) > 1:
            self._size -= len(self._cached.popitem(last=False)[1])

    async def get(self, partition: int, offset: int) -> bytes | None:
        """Return a document; None when the topic no longer has it.

        Raises:
            KafkaError: Kafka does not answer.
        """
        if (found := self._find(partition, offset)) is not None:
            return found
        async with self._lock:
            if (found := self._find(partition, offset)) is None:
                found = await self._read(TopicPartition(self._topic, partition), offset)
        return found

    async def close(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await self._consumer.stop()

    def _find(self, partition: int, offset: int) -> bytes | None:
        found = self._cached.get((partition, offset))
        if found is not None:
            self._cached.move_to_end((partition, offset))
        return found

    async def _read(self, tp: TopicPartition, offset: int) -> bytes | None:
        consumer = await self._started()
        consumer.assign([tp])
        begin, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
        if not begin <= offset < end:
            return None
        consumer.seek(tp, offset)
        while await consumer.position(tp) <= offset:
            for record in (await consumer.getmany(timeout_ms=FETCH_MS, max_records=READ_AHEAD)).get(tp, ()):
                self.keep(tp.partition, record.offset, record.value or b"")
        return self._cached.get((tp.partition, offset))

    async def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(**self._options)
            await consumer.start()
            self._consumer = consumer
        return self._consumer
