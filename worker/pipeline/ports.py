"""The interface between the pure core and the stream layer.

The stream layer uses these types and does not know detections; the pipeline does not know Kafka or ClickHouse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec
import orjson

from schemas.finding import Finding
from schemas.incident import Incident

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.event import SessionEvent
    from worker.sessions.state import User

    Origin = tuple[str, int, int]
    """Topic, partition and offset a record first came from."""

ORIGIN_TOPIC, ORIGIN_PARTITION, ORIGIN_OFFSET = "sw-topic", "sw-partition", "sw-offset"
REPLAYED = "sw-replayed"
"""On a forward: it was a dead letter, so its origin's offset does not tell what was applied."""
AHEAD = "sw-ahead"
"""On a forward: milliseconds by which the record's timestamp was ahead of the first reader's clock."""
OWNER = "sw-owner"
"""On a forward: tenant and user, as a JSON array, of a deletion that names its row's key alone."""
REASON, MESSAGE, FIELD = "sw-reason", "sw-message", "sw-field"


class Record(Protocol):
    """One Kafka record as consumed (aiokafka's `ConsumerRecord` is one). `timestamp` is in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class PlacedEvent(NamedTuple):
    """An event with the state it belongs to.

    Attributes:
        key: key of the user's state.
        origin: topic, partition and offset of the original record, before it was forwarded.
    """

    record: Record
    event: SessionEvent
    key: bytes
    user: User
    origin: Origin


class LocalRecord(msgspec.Struct):
    """A record that does not come from a consumer."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class AheadRecord(LocalRecord):
    """A record whose timestamp was ahead of the worker's clock when it arrived.

    The stream layer creates it. The pipeline does not apply it: it forwards it with the time of arrival as its
    timestamp, and applies the forward. So the time of arrival is durable before anything depends on it, and a second
    computation after a crash gives the same result.

    Attributes:
        timestamp: time of arrival, milliseconds.
        ahead: milliseconds by which its own timestamp was later.
    """

    ahead: int


def arrived(records: Sequence[Record], now: int, tolerance: int) -> Sequence[Record]:
    """Return records that arrived at `now`; those with a later timestamp become `AheadRecord`s."""
    latest = now + tolerance
    if max([record.timestamp for record in records], default=0) <= latest:
        return records
    return [_ahead(record, now) if record.timestamp > latest else record for record in records]


def _ahead(record: Record, now: int) -> AheadRecord:
    place = record.topic, record.partition, record.offset
    return AheadRecord(*place, now, record.key, record.value, record.headers, record.timestamp - now)


def ahead_of(record: Record) -> int:
    """Return the milliseconds by which a forwarded record's own timestamp was ahead of its arrival, or 0."""
    text = next((value for name, value in record.headers if name == AHEAD), b"")
    return int(text[:16]) if text.isdigit() else 0


def owner_of(record: Record) -> tuple[str, str] | None:
    """Return the tenant and user that a forward names beside its record; None when it names none."""
    text = next((value for name, value in record.headers if name == OWNER), b"")
    try:
        tenant_id, user_id = orjson.loads(text)
    except (ValueError, TypeError):
        return None
    return str(tenant_id), str(user_id)


def owner_header(tenant_id: str, user_id: str) -> tuple[str, bytes]:
    """Return the header that names the tenant and user of a record which does not."""
    return OWNER, orjson.dumps([tenant_id, user_id])


def first_topic(record: Record) -> str:
    """Return the topic on which a record first arrived: of a forward, the one that its headers name."""
    origin = next((value for name, value in record.headers if name == ORIGIN_TOPIC), None)
    return record.topic if origin is None else origin.decode(errors="replace")


class Message(NamedTuple):
    """One Kafka message to publish. `partition` None: by the key; `timestamp` None: the broker's clock."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None
    timestamp: int | None = None


def envelope_headers(record: Record) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that belong to a record's content: the attributes of a CloudEvent in binary mode."""
    return tuple((name, value) for name, value in record.headers if name[:3].lower() == "ce_")


def dead_letter(topic: str, record: Record, reason: str, message: str, field: str = "") -> Message:
    """Return a record that cannot be used as a message for the dead-letter topic.

    Args:
        topic: the dead-letter topic.
        record: the consumed record; key and value are kept.
        reason: the kind of error.
        message: what is wrong, for people.
        field: path of the invalid field.
    """
    error = (REASON, reason), (FIELD, field), (MESSAGE, message)
    origin = (ORIGIN_TOPIC, record.topic), (ORIGIN_PARTITION, record.partition), (ORIGIN_OFFSET, record.offset)
    headers = (*((name, str(value).encode()) for name, value in (*error, *origin)), *envelope_headers(record))
    return Message(topic, record.key, record.value, headers, timestamp=record.timestamp)


class BatchResult(msgspec.Struct):
    """The result of one batch of one partition.

    Attributes:
        messages: findings, dead letters and forwarded records, to be published before anything is committed.
        rows: table name -> rows in ClickHouse's MsgPack format, columns in the order of `schemas.clickhouse.tables`.
        findings: every new state of a finding, for observers.
        incidents: every new state of an incident, for observers.
        record_time: timestamp of the oldest record in it, milliseconds; 0 when there is none.
        states: the new state of each changed key; None is a deletion. The shard has them already.
        counters: counts by metric key (`("records",)`, `("rejected", "invalid-json")`, …).
    """

    messages: list[Message] = msgspec.field(default_factory=list)
    rows: dict[str, list[bytes]] = msgspec.field(default_factory=dict)
    findings: list[Finding] = msgspec.field(default_factory=list)
    incidents: list[Incident] = msgspec.field(default_factory=list)
    record_time: int = 0
    states: dict[bytes, bytes | None] = msgspec.field(default_factory=dict)
    counters: Counter[tuple[str, ...]] = msgspec.field(default_factory=Counter)

    def add(self, other: BatchResult) -> None:
        """Add the result of another part of the same batch."""
        self.messages += other.messages
        self.findings += other.findings
        self.incidents += other.incidents
        self.record_time = min(filter(None, (self.record_time, other.record_time)), default=0)
        self.states.update(other.states)
        self.counters.update(other.counters)
        for table, rows in other.rows.items():
            self.rows.setdefault(table, []).extend(rows)


class Shard(Protocol):
    """The state of one partition: key -> bytes."""

    def get(self, key: bytes) -> bytes | None:
        """Return the newest state of a key, None when there is none."""

    def put(self, key: bytes, state: bytes | None) -> None:
        """Set (or with None delete) the state of a key."""

    def pop_due(self, now: int) -> Iterable[bytes]:
        """Return and remove the keys whose timer time (milliseconds, in the state's header) is not after `now`."""

    def __len__(self) -> int:
        """Count the keys."""


class Processor(Protocol):
    """The pure core, as the stream layer uses it. Neither method does I/O or reads a clock."""

    def process(self, partition: int, records: Sequence[Record], shard: Shard) -> BatchResult:
        """Apply records of one topic-partition, in their order, to the shard of that partition number."""

    def fire_timers(self, partition: int, now: int, shard: Shard) -> BatchResult:
        """Fire the timers that are due at `now`: end expired sessions, delete state that is not needed any more."""
