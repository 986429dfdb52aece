"""Publishes messages and writes states to Kafka. A call returns when the brokers have everything.

Both writers build record batches themselves (`create_batch`, `send_batch`), because one `send` a record costs
20-30 µs in aiokafka, and a record in a batch about 1 µs. A topic-partition has one batch in flight at a time, so that
retries keep the order. Kafka's errors are retried without end; memory during an outage is bounded by the back-pressure
of `worker.stream.delivery`, which accepts nothing more while a call has not returned.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    IncompatibleBrokerVersion,
    InvalidProducerEpoch,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    UnknownError,
    UnsupportedVersionError,
)
from mode import get_logger

from schemas.keys import partition_of
from worker.pipeline.ports import Message
from worker.stream.delivery import AbandonedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

log = get_logger(__name__)

BATCH_BYTES = 512 << 10
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
TRUNCATED = "sw-truncated"
FENCE_MARKER = b""
"""Key of the changelog records that mark the start of a new owner."""
NO_IDEMPOTENCE = (UnknownError, IncompatibleBrokerVersion, UnsupportedVersionError, ClusterAuthorizationFailedError)
FENCED = (ProducerFenced, InvalidProducerEpoch)
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


@lru_cache(maxsize=1)
def _tell_once(error: str) -> None:
    """Log the message once per process, which has many producers."""
    log.info("This broker has no idempotent producers; continuing without them: %s", error)


class StateTooLargeError(Exception):
    """A state exceeds the size that the changelog topic accepts."""


def _place_of(key: bytes, partitions: int) -> int:
    """Return the partition of a message. Keys that begin with a slash are internal: they use CRC-32, which is fast.

    >>> _place_of(b"acme/u1", 4) == partition_of(b"acme/u1", 4)
    True
    """
    return crc32(key) % partitions if key.startswith(b"/") else partition_of(key, partitions)


class RecoveringProducer:
    """An aiokafka producer that is replaced when it fails for good.

    aiokafka gives up a producer after errors such as an unexpected sequence number; its replacement has a new producer
    id. The producer is idempotent (the broker drops batches that aiokafka's retries repeat) unless the broker does not
    support it, as Tansu does not.

    Args:
        options: aiokafka connection options.
        fencing_id: transactional id; brokers refuse what older producers of this id still send. See `ChangelogWriter`.
    """

    def __init__(self, options: Mapping[str, Any], *, fencing_id: str | None = None) -> None:
        self._options = {
            **options,
            "acks": "all",
            "enable_idempotence": True,
            "transactional_id": fencing_id,
            "max_batch_size": BATCH_BYTES,
            # Batches are built whole; one record alone may be larger than the batch size.
            "max_request_size": 64 << 20,
        }
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()
        self._met = False

    async def start(self) -> AIOKafkaProducer:
        """Return the running producer; start or replace it if necessary."""
        async with self._lock:
            if self._producer is not None and self._is_dead(self._producer):
                await self.abort()
            if self._producer is None:
                self._producer = await self._connect()
            return self._producer

    async def _connect(self) -> AIOKafkaProducer:
        if self._met:
            return await self._new()
        try:
            with _without_its_error_lines("aiokafka.producer.sender"):
                producer = await self._new()
        except NO_IDEMPOTENCE as error:
            _tell_once(repr(error))
            self._options |= {"enable_idempotence": False, "transactional_id": None}
            producer = await self._new()
        self._met = True
        return producer

    async def _new(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**self._options)
        try:
            await producer.start()
        except BaseException:
            await _kill(producer)
            raise
        if producer._txn_manager is not None:  # noqa: SLF001
            # From here on it is a plain idempotent producer with the epoch raised at its start.
            producer._txn_manager.transactional_id = None  # noqa: SLF001
        return producer

    @staticmethod
    def _is_dead(producer: AIOKafkaProducer) -> bool:
        task = producer._sender.sender_task  # noqa: SLF001  aiokafka does not tell
        return task is None or task.done()

    async def abort(self) -> None:
        """Drop the connection with everything unsent in it; the next use makes a new producer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _kill(producer)

    async def send(self, producer: AIOKafkaProducer, topic: str, partition: int, batch: Any) -> int:
        """Send one batch and return the offset of its first record when it is durable.

        After an error the producer is replaced: the failed batch has consumed sequence numbers, and brokers refuse the
        batch after a gap.
        """
        try:
            metadata = await (await producer.send_batch(batch, topic, partition=partition))
        except KafkaError:
            if self._producer is producer:
                await self.abort()
            raise
        return int(metadata.offset)

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of a topic."""
        producer = await self.start()
        return len(await producer.partitions_for(topic))


@contextmanager
def _without_its_error_lines(logger: str) -> Iterator[None]:
    """Suppress the library's log line of an error that is expected and handled."""

    def is_less(entry: logging.LogRecord) -> bool:
        return entry.levelno < logging.ERROR

    logging.getLogger(logger).addFilter(is_less)
    try:
        yield
    finally:
        logging.getLogger(logger).removeFilter(is_less)


async def _kill(producer: AIOKafkaProducer) -> None:
    """Close a producer without waiting for what it has not sent."""
    producer._closed = True  # noqa: SLF001  aiokafka's stop() waits for a broker that may be unavailable
    task = producer._sender.sender_task  # noqa: SLF001
    await producer.client.close()
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1)
    producer._message_accumulator.fail_all(KafkaError("producer aborted"))  # noqa: SLF001


class _Sequence:
    """Sends entries to one topic-partition, in order, in as few batches as possible."""

    def __init__(self, producer: RecoveringProducer, topic: str, partition: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = partition

    async def send(self, entries: Sequence[Message], may_send: Callable[[], Awaitable[None]] | None) -> tuple[int, int]:
        """Send entries and return the offsets of the first and the last; retry on errors.

        Raises:
            MessageSizeTooLargeError: the broker rejects a batch because of its size; the batches before it are durable.
        """
        first = last = -1
        while entries:
            offset, count = await self._send_some(entries, may_send)
            first, last = (offset if first < 0 else first), offset + count - 1
            entries = entries[count:]
        return first, last

    async def _send_some(
        self, entries: Sequence[Message], may_send: Callable[[], Awaitable[None]] | None
    ) -> tuple[int, int]:
        attempt = 0
        while True:
            try:
                if may_send is not None:
                    # Before starting, which takes the partition, and after, because starting may have taken long.
                    await may_send()
                producer = await self._producer.start()
                batch, count = _batch_of(producer, entries)
                if may_send is not None:
                    await may_send()
                return await self._producer.send(producer, self._topic, self._partition, batch), count
            except FENCED:
                raise
            except TOO_LARGE:
                if count == 1:
                    raise
                entries = entries[: count // 2]
            except (KafkaError, OSError, AssertionError) as error:
                # aiokafka asserts that a partition is in its metadata, which a topic being created may not be.
                await _wait_before_retry(attempt, f"{self._topic}[{self._partition}]", error)
                attempt += 1


def _batch_of(producer: AIOKafkaProducer, entries: Sequence[Message]) -> tuple[Any, int]:
    batch = producer.create_batch()
    append = batch.append
    count = 0
    for entry in entries:
        headers = list(entry.headers)
        if append(timestamp=entry.timestamp, key=entry.key, value=entry.value, headers=headers) is None:
            break
        count += 1
    batch.close()
    return batch, count


async def _wait_before_retry(attempt: int, what: str, error: BaseException) -> None:
    delay = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
    log.warning("Sending to %s failed; retrying in %s s: %r", what, delay, error)
    await asyncio.sleep(delay)


class Publisher:
    """Publishes messages; each is partitioned by its key unless it names its partition.

    A message that is too large for the broker is published without its value and with the header `sw-truncated`, the
    value's size in bytes, so that one record cannot stop a partition.

    Args:
        options: aiokafka connection options.
        on_oversize: called with topic and size when a value was dropped.

    Attributes:
        last: (topic, partition) -> offset of the last message published there.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        *,
        on_oversize: Callable[[str, int], None] | None = None,
    ) -> None:
        self._producer = RecoveringProducer(options)
        self._on_oversize = on_oversize or (lambda _topic, _size: None)
        self._partitions: dict[str, int] = {}
        self._spread = 0
        self.last: dict[tuple[str, int], int] = {}

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaError: no broker is reached.
        """
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnect; messages of a `publish` that has not returned may or may not be durable."""
        await self._producer.abort()

    async def publish(self, messages: Iterable[Message]) -> None:
        """Return when all messages are durable, in their order within each topic-partition."""
        by_partition = await self._by_partition(messages)
        if len(by_partition) == 1:
            await self._send(*by_partition.popitem())
        elif by_partition:
            async with asyncio.TaskGroup() as group:
                for target, entries in by_partition.items():
                    group.create_task(self._send(target, entries))

    async def _by_partition(self, messages: Iterable[Message]) -> dict[tuple[str, int], list[Message]]:
        targets: defaultdict[tuple[str, int], list[Message]] = defaultdict(list)
        self._spread += 1
        for message in messages:
            partition = message.partition
            if partition is None:
                count = self._partitions.get(message.topic) or await self._count(message.topic)
                partition = self._spread % count if message.key is None else _place_of(message.key, count)
            targets[message.topic, partition].append(message)
        return dict(targets)

    async def _count(self, topic: str) -> int:
        attempt = 0
        while True:
            try:
                self._partitions[topic] = await self._producer.partitions(topic)
            except (KafkaError, OSError) as error:
                await _wait_before_retry(attempt, topic, error)
                attempt += 1
            else:
                return self._partitions[topic]

    async def _send(self, target: tuple[str, int], messages: list[Message]) -> None:
        sequence = _Sequence(self._producer, *target)
        try:
            _, self.last[target] = await sequence.send(messages, None)
        except TOO_LARGE:
            # Sending each message alone finds the one that is too large; those already sent are repeated with the same
            # ids.
            for message in messages:
                self.last[target] = await self._send_one(sequence, message)

    async def _send_one(self, sequence: _Sequence, message: Message) -> int:
        try:
            return (await sequence.send([message], None))[1]
        except TOO_LARGE:
            size = len(message.value or b"")
            log.warning("A message of %s bytes is too large for %s: published without its value", size, message.topic)
            self._on_oversize(message.topic, size)
            headers = (*message.headers, (TRUNCATED, str(size).encode()))
            # A message needs a key or a value, and an empty value is no tombstone.
            return (await sequence.send([message._replace(value=b"", headers=headers)], None))[1]


class ChangelogWriter:
    """Writes states to the changelog, partition by partition, as their only writer.

    Each partition has its own producer, named after group and partition. Taking a partition makes the broker raise the
    epoch of that producer, and then appends a fence marker (a record with an empty key). From then on the partition's
    leader refuses everything an earlier owner still sends: a worker that was frozen, partitioned from the network, or
    slow to notice that it lost the partition. Recovery reads up to the marker, so it sees everything that was written.
    The records are not transactional; only the fencing of transactional producers is used.

    Guaranteed: states of one partition are appended in the order of the calls, once each; when `write` returns they are
    on all in-sync replicas; `may_send` is awaited right before each batch is handed to the producer; after another
    worker took the partition, nothing from this one is appended.

    Not guaranteed: a broker without idempotent producers (Tansu) does not fence. There only `may_send` protects: if the
    process is frozen after it, the batch is appended when the process wakes, and the keys in it would be recovered with
    an old state unless their new owner writes them again. Rows and findings are not affected.

    Args:
        options: aiokafka connection options. With ACLs, the principal needs to write to the transactional ids
            that begin with `name`.
        topic: the changelog; it has the input's partition numbers.
        name: prefix of the transactional ids, the same for all workers of the group.
    """

    def __init__(self, options: Mapping[str, Any], topic: str, name: str) -> None:
        self._options = options
        self._topic = topic
        self._name = name
        self._producers: dict[int, RecoveringProducer] = {}
        self._marks: dict[int, int] = {}
        self._taking: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._closing: set[asyncio.Task[None]] = set()

    async def take(self, partition: int) -> int:
        """Become the only writer of a partition, unless it already is; return the offset of the fence marker."""
        # A cancelled take may still hold the producer.
        async with self._taking[partition]:
            if partition not in self._producers:
                await self._take(partition)
            return self._marks[partition]

    async def _take(self, partition: int) -> None:
        producer = RecoveringProducer(self._options, fencing_id=f"{self._name}-{partition}")
        self._producers[partition] = producer
        try:
            sequence = _Sequence(producer, self._topic, partition)
            _, self._marks[partition] = await sequence.send([Message(self._topic, FENCE_MARKER, b"")], None)
        except BaseException:
            await self.release(partition)
            raise

    def discard(self, partition: int) -> None:
        """Start what `release` does, without waiting for it."""
        producer = self._producers.pop(partition, None)
        if producer is not None:
            task = asyncio.create_task(producer.abort())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def release(self, partition: int) -> None:
        """Drop the producer of a partition with everything unsent in it."""
        self.discard(partition)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def stop(self) -> None:
        """Release all partitions."""
        for partition in list(self._producers):
            self.discard(partition)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def write(
        self,
        partition: int,
        states: Mapping[bytes, bytes | None],
        may_send: Callable[[], Awaitable[None]],
    ) -> tuple[int, int]:
        """Return the offsets of the first and the last state when all are durable.

        Args:
            partition: a partition that was taken.
            states: newest state per key; None deletes.
            may_send: awaited right before each attempt to send; raises when the partition is no longer ours.

        Raises:
            AbandonedError: another worker has taken the partition.
            StateTooLargeError: a single state exceeds what the topic takes.
        """
        entries = [Message(self._topic, key, state) for key, state in states.items()]
        sequence = _Sequence(self._producers[partition], self._topic, partition)
        try:
            return await sequence.send(entries, may_send)
        except FENCED as error:
            raise AbandonedError(f"another worker writes the changelog of partition {partition}") from error
        except TOO_LARGE as error:
            raise StateTooLargeError(f"a state is too large for {self._topic}: raise its max.message.bytes") from error
