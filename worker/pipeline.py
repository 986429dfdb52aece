"""The pure heart: (records of one topic-partition, state) -> rows, findings, dead letters, forwards, new state.

No I/O and no clock: what comes out depends on the records and the state alone, never on how records were cut
into batches, so a batch computed twice gives the same rows and the same findings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from schemas.event import SessionEvent
from schemas.inbound import Ignored, Rejected, RejectReason, decode
from schemas.keys import user_key
from worker.crossing import MOST_STARTS, Crossing, announcements, start_of
from worker.feedback import take_feedback
from worker.findings import Named, Told
from worker.incidents import PREFIX, IncidentStage, split_verdicts
from worker.outcome import ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TOPIC, REPLAYED, Message, Outcome, dead_letter
from worker.rows import event_row, session_row
from worker.sessions.budget import is_budget
from worker.sessions.cross import is_shared
from worker.sessions.incidents import IncidentLimits
from worker.sessions.limits import MINUTE
from worker.sessions.state import Contexts, decode_user, encode_user, new_user
from worker.sessions.user import ROUTINE, apply, expired, is_forgotten, wake_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.enrich.model import Device, Network, Place
    from worker.outcome import Record, Shard
    from worker.privacy import Pseudonyms
    from worker.sessions.limits import Limits
    from worker.sessions.state import Context, User
    from worker.sessions.user import Applied, Change
    from worker.sessions.view import Judge

    Origin = tuple[str, int, int]
    Seen = tuple[Network, Place, Device]
    Placed = tuple[Record, SessionEvent, bytes, User, Origin]

STRIDE = 200
"""Records decoded, applied and encoded at a time: what they need then stays in the processor's caches, and memory is
used again at once. A batch of 2,000 in one go took 40% longer a record."""
EVENTS, SESSIONS, FINDINGS = "session_events", "sessions", "findings"


class Enricher(Protocol):
    """Turns what an event says into network, place and device."""

    def enrich(self, ip: str, location: str | None, user_agent: str) -> tuple[Network, Place, Device]:
        """Return what is known; unknown parts are values."""


class Source(Protocol):
    """What records say, and what is known of it.

    Attributes:
        repeats: records may come again; by their offsets those applied before are known.
    """

    repeats: bool

    def read(self, record: Record) -> SessionEvent | Ignored | Rejected:
        """Return the event a record holds."""

    def look_up(self, record: Record, event: SessionEvent) -> Seen:
        """Return network, place and device of a record's event."""


class Wire:
    """Records as they come from Kafka: bytes to be decoded, events to be enriched.

    Args:
        enricher: networks, places and devices.
        max_bytes: a longer record value is rejected unread.
        skew: how far ahead of its record a time may lie before it is clamped, milliseconds.
    """

    repeats = True

    def __init__(self, enricher: Enricher, max_bytes: int = 1 << 20, skew: int = MINUTE) -> None:
        self._enrich = enricher.enrich
        self._max_bytes = max_bytes
        self._skew = skew

    def read(self, record: Record) -> SessionEvent | Ignored | Rejected:
        """Decode a record."""
        return decode(record.value, record_time=record.timestamp, skew_ms=self._skew, max_bytes=self._max_bytes)

    def look_up(self, record: Record, event: SessionEvent) -> Seen:  # noqa: ARG002  it stands in the event
        """Enrich an event."""
        return self._enrich(event.ip, event.location, event.user_agent)


class Topics(Protocol):
    """The names of the topics the pipeline writes to."""

    by_user: str
    starts: str
    dlq: str
    findings: str
    incidents: str
    feedback: str


def origin_of(record: Record, by_user: str) -> Origin | None:
    """Return topic, partition and offset a record first came from, through a forward if there was one.

    None: it lies on the forward topic without saying where it came from.
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
    """Tell whether a record is a dead letter that was put back."""
    return record.topic == by_user and any(name == REPLAYED for name, _ in record.headers)


NO_ORIGIN = Rejected(
    RejectReason.MISSING_FIELD,
    f"headers.{ORIGIN_TOPIC}",
    "a forwarded record must name its origin in its headers",
)


class Pipeline:
    """Applies records to state; `worker.outcome.Processor` is the port it fits.

    Args:
        source: what records say; `Wire` reads them as they come from Kafka.
        judge: the detections in force for a tenant.
        topics: where findings, forwards, starts of sessions and dead letters go.
        partition_of: the partition a key hashes to, by Kafka's default partitioner.
        limits: bounds and times.
        incidents: bounds and times of incidents.
        max_bytes: a longer verdict's record is rejected unread.
        pseudonyms: under which users and addresses are kept and written; None: their own names.
    """

    def __init__(
        self,
        *,
        source: Source,
        judge: Callable[[str], Judge],
        topics: Topics,
        partition_of: Callable[[bytes], int],
        limits: Limits,
        incidents: IncidentLimits | None = None,
        max_bytes: int = 1 << 20,
        pseudonyms: Pseudonyms | None = None,
    ) -> None:
        self._source = source
        self._judge = judge
        self._topics = topics
        self._partition_of = partition_of
        self._limits = limits
        self._max_bytes = max_bytes
        self._pseudonyms = pseudonyms
        self._crossing = Crossing(judge, topics.findings, limits)
        self._incidents = IncidentStage(topics.incidents, incidents or IncidentLimits())

    def process(self, partition: int, records: Sequence[Record], shard: Shard) -> Outcome:
        """Apply records of one topic-partition, in their order, to the shard of that partition number."""
        other = self._process_other(records, shard) if records else None
        if other is not None:
            return other
        batch = _Batch(self, partition, shard)
        for start in range(0, len(records), STRIDE):
            batch.add(records[start : start + STRIDE])
        outcome = batch.finish()
        outcome.record_time = records[0].timestamp if records else 0
        return outcome

    def _process_other(self, records: Sequence[Record], shard: Shard) -> Outcome | None:
        """Apply records of a topic the worker writes itself, or of verdicts; None when they are events."""
        topic = records[0].topic
        if topic == self._topics.findings:
            return self._incidents.process(records, shard)
        if topic == self._topics.starts:
            starts, verdicts = split_verdicts(records)
            outcome = self._crossing.process(starts, shard)
            if verdicts:
                outcome.add(self._incidents.process(verdicts, shard))
            return outcome
        if topic == self._topics.feedback:
            return take_feedback(records, self._topics, self._partition_of, self._max_bytes)
        return None

    def sweep(self, partition: int, now: int, shard: Shard) -> Outcome:
        """End the sessions whose expiry passed by `now` and incidents that are quiet; forget users idle for long."""
        batch = _Batch(self, partition, shard)
        quiet = []
        for key in shard.due(now):
            if key.startswith(PREFIX):
                quiet.append(key)
            else:
                batch.wake(key, now)
        outcome = batch.finish()
        if quiet:
            outcome.add(self._incidents.advance(quiet, now, shard))
        return outcome


class _Batch:
    """One batch under way. The shard is left alone until the end, when nothing can fail any more."""

    def __init__(self, pipeline: Pipeline, partition: int, shard: Shard) -> None:
        self._source = pipeline._source  # noqa: SLF001  the batch is the pipeline's own
        self._judge = pipeline._judge  # noqa: SLF001
        self._topics = pipeline._topics  # noqa: SLF001
        self._partition_of = pipeline._partition_of  # noqa: SLF001
        self._limits = pipeline._limits  # noqa: SLF001
        self._pseudonyms = pipeline._pseudonyms  # noqa: SLF001
        self._partition = partition
        self._shard = shard
        self._users: dict[bytes, User | None] = {}
        self._states: dict[bytes, bytes | None] = {}
        self._gone: set[bytes] = set()
        self._sessions: dict[tuple[bytes, str], bytes] = {}
        self._rows: list[bytes] = []
        self._routine = 0
        self._outcome = Outcome()
        self._count = self._outcome.counters
        self._told = Told(self._outcome, self._topics.findings, self._judge, shard)

    def add(self, records: Sequence[Record]) -> None:
        """Apply some records, in their order, stage by stage: each stage's code then stays in the caches, too."""
        read, look_up = self._source.read, self._source.look_up
        results = [read(each) for each in records]
        placed = [each for pair in zip(records, results, strict=True) if (each := self._place(*pair)) is not None]
        seen = [look_up(record, event) for record, event, _, _, _ in placed]
        for each, known in zip(placed, seen, strict=True):
            self._apply(*each, known)
        self._settle()

    def wake(self, key: bytes, now: int) -> None:
        """Do what time alone asks for with one user."""
        state = self._shard.get(key)
        if state is None:
            return
        if is_shared(state) or is_budget(state):
            self._states[key] = None
            return
        user = decode_user(state)
        for uid in expired(user, now, self._limits):
            session = user.head.sessions[uid]
            self._sessions[key, uid] = session_row(user, uid, session, self._limits, swept=True)
            self._count["expired",] += 1
        self._users[key] = None if is_forgotten(user, now, self._limits) else user

    def finish(self) -> Outcome:
        """Put the new states into the shard and return everything."""
        self._settle()
        if self._routine:
            self._count["accepted",] += self._routine
        for key, state in self._states.items():
            self._shard.put(key, state)
        self._outcome.states.update(self._states)
        self._told.settle()
        tables = {
            EVENTS: self._rows,
            SESSIONS: list(self._sessions.values()),
            FINDINGS: self._told.rows(),
        }
        self._outcome.rows.update({table: rows for table, rows in tables.items() if rows})
        return self._outcome

    def _settle(self) -> None:
        """Encode the users touched so far."""
        limits = self._limits
        for key, user in self._users.items():
            self._states[key] = None if user is None else encode_user(user, wake_time(user, limits))
        self._users.clear()

    def _place(self, record: Record, result: SessionEvent | Ignored | Rejected) -> Placed | None:
        """Find the state an event belongs to; None when there is nothing to apply here."""
        if not isinstance(result, SessionEvent):
            if record.value is None and record.key and record.topic == self._topics.by_user:
                self._forget(record.key)
            else:
                self._drop(record, result)
            return None
        origin = origin_of(record, self._topics.by_user)
        if origin is None:
            self._reject(record, NO_ORIGIN)
            return None
        # Who has another name within has the true one to be found by: producers know no other.
        home = key = user_key(result.tenant_id, result.user_id)
        if self._pseudonyms is not None:
            result = self._pseudonyms.renamed(result)
            key = user_key(result.tenant_id, result.user_id)
        user = self._users.get(key) or self._load(key, home, result)
        if user is None:
            self._forward(record, home, origin)
            return None
        if self._source.repeats and not is_replayed(record, self._topics.by_user):
            if user.offsets.get(origin[1], -1) >= origin[2]:
                self._count["skipped",] += 1
                return None
            user.offsets[origin[1]] = origin[2]
        # Dead letters come back in any order; one that comes twice is a duplicate, and its row the same.
        self._users[key] = user
        return record, result, key, user, origin

    def _forget(self, key: bytes) -> None:
        """Let go of a user, as a tombstone under the user's key asks for."""
        self._count["forgotten",] += 1
        self._gone.add(key)
        self._users[key] = None
        self._states[PREFIX + key] = None

    def _drop(self, record: Record, result: Ignored | Rejected) -> None:
        if isinstance(result, Ignored):
            self._count["ignored", result.reason] += 1
        else:
            self._reject(record, result)

    def _load(self, key: bytes, home: bytes, event: SessionEvent) -> User | None:
        """Return the user's state, a new one, or None when another partition keeps it."""
        state = self._states.get(key) or (None if key in self._gone else self._shard.get(key))
        if state is not None:
            return decode_user(state)
        # Hashing is dear and state that exists is where it belongs: only the unknown are hashed.
        if self._partition_of(home) != self._partition:
            return None
        return new_user(event.tenant_id, event.user_id)

    def _apply(self, record: Record, event: SessionEvent, key: bytes, user: User, origin: Origin, seen: Seen) -> None:
        limits, judge = self._limits, self._judge(event.tenant_id)
        if self._pseudonyms is not None:
            event, seen = self._pseudonyms.hidden(event, seen, judge.policy)
        if judge.policy.first_party_clients and judge.is_first_party(event.user_agent):
            seen = (seen[0], seen[1], own_client(seen[2]))
        if judge.policy.alert_budget is not None:
            self._told.see(event.tenant_id, key, event.event_time)
        applied = apply(user, event, seen, judge, limits)
        found = self._find(record, applied.changes, key, user, origin) if applied.changes else ()
        self._rows.append(
            event_row(
                event,
                seen,
                user.head.sessions.get(event.session_uid),
                user,
                limits,
                found,
                origin,
                record.timestamp,
                is_late=applied.late,
                is_current=applied.current,
            )
        )
        if applied is ROUTINE:
            self._routine += 1
            return
        self._note(applied, user, key)
        self._count_unevaluated(event, seen, judge)
        if applied.started is None:
            return
        if user.head.history.rate.count > MOST_STARTS:
            self._count["unannounced",] += 1
        else:
            start = start_of(event, seen, applied.started, origin, record.timestamp)
            self._outcome.messages += announcements(start, seen[0], self._topics.starts, derived=event.uid_derived)

    def _note(self, applied: Applied, user: User, key: bytes) -> None:
        self._count["accepted",] += 1
        if applied.late:
            self._count["late",] += 1
        elif applied.duplicate:
            self._count["duplicate",] += 1
        for uid in applied.sessions:
            session = user.head.sessions.get(uid)
            if session is not None:
                self._sessions[key, uid] = session_row(user, uid, session, self._limits)
        for uid, session in applied.evicted:
            self._sessions[key, uid] = session_row(user, uid, session, self._limits, evicted=True)
            self._count["evicted",] += 1

    def _count_unevaluated(self, event: SessionEvent, seen: Seen, judge: Judge) -> None:
        """Count, for each detection that needs it, what is not known of an event that is not routine."""
        network, place, device = seen
        if network.prefix and place.country and device.browser and event.amr is not None:
            return
        known = {"network": network.prefix, "place": place.country, "device": device.browser}
        for part in [part for part, value in known.items() if not value] + ["amr"] * (event.amr is None):
            for uid in judge.needing(part):
                self._count["unevaluated", uid, f"unknown-{part}"] += 1

    def _find(
        self, record: Record, changes: Sequence[Change], key: bytes, user: User, origin: Origin
    ) -> tuple[str, ...]:
        """Take in findings; return the ids of their detections."""
        named = Named(user.tenant_id, user.user_id, user.applied)
        for change in changes:
            after, before = _contexts(user, change.group.context), _contexts(user, change.group.before)
            self._told.add(change, named, key, (origin, record.timestamp), after, before)
        return tuple(sorted({change.group.detection for change in changes}))

    def _forward(self, record: Record, key: bytes, origin: Origin) -> None:
        self._count["forwarded",] += 1
        self._outcome.messages.append(
            Message(
                self._topics.by_user,
                key,
                record.value,
                (
                    (ORIGIN_TOPIC, origin[0].encode()),
                    (ORIGIN_PARTITION, str(origin[1]).encode()),
                    (ORIGIN_OFFSET, str(origin[2]).encode()),
                ),
                self._partition_of(key),
                record.timestamp,
            )
        )

    def _reject(self, record: Record, rejected: Rejected) -> None:
        self._count["rejected", rejected.reason] += 1
        self._outcome.messages.append(
            dead_letter(self._topics.dlq, record, rejected.reason, rejected.message, rejected.field)
        )


def _contexts(user: User, number: int) -> Context | None:
    return Contexts(user.contexts)[number] if number in user.contexts else None


def own_client(device: Device) -> Device:
    """Return a device as one of the tenant's own clients: an application, whatever it is written with."""
    return msgspec.structs.replace(device, kind="app", scripted=False)
