"""The pure core: (records of one topic-partition, state) -> rows, findings, dead letters, forwards, new state.

It does no I/O and reads no clock. The result depends only on the records and the state, not on how the records were
divided into batches: a batch that is computed twice gives the same rows and findings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from schemas.decoding import Ignored, Rejected, RejectReason
from schemas.event import EventKind, SessionEvent, Shape
from schemas.keys import user_key
from schemas.sources import source_number
from worker.pipeline.correlation import MAX_STARTS, CorrelationStage, announcements, deed_message, start_of
from worker.pipeline.feedback import process_feedback
from worker.pipeline.findings import Cause, FindingCollector
from worker.pipeline.incidents import INCIDENT_PREFIX, IncidentStage, split_feedback
from worker.pipeline.ports import (
    AHEAD,
    ORIGIN_OFFSET,
    ORIGIN_PARTITION,
    ORIGIN_TOPIC,
    REPLAYED,
    AheadRecord,
    BatchResult,
    Message,
    PlacedEvent,
    ahead_of,
    dead_letter,
    envelope_headers,
    owner_header,
    owner_of,
)
from worker.pipeline.rows import event_row, session_row
from worker.sessions.announcements import Deed
from worker.sessions.budget import is_budget
from worker.sessions.correlation import is_correlation
from worker.sessions.incidents import IncidentLimits
from worker.sessions.reorder import ROUTINE, apply, expired, is_forgotten, next_timer
from worker.sessions.row_owners import RowOwner, decode_row_owner, is_row_owner, renewed, row_owner_key
from worker.sessions.state import Contexts, decode_user, encode_user, new_user

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schemas.decoding.results import DeletedRow
    from schemas.policy import TenantPolicy
    from worker.enrich.model import Device, Enrichment
    from worker.pipeline.ports import Origin, Record, Shard
    from worker.pipeline.privacy import Pseudonyms
    from worker.pipeline.readers import EventReader
    from worker.sessions.contracts import RuleEngine
    from worker.sessions.limits import Limits
    from worker.sessions.reorder import Applied, FindingChange, StartedSession
    from worker.sessions.state import Context, User

CACHE_BLOCK_RECORDS = 200
"""Records that are decoded, applied and encoded together, so that their data stays in the processor's caches. With
2,000 at a time, a record took 40% longer."""
_WITHOUT_ACTIVITY = (EventKind.CHANGED, EventKind.DELETED)
"""Kinds of events that are not a use of the session, and therefore complete without a time of use."""
EVENTS, SESSIONS, FINDINGS = "session_events", "sessions", "findings"


class Topics(Protocol):
    """The names of the topics that the pipeline writes to."""

    events: str
    by_user: str
    starts: str
    dlq: str
    findings: str
    incidents: str
    feedback: str


def origin_of(record: Record, by_user: str) -> Origin | None:
    """Return topic, partition and offset of the original record, before it was forwarded.

    None: the record is on the topic of forwards, and its headers do not name its origin.
    """
    if record.topic != by_user:
        return record.topic, record.partition, record.offset
    headers = dict(record.headers)
    try:
        return (
            headers[ORIGIN_TOPIC].decode(),
            int(headers[ORIGIN_PARTITION]),
            int(headers[ORIGIN_OFFSET]),
        )
    except (KeyError, ValueError):
        return None


def is_replayed(record: Record, by_user: str) -> bool:
    """Return whether a record is a replayed dead letter."""
    return record.topic == by_user and any(name == REPLAYED for name, _ in record.headers)


NO_ORIGIN = Rejected(
    RejectReason.MISSING_FIELD,
    f"headers.{ORIGIN_TOPIC}",
    "a forwarded record must name its origin in its headers",
)


class Pipeline:
    """Applies records to state; the port it implements is `worker.pipeline.ports.Processor`.

    Args:
        reader: decodes and enriches records.
        engine_for: returns the rule engine of a tenant.
        topics: the topics of findings, forwards, session starts and dead letters.
        partition_of: returns the partition of a key, by Kafka's default partitioner.
        limits: limits of the state.
        incidents: limits of incidents.
        max_bytes: a longer feedback record is rejected without being parsed.
        pseudonyms: replaces user ids and addresses in state and output; None: nothing is replaced.
        operator: tenant of findings about uids in several tenants; empty: uids of two tenants are not compared.
    """

    def __init__(
        self,
        *,
        reader: EventReader,
        engine_for: Callable[[str], RuleEngine],
        topics: Topics,
        partition_of: Callable[[bytes], int],
        limits: Limits,
        incidents: IncidentLimits | None = None,
        max_bytes: int = 1 << 20,
        pseudonyms: Pseudonyms | None = None,
        operator: str = "",
    ) -> None:
        self.reader = reader
        self.engine_for = engine_for
        self.topics = topics
        self.partition_of = partition_of
        self.limits = limits
        self.pseudonyms = pseudonyms
        self._max_bytes = max_bytes
        self.operator = operator
        incidents = incidents or IncidentLimits()
        self.quiet = incidents.quiet
        self._correlation = CorrelationStage(engine_for, topics.findings, limits, operator, incidents.quiet)
        self._incidents = IncidentStage(topics.incidents, incidents)

    def process(self, partition: int, records: Sequence[Record], shard: Shard) -> BatchResult:
        """Apply records of one topic-partition, in their order, to the shard of that partition number."""
        later = self._process_later_stage(records, shard) if records else None
        if later is not None:
            return later
        batch = _Batch(self, partition, shard)
        for start in range(0, len(records), CACHE_BLOCK_RECORDS):
            batch.add(records[start : start + CACHE_BLOCK_RECORDS])
        result = batch.finish()
        result.record_time = records[0].timestamp if records else 0
        return result

    def _process_later_stage(self, records: Sequence[Record], shard: Shard) -> BatchResult | None:
        """Apply records of a later stage; return None when the records are events."""
        topic = records[0].topic
        if topic == self.topics.findings:
            return self._incidents.process(records, shard)
        if topic == self.topics.starts:
            starts, feedback = split_feedback(records)
            result = self._correlation.process(starts, shard)
            if feedback:
                result.add(self._incidents.process(feedback, shard))
            return result
        if topic == self.topics.feedback:
            return process_feedback(records, self.topics, self.partition_of, self._max_bytes)
        return None

    def fire_timers(self, partition: int, now: int, shard: Shard) -> BatchResult:
        """End sessions that expired by `now` and resolve quiet incidents; delete users that have been idle for long."""
        batch, quiet = _Batch(self, partition, shard), []
        for key in shard.pop_due(now):
            if key.startswith(INCIDENT_PREFIX):
                quiet.append(key)
            else:
                batch.on_timer(key, now)
        result = batch.finish()
        if quiet:
            result.add(self._incidents.advance(quiet, now, shard))
        return result


class _Batch:
    """One batch. The shard is not changed before `finish`, after everything that can fail."""

    def __init__(self, pipeline: Pipeline, partition: int, shard: Shard) -> None:
        self._reader = pipeline.reader
        self._engine_for = pipeline.engine_for
        self._topics = pipeline.topics
        self._partition_of = pipeline.partition_of
        self._limits = pipeline.limits
        self._pseudonyms = pipeline.pseudonyms
        # Other states than those of pseudonyms must not name users.
        self._knows_rows = pipeline.pseudonyms is None or not pipeline.pseudonyms.are_of_users
        self._operator = pipeline.operator
        self._partition = partition
        self._shard = shard
        self._users: dict[bytes, User | None] = {}
        self._states: dict[bytes, bytes | None] = {}
        self._erased: set[bytes] = set()
        self._session_rows: dict[tuple[bytes, str], bytes] = {}
        self._event_rows: list[bytes] = []
        self._routine = 0
        self._result = BatchResult()
        self._count = self._result.counters
        self._findings = FindingCollector(self._result, self._topics.findings, self._engine_for, shard, pipeline.quiet)

    def add(self, records: Sequence[Record]) -> None:
        """Apply some records in order, step by step: the code of each step then stays in the processor's caches."""
        decode, enrich = self._reader.decode, self._reader.enrich
        decoded = [decode(record) for record in records]
        placed = [each for pair in zip(records, decoded, strict=True) if (each := self._place(*pair)) is not None]
        enriched = [enrich(each.record, each.event) for each in placed]
        for each, known in zip(placed, enriched, strict=True):
            self._apply(each, known)
        self._encode_users()

    def on_timer(self, key: bytes, now: int) -> None:
        """End a user's expired sessions, or delete the user."""
        state = self._shard.get(key)
        if state is None:
            return
        if is_correlation(state) or is_budget(state) or is_row_owner(state):
            self._states[key] = None
            return
        user = decode_user(state)
        for uid in expired(user, now, self._limits):
            session = user.current.sessions[uid]
            self._session_rows[key, uid] = session_row(user, uid, session, self._limits, by_timer=True)
            self._count["expired",] += 1
        self._users[key] = None if is_forgotten(user, now, self._limits) else user

    def finish(self) -> BatchResult:
        """Write the new states to the shard, and return the result."""
        self._encode_users()
        if self._routine:
            self._count["accepted",] += self._routine
        for key, state in self._states.items():
            self._shard.put(key, state)
        self._result.states.update(self._states)
        self._findings.settle()
        tables = {
            EVENTS: self._event_rows,
            SESSIONS: list(self._session_rows.values()),
            FINDINGS: self._findings.rows(),
        }
        self._result.rows.update({table: rows for table, rows in tables.items() if rows})
        return self._result

    def _encode_users(self) -> None:
        """Encode the users that were changed so far."""
        limits = self._limits
        for key, user in self._users.items():
            self._states[key] = None if user is None else encode_user(user, next_timer(user, limits))
        self._users.clear()

    def _place(self, record: Record, result: SessionEvent | Ignored | Rejected) -> PlacedEvent | None:
        """Find the state of an event's user; return None when there is nothing to apply here."""
        if not isinstance(result, SessionEvent):
            self._handle_no_event(record, result)
            return None
        origin = origin_of(record, self._topics.by_user)
        if origin is None:
            self._reject(record, NO_ORIGIN)
            return None
        # Producers know only the user's own id, so it determines the partition with pseudonyms as well.
        home = key = user_key(result.tenant_id, result.user_id)
        if result.shape == Shape.DEBEZIUM and self._knows_rows and record.topic != self._topics.by_user:
            self._remember_row(record.topic, result)
        if self._pseudonyms is not None:
            result = self._pseudonyms.renamed(result)
            key = user_key(result.tenant_id, result.user_id)
        if isinstance(record, AheadRecord):
            self._count["clamped",] += 1
            self._forward(record, home, origin)
            return None
        user = self._users.get(key) or self._load(key, home, result)
        if user is None:
            self._forward(record, home, origin)
            return None
        if self._is_repeated(record, user, origin):
            self._count["deduplicated",] += 1
            return None
        self._users[key] = user
        return PlacedEvent(record, result, key, user, origin)

    def _is_repeated(self, record: Record, user: User, origin: Origin) -> bool:
        """Return whether a record was applied before; if not, store its offset."""
        # Replayed dead letters come in any order. One that comes twice is a duplicate event with the same row.
        if not self._reader.may_repeat or is_replayed(record, self._topics.by_user):
            return False
        way = origin[1] if origin[0] == self._topics.events else source_number(origin[0], origin[1])
        if record.topic == self._topics.by_user and (ahead_of(record) or owner_of(record)):
            # They take another way than the other records of their partition, and have an order of their own.
            way = -1 - way
        if user.offsets.get(way, -1) >= origin[2]:
            return True
        user.offsets[way] = origin[2]
        return False

    def _handle_no_event(self, record: Record, result: Ignored | Rejected) -> None:
        if record.value is None and record.key and record.topic == self._topics.by_user:
            self._erase(record.key)
        elif isinstance(result, Ignored):
            self._count["ignored", result.reason] += 1
        elif result.row is None or not self._forward_deletion(record, result.row):
            self._reject(record, result)

    def _remember_row(self, topic: str, event: SessionEvent) -> None:
        """Remember the user of a database row, for a deletion that names the row alone."""
        if event.kind is EventKind.DELETED or event.uid_derived:
            return
        key = row_owner_key(topic, event.session_uid)
        owner = RowOwner(event.tenant_id, event.user_id, event.event_time)
        state = renewed(self._states.get(key) or self._shard.get(key), owner)
        if state is not None:
            self._states[key] = state

    def _forward_deletion(self, record: Record, row: DeletedRow) -> bool:
        """Forward a deletion that names a row alone to the row's user; return False when that is not known."""
        if record.topic == self._topics.by_user or not self._knows_rows:
            return False
        key = row_owner_key(record.topic, row.uid)
        state = self._states.get(key) or self._shard.get(key)
        if state is None:
            return False
        owner = decode_row_owner(state)
        if owner.is_contested:
            return False
        origin = record.topic, record.partition, record.offset
        header = owner_header(owner.tenant_id, owner.user_id)
        self._forward(record, user_key(owner.tenant_id, owner.user_id), origin, header)
        return True

    def _erase(self, key: bytes) -> None:
        """Erase a user, on a tombstone with the user's key."""
        self._count["forgotten",] += 1
        self._erased.add(key)
        self._users[key] = None
        self._states[INCIDENT_PREFIX + key] = None

    def _load(self, key: bytes, home: bytes, event: SessionEvent) -> User | None:
        """Return the user's state, a new state, or None when the user belongs to another partition."""
        state = self._states.get(key) or (None if key in self._erased else self._shard.get(key))
        if state is not None:
            return decode_user(state)
        # Hashing is expensive, and existing state is in the right partition: only unknown keys are hashed.
        if self._partition_of(home) != self._partition:
            return None
        return new_user(event.tenant_id, event.user_id)

    def _apply(self, placed: PlacedEvent, known: Enrichment) -> None:
        event, user = placed.event, placed.user
        engine = self._engine_for(event.tenant_id)
        if self._pseudonyms is not None:
            event, known = self._pseudonyms.hidden(event, known, engine.policy)
            placed = placed._replace(event=event)
        if engine.policy.first_party_clients and engine.is_first_party(event.user_agent):
            known = known._replace(device=own_client(known.device))
        if engine.policy.alert_budget is not None:
            self._findings.count_user(event.tenant_id, placed.key, event.event_time)
        applied = apply(user, event, known, engine, self._limits)
        detections = self._collect(placed, applied.changes, engine) if applied.changes else ()
        self._event_rows.append(event_row(placed, known, applied, self._limits, detections))
        if applied is ROUTINE:
            self._routine += 1
            return
        self._add_session_rows(applied, user, placed.key)
        self._count_unevaluated(event, known, engine)
        for started in applied.started:
            self._announce(placed, started, engine.policy)

    def _announce(self, placed: PlacedEvent, started: StartedSession, policy: TenantPolicy) -> None:
        """Announce a session's start to the correlation stage, unless the user has started too many."""
        event = placed.event
        if placed.user.current.baseline.rate.count > MAX_STARTS:
            self._count["starts-capped",] += 1
            return
        start = start_of(event, started, placed.origin, placed.record.timestamp, policy)
        # The announcement of another session than the event's changes only what its user knew, not whose it is.
        is_claimed = started.uid != event.session_uid or event.uid_derived
        self._result.messages += announcements(
            start, started.context, self._topics.starts, is_derived=is_claimed, operator=self._operator
        )

    def _add_session_rows(self, applied: Applied, user: User, key: bytes) -> None:
        self._count["accepted",] += 1
        if applied.late:
            self._count["late",] += 1
        elif applied.duplicate:
            self._count["duplicate",] += 1
        for uid in applied.sessions:
            session = user.current.sessions.get(uid)
            if session is not None:
                self._session_rows[key, uid] = session_row(user, uid, session, self._limits)
        if applied.truncated:
            self._count["truncated",] += 1
        for uid, session in applied.evicted:
            self._session_rows[key, uid] = session_row(user, uid, session, self._limits, evicted=True)
            self._count["evicted",] += 1

    def _count_unevaluated(self, event: SessionEvent, known: Enrichment, engine: RuleEngine) -> None:
        """Count, by detection, the unknown parts of an event that the detection needs."""
        network, place, device = known
        is_timed = event.activity_time is not None or event.kind in _WITHOUT_ACTIVITY
        if network.prefix and place.country and device.browser and event.amr is not None and is_timed:
            return
        parts = {"network": network.prefix, "place": place.country, "device": device.browser, "time": is_timed}
        for part in [part for part, value in parts.items() if not value] + ["amr"] * (event.amr is None):
            for uid in engine.needing(part):
                self._count["unevaluated", uid, f"unknown-{part}"] += 1

    def _collect(self, placed: PlacedEvent, changes: Sequence[FindingChange], engine: RuleEngine) -> tuple[str, ...]:
        """Collect findings; return the ids of their detections."""
        user = placed.user
        cause = Cause(placed.origin, placed.record.timestamp, user.applied)
        # The most severe first: they have the first claim on the alert budget.
        for change in sorted(changes, key=lambda each: -each.finding.severity):
            after, before = _context(user, change.finding.context), _context(user, change.finding.before)
            if engine.is_tenant_wide(change.finding.detection):
                # Only the correlation stage writes these: it knows which other users of the tenant did the same.
                deed = Deed(
                    *change[:2], placed.key, change.uid, change.activity, change.finding, after, before,
                    placed.origin, placed.record.timestamp, change.is_material,
                )  # fmt: skip
                self._result.messages.append(deed_message(deed, self._topics.starts))
            else:
                self._findings.add(change, placed.key, cause, after, before)
        return tuple(sorted({change.finding.detection for change in changes}))

    def _forward(self, record: Record, key: bytes, origin: Origin, *more: tuple[str, bytes]) -> None:
        self._count["forwarded",] += 1
        self._result.messages.append(
            Message(
                self._topics.by_user,
                key,
                record.value,
                (
                    (ORIGIN_TOPIC, origin[0].encode()),
                    (ORIGIN_PARTITION, str(origin[1]).encode()),
                    (ORIGIN_OFFSET, str(origin[2]).encode()),
                    *more,
                    *self._ahead_header(record),
                    *envelope_headers(record),
                ),
                self._partition_of(key),
                record.timestamp,
            )
        )

    def _ahead_header(self, record: Record) -> tuple[tuple[str, bytes], ...]:
        ahead = record.ahead if isinstance(record, AheadRecord) else 0
        return ((AHEAD, str(ahead).encode()),) if ahead else ()

    def _reject(self, record: Record, rejected: Rejected) -> None:
        self._count["rejected", rejected.reason] += 1
        self._result.messages.append(
            dead_letter(self._topics.dlq, record, rejected.reason, rejected.message, rejected.field)
        )


def _context(user: User, number: int) -> Context | None:
    return Contexts(user.contexts)[number] if number in user.contexts else None


def own_client(device: Device) -> Device:
    """Return a device as one of the tenant's own clients: an application, even if it uses a scripting library."""
    return msgspec.structs.replace(device, kind="app", scripted=False)
