"""The dead letters: read, and put back on the way of an event once what was wrong is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.event import SessionEvent
from schemas.inbound import decode
from schemas.keys import user_key
from worker.outcome import ERROR, FIELD, ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TOPIC, REASON, REPLAYED
from worker.stream.publisher import partition_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from worker.stream.topics import TopicSettings

READ_MS = 1_000


class Letter(NamedTuple):
    """A dead letter.

    Attributes:
        partition, offset, time: where it lies on the topic of dead letters, and its timestamp, milliseconds.
        error, field, reason: what was wrong with it.
        source: topic, partition and offset it came from.
    """

    partition: int
    offset: int
    time: int
    error: str
    field: str
    reason: str
    source: tuple[str, int, int]
    key: bytes | None
    value: bytes | None

    def as_json(self) -> dict[str, Any]:
        """Return all but key and value, which may be anything."""
        topic, partition, offset = self.source
        return {
            "id": f"{self.partition}:{self.offset}",
            "time": self.time,
            "error": self.error,
            "field": self.field,
            "reason": self.reason,
            "source": {"topic": topic, "partition": partition, "offset": offset},
            "bytes": len(self.value or b""),
        }


async def letters(options: Mapping[str, Any], topic: str) -> AsyncIterator[Letter]:
    """Yield every letter there is now, partition by partition in its order.

    Raises:
        KafkaError: Kafka is not reached.
    """
    async with AIOKafkaConsumer(**options, auto_offset_reset="earliest", enable_auto_commit=False) as consumer:
        await consumer._client.force_metadata_update()  # noqa: SLF001  what nobody subscribes to is not known of
        tps = [TopicPartition(topic, each) for each in sorted(consumer.partitions_for_topic(topic) or ())]
        if not tps:
            return
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        while batches := await consumer.getmany(timeout_ms=READ_MS):
            for records in batches.values():
                for record in records:
                    yield _letter(record)


def _letter(record: Any) -> Letter:
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    source = headers.get(ORIGIN_TOPIC, ""), _number(headers, ORIGIN_PARTITION), _number(headers, ORIGIN_OFFSET)
    error, field, reason = (headers.get(name, "") for name in (ERROR, FIELD, REASON))
    return Letter(
        record.partition, record.offset, record.timestamp, error, field, reason, source, record.key, record.value
    )


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "")
    return int(text) if text.isdigit() else -1


class Replayed(NamedTuple):
    """What came of a replay: how many letters went back, and those that still cannot be used."""

    sent: int
    left: list[Letter]


async def replay(
    options: Mapping[str, Any], topics: TopicSettings, chosen: Iterable[Letter], max_bytes: int
) -> Replayed:
    """Put letters back on the way, as forwards to their user's partition.

    Rows are named after the record a letter is of, as if it had been taken at first: replayed twice, or lying there
    twice after a crash, it gives the same row, and an event applied twice is judged once.

    Args:
        options: aiokafka connection options.
        topics: names and partitions.
        chosen: the letters.
        max_bytes: longer ones still cannot be used.

    Raises:
        KafkaError: Kafka is not reached.
    """
    sent, left = 0, []
    async with AIOKafkaProducer(**options, acks="all", linger_ms=5) as producer:
        for letter in chosen:
            if letter.source[0] == topics.feedback:
                await producer.send(topics.feedback, letter.value, letter.key, timestamp_ms=letter.time)
            elif (event := decode(letter.value, record_time=letter.time, max_bytes=max_bytes)) and isinstance(
                event, SessionEvent
            ):
                key = user_key(event.tenant_id, event.user_id)
                partition, headers = partition_of(key, topics.partitions), _whence(letter, topics.dlq)
                await producer.send(topics.by_user, letter.value, key, partition, letter.time, headers)
            else:
                left.append(letter)
                continue
            sent += 1
        await producer.flush()
    return Replayed(sent, left)


def _whence(letter: Letter, dlq: str) -> list[tuple[str, bytes]]:
    """Return the headers of a forward that say where it comes from: its letter when that does not say."""
    topic, partition, offset = letter.source
    if not topic or partition < 0 or offset < 0:
        topic, partition, offset = dlq, letter.partition, letter.offset
    place = (ORIGIN_TOPIC, topic), (ORIGIN_PARTITION, partition), (ORIGIN_OFFSET, offset), (REPLAYED, 1)
    return [(name, str(value).encode()) for name, value in place]
