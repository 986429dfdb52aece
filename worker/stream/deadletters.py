"""Dead letters: read them, and replay them as events once the cause is fixed."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.event import SessionEvent
from schemas.keys import partition_of, user_key
from worker.pipeline.ports import (
    FIELD,
    MESSAGE,
    ORIGIN_OFFSET,
    ORIGIN_PARTITION,
    ORIGIN_TOPIC,
    REASON,
    REPLAYED,
    envelope_headers,
)
from worker.stream.connection import explained

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from schemas.decoding import Decoder
    from worker.settings import TopicSettings

READ_MS = 1_000


class DeadLetter(NamedTuple):
    """A dead letter.

    Attributes:
        partition, offset, time: its position on the dead-letter topic, and its timestamp, milliseconds.
        reason, field, message: why it was rejected.
        origin: topic, partition and offset of the original record.
        headers: the headers of the original record that belong to its content.
    """

    partition: int
    offset: int
    time: int
    reason: str
    field: str
    message: str
    origin: tuple[str, int, int]
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def uid(self) -> str:
        """The id of the dead letter: its partition and offset on the dead-letter topic."""
        return f"{self.partition}:{self.offset}"

    def as_json(self) -> dict[str, Any]:
        """Return everything for JSON, except key and value, which may hold any bytes."""
        topic, partition, offset = self.origin
        return {
            "id": self.uid,
            "time": self.time,
            "reason": self.reason,
            "field": self.field,
            "message": self.message,
            "source": {"topic": topic, "partition": partition, "offset": offset},
            "bytes": len(self.value or b""),
        }


async def letters(options: Mapping[str, Any], topic: str) -> AsyncIterator[DeadLetter]:
    """Yield every dead letter that is on the topic now, partition by partition, in order.

    Raises:
        KafkaError: Kafka cannot be reached.
    """
    reading = AIOKafkaConsumer(**options, auto_offset_reset="earliest", enable_auto_commit=False)
    async with explained(options), reading as consumer:
        await consumer._client.force_metadata_update()  # noqa: SLF001  metadata lacks topics without a subscription
        tps = [TopicPartition(topic, each) for each in sorted(consumer.partitions_for_topic(topic) or ())]
        if not tps:
            return
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        while batches := await consumer.getmany(timeout_ms=READ_MS):
            for records in batches.values():
                for record in records:
                    yield _letter(record)


def _letter(record: Any) -> DeadLetter:
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    origin = headers.get(ORIGIN_TOPIC, ""), _number(headers, ORIGIN_PARTITION), _number(headers, ORIGIN_OFFSET)
    reason, field, message = (headers.get(name, "") for name in (REASON, FIELD, MESSAGE))
    return DeadLetter(
        record.partition, record.offset, record.timestamp, reason, field, message, origin, record.key, record.value,
        envelope_headers(record),
    )  # fmt: skip


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "")
    return int(text) if text.isdigit() else -1


class DeadLetterReplay(NamedTuple):
    """How many dead letters were replayed, and those that still cannot be used."""

    sent: int
    left: list[DeadLetter]


async def replay(
    options: Mapping[str, Any],
    topics: TopicSettings,
    chosen: Iterable[DeadLetter],
    decoder: Decoder,
    by_topic: Mapping[str, Decoder] = MappingProxyType({}),
) -> DeadLetterReplay:
    """Replay dead letters as forwards to their user's partition.

    A row keeps the topic, partition and offset of the original record. A dead letter that is replayed twice, or that is
    on the topic twice after a crash, gives the same row, and its event is judged once.

    Args:
        options: aiokafka connection options.
        topics: names and partitions.
        chosen: the dead letters.
        decoder: decoder of the input topic.
        by_topic: decoders of further input topics.

    Raises:
        KafkaError: Kafka cannot be reached.
    """
    sent, left = 0, []
    async with AIOKafkaProducer(**options, acks="all", linger_ms=5) as producer:
        for letter in chosen:
            if await _send_back(producer, topics, letter, by_topic.get(letter.origin[0], decoder)):
                sent += 1
            else:
                left.append(letter)
        await producer.flush()
    return DeadLetterReplay(sent, left)


async def _send_back(producer: AIOKafkaProducer, topics: TopicSettings, letter: DeadLetter, decoder: Decoder) -> bool:
    """Send a dead letter where its record would have gone; return False when it still cannot be used."""
    if letter.origin[0] == topics.feedback:
        await producer.send(topics.feedback, letter.value, letter.key, timestamp_ms=letter.time)
        return True
    event = decoder.decode(letter.value, letter.time, letter.headers)
    if not isinstance(event, SessionEvent):
        return False
    key = user_key(event.tenant_id, event.user_id)
    partition, headers = partition_of(key, topics.partitions), _origin_headers(letter, topics.dlq)
    await producer.send(topics.by_user, letter.value, key, partition, letter.time, headers)
    return True


def _origin_headers(letter: DeadLetter, dlq: str) -> list[tuple[str, bytes]]:
    """Return the origin headers of a forward; the dead letter itself is the origin when its headers name none."""
    topic, partition, offset = letter.origin
    if not topic or partition < 0 or offset < 0:
        topic, partition, offset = dlq, letter.partition, letter.offset
    place = (ORIGIN_TOPIC, topic), (ORIGIN_PARTITION, partition), (ORIGIN_OFFSET, offset), (REPLAYED, 1)
    return [*((name, str(value).encode()) for name, value in place), *letter.headers]
