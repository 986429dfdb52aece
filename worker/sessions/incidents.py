"""Groups the findings of one user into incidents, and keeps which states of them are still to be published.

`IncidentTracker` keeps the newest state of every finding. Incidents are a function of these and of the time up to
which the input is complete (`clock`). So they depend neither on the order of arrival nor on how messages were divided
into batches. `IncidentRecord` also keeps what was published: an incident that was published and then ceases to exist
has to be closed. This happens when its findings are withdrawn, or when a late finding joins it to an earlier incident.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from schemas.finding import Severity
from schemas.incident import IncidentState, Resolution, incident_uid
from worker.sessions.codec import INCIDENTS, NEVER, StateFormat
from worker.sessions.limits import DAY, MINUTE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class IncidentLimits(NamedTuple):
    """Bounds and times, in counts and milliseconds.

    Attributes:
        quiet: alerting findings of a user at most this far apart belong to one incident. An incident without a new one
            for this long is resolved.
        retention: how long a resolved incident is kept. Within this time a finding of the same session reopens it.
        findings: maximum number of findings kept of a user. Above it, findings without an alert are dropped first, then
            those after the first `first` ones.
        first: see `findings`.
    """

    quiet: int = 240 * MINUTE
    retention: int = 7 * DAY
    findings: int = 256
    first: int = 64


class ObservedContext(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Network, place and device of an event, from the evidence of a finding.

    Attributes:
        network, place, device: text for people; empty when unknown.
        known: which of `NETWORK`, `COUNTRY` and `DEVICE` were in the user's baseline when the finding was made; -1 when
            the evidence does not contain it.
    """

    ip: str
    asn: int
    network: str
    kind: str
    country: str
    place: str
    device: str
    known: int


NETWORK, COUNTRY, DEVICE = 1, 2, 4
"""Bits of `ObservedContext.known`."""


class TrackedFinding(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The newest state of a finding, with the properties that incidents need.

    Attributes:
        session: session of its first occurrence, also for findings about the user; empty when it has none.
        first, last: event time of the first and the last occurrence.
        detected_at: timestamp of the record that caused this state.
        is_alert: see `schemas.finding.Finding.is_alert`.
    """

    uid: str
    revision: int
    detection: str
    title: str
    summary: str
    severity: int
    score: int
    session: str
    first: int
    last: int
    count: int
    detected_at: int
    status: str
    is_alert: bool
    suppressed_by: tuple[str, ...]
    before: ObservedContext | None
    after: ObservedContext | None


class GivenVerdict(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """Feedback on a finding: the `verdict` of a `schemas.feedback.Feedback`, given at `time` by `author`."""

    time: int
    verdict: str
    author: str = ""

    @property
    def is_false(self) -> bool:
        """Whether the verdict is "false positive"."""
        return self.verdict == "false_positive"


class IncidentRecord(msgspec.Struct, array_like=True, gc=False):
    """An incident after its last change.

    Attributes:
        revision: grows with every change that is published: severity, detections, state, resolution, acknowledgement.
        version: grows with every change, also of counts and of findings without an alert.
        members: uids of its alerting findings, in order of time. `attached`: uids of its other findings.
        due: when it is resolved if no further finding comes.
        digest: hash of everything that it consists of. `published`: the revision last published; 0 for none.
        acknowledged: whether an analyst is investigating one of its alerting findings, or has confirmed one.
    """

    uid: str
    revision: int = 0
    version: int = 0
    severity: int = 0
    detections: tuple[str, ...] = ()
    state: IncidentState = IncidentState.OPEN
    resolution: Resolution = Resolution.NONE
    merged_into: str = ""
    resolved_at: int = 0
    changed_at: int = 0
    members: tuple[str, ...] = ()
    attached: tuple[str, ...] = ()
    due: int = 0
    digest: bytes = b""
    published: int = 0
    acknowledged: bool = False

    @property
    def exists(self) -> bool:
        """Whether it still has alerting findings of its own, see `Resolution.WITHDRAWN` and `Resolution.MERGED`."""
        return self.resolution not in (Resolution.WITHDRAWN, Resolution.MERGED)

    def material(self) -> tuple[object, ...]:
        """Return the properties of which a change makes a new revision."""
        return self.severity, self.detections, self.state, self.resolution, self.merged_into, self.acknowledged


class IncidentTracker(msgspec.Struct, array_like=True):
    """The findings and incidents of one user.

    Attributes:
        user_id: empty for findings that are not about one user. Then `subject` names the network or client, and `key`
            is the key of their messages.
        findings: findings by uid. `records`: incidents by uid, also those that were published and no longer exist.
        verdicts: finding uid -> the latest feedback on it.
        clock: time up to which the input is complete, milliseconds.
        dropped: number of findings dropped because of `IncidentLimits.findings`.
    """

    tenant_id: str = ""
    user_id: str = ""
    subject: str = ""
    findings: dict[str, TrackedFinding] = msgspec.field(default_factory=dict)
    records: dict[str, IncidentRecord] = msgspec.field(default_factory=dict)
    verdicts: dict[str, GivenVerdict] = msgspec.field(default_factory=dict)
    clock: int = 0
    dropped: int = 0
    key: str = ""


_encode = msgspec.msgpack.Encoder().encode
_FORMAT = StateFormat(INCIDENTS, IncidentTracker, compressed=True)
is_tracker, decode_tracker = _FORMAT.matches, _FORMAT.decode


def encode_tracker(tracker: IncidentTracker, limits: IncidentLimits) -> bytes:
    """Return an encoded tracker; its timer fires when the next incident is due."""
    return _FORMAT.encode(tracker, next_due(tracker, limits))


# Changes of a tracker


def track(tracker: IncidentTracker, finding: TrackedFinding, limits: IncidentLimits) -> bool:
    """Apply a state of a finding; return False when this state or a newer one was applied before."""
    known = tracker.findings.get(finding.uid)
    if known is not None and known.revision >= finding.revision:
        return False
    tracker.findings[finding.uid] = finding
    if len(tracker.findings) > limits.findings:
        _evict_finding(tracker, limits)
    _refresh(tracker, finding.detected_at, limits)
    return True


def mark(tracker: IncidentTracker, uids: Iterable[str], verdict: GivenVerdict, limits: IncidentLimits) -> bool:
    """Apply a verdict to findings; return False when it changes nothing.

    If there are several verdicts on a finding, the latest counts, whatever the order of arrival.
    """
    known = tracker.verdicts
    changed = [uid for uid in uids if uid in tracker.findings and (uid not in known or known[uid] < verdict)]
    if not changed:
        return False
    known.update(dict.fromkeys(changed, verdict))
    _refresh(tracker, verdict.time, limits)
    return True


def advance(tracker: IncidentTracker, now: int, limits: IncidentLimits) -> None:
    """Advance the clock up to which the input is complete: resolve quiet incidents, remove those past their retention.

    If an incident is quiet and past its retention at once, as after a long outage, it is resolved now and removed by
    the next call.
    """
    tracker.clock = max(tracker.clock, now)
    over = {uid for uid, record in tracker.records.items() if _is_over(record, tracker.clock - limits.retention)}
    gone = {*_assigned(tracker.records[uid] for uid in over), *_unassigned(tracker, limits)}
    gone -= _assigned(each for each in tracker.records.values() if each.uid not in over and each.exists)
    tracker.records = {uid: record for uid, record in tracker.records.items() if uid not in over}
    tracker.findings = {uid: each for uid, each in tracker.findings.items() if uid not in gone}
    tracker.verdicts = {uid: each for uid, each in tracker.verdicts.items() if uid in tracker.findings}
    _refresh(tracker, 0, limits)


def _is_over(record: IncidentRecord, before: int) -> bool:
    return record.state is IncidentState.RESOLVED and record.due <= before


def _unassigned(tracker: IncidentTracker, limits: IncidentLimits) -> set[str]:
    """Return the findings that belong to no incident and that no later finding can be close to."""
    assigned = _assigned(tracker.records.values())
    return {
        uid
        for uid, each in tracker.findings.items()
        if uid not in assigned and max(each.first, each.detected_at) + limits.quiet <= tracker.clock
    }


def _assigned(records: Iterable[IncidentRecord]) -> set[str]:
    return {uid for each in records for uid in (*each.members, *each.attached)}


def _evict_finding(tracker: IncidentTracker, limits: IncidentLimits) -> None:
    """Drop the earliest finding without an alert; if all alert, the one after the first `limits.first`."""
    ordered = sorted(tracker.findings.values(), key=lambda each: (each.first, each.uid))
    others = [each for each in ordered if not each.is_alert]
    uid = (others[0] if others else ordered[limits.first]).uid
    del tracker.findings[uid]
    tracker.verdicts.pop(uid, None)
    tracker.dropped += 1


def acknowledgement(tracker: IncidentTracker, members: Iterable[str]) -> GivenVerdict | None:
    """Return the earliest verdict on one of these findings that is not "false positive"."""
    found = (tracker.verdicts[uid] for uid in members if uid in tracker.verdicts)
    return min((each for each in found if not each.is_false), default=None)


def next_due(tracker: IncidentTracker, limits: IncidentLimits) -> int:
    """Return when the tracker next changes without a new message, in milliseconds."""
    times = [
        record.due + (limits.retention if record.state is IncidentState.RESOLVED else 0)
        for record in tracker.records.values()
    ]
    assigned = _assigned(tracker.records.values())
    unassigned = (each for uid, each in tracker.findings.items() if uid not in assigned)
    times += [max(each.first, each.detected_at) + limits.quiet for each in unassigned]
    return min(times, default=NEVER)


def pending(tracker: IncidentTracker) -> list[IncidentRecord]:
    """Return the incidents whose newest revision is not published yet, resolved ones first."""
    found = [record for record in tracker.records.values() if record.revision != record.published]
    return sorted(found, key=lambda record: (record.state is not IncidentState.RESOLVED, record.revision, record.uid))


# Grouping


def _refresh(tracker: IncidentTracker, cause: int, limits: IncidentLimits) -> None:
    """Update the records from the findings. `cause` is the timestamp of the message that changed them, or 0."""
    alive = _incidents_of(tracker, limits)
    where = {uid: each.uid for each in alive.values() for uid in each.members}
    for uid, record in tracker.records.items():
        if uid not in alive:
            _close(record, where, cause)
    for uid, new in alive.items():
        _update(tracker.records.setdefault(uid, IncidentRecord(uid)), new, cause)


def _update(record: IncidentRecord, new: IncidentRecord, cause: int) -> None:
    """Apply a new state. Revisions are at least the timestamp, so that they grow even after a record was removed."""
    if record.digest == new.digest:
        return
    at = cause or new.due
    record.version = max(record.version + 1, at)
    if record.material() != new.material() or not record.revision:
        record.revision, record.changed_at = max(record.revision + 1, at), at
    record.severity, record.detections, record.state = new.severity, new.detections, new.state
    record.resolution, record.merged_into, record.acknowledged = new.resolution, "", new.acknowledged
    record.resolved_at = new.resolved_at or (at if new.state is IncidentState.RESOLVED else 0)
    record.members, record.attached, record.due, record.digest = new.members, new.attached, new.due, new.digest


def _close(record: IncidentRecord, where: Mapping[str, str], cause: int) -> None:
    """Close an incident whose alerting findings no longer exist, or belong to another incident now."""
    merged_into = next((where[uid] for uid in record.members if uid in where), "")
    resolution = Resolution.MERGED if merged_into else Resolution.WITHDRAWN
    if (record.resolution, record.merged_into) == (resolution, merged_into):
        return
    record.version, record.revision = (max(number + 1, cause) for number in (record.version, record.revision))
    record.state, record.resolution, record.merged_into = IncidentState.RESOLVED, resolution, merged_into
    record.resolved_at = record.changed_at = cause
    record.digest = b""


def _incidents_of(tracker: IncidentTracker, limits: IncidentLimits) -> dict[str, IncidentRecord]:
    """Return the incidents of the present findings, by uid."""
    owner = tracker.user_id or tracker.subject
    clusters = {
        incident_uid(tracker.tenant_id, owner, members[0].session or members[0].uid): members
        for members in _clusters([each for each in tracker.findings.values() if each.is_alert], limits.quiet)
    }
    attached = _attached(tracker, clusters, limits.quiet)
    known = tracker.verdicts, tracker.clock, limits.quiet
    return {uid: _record(uid, each, attached[uid], known) for uid, each in clusters.items()}


def _clusters(alerts: Iterable[TrackedFinding], quiet: int) -> list[list[TrackedFinding]]:
    """Group alerts into incidents, in order of time: alerts of one session, and alerts close to each other."""
    clusters: list[list[TrackedFinding]] = []
    by_session: dict[str, list[TrackedFinding]] = {}
    newest: list[TrackedFinding] = []
    for alert in sorted(alerts, key=_order):
        near = newest if newest and alert.first - newest[-1].first <= quiet else None
        same = by_session.get(alert.session) if alert.session else None
        cluster = near if near is not None else same
        if cluster is None:
            cluster = []
            clusters.append(cluster)
        elif near is not None and same is not None and near is not same:
            cluster = _join(near, same, clusters, by_session)
        cluster.append(alert)
        if alert.session:
            by_session[alert.session] = cluster
        newest = cluster
    return clusters


def _join(
    one: list[TrackedFinding],
    other: list[TrackedFinding],
    clusters: list[list[TrackedFinding]],
    by_session: dict[str, list[TrackedFinding]],
) -> list[TrackedFinding]:
    """Join two clusters into one."""
    clusters[:] = [each for each in clusters if each is not one and each is not other]
    joined = sorted([*one, *other], key=_order)
    clusters.append(joined)
    by_session.update((each.session, joined) for each in joined if each.session)
    return joined


def _order(finding: TrackedFinding) -> tuple[int, bool, str, str]:
    return finding.first, not finding.session, finding.session, finding.uid


def _attached(
    tracker: IncidentTracker, clusters: Mapping[str, Sequence[TrackedFinding]], quiet: int
) -> dict[str, list[TrackedFinding]]:
    """Return the findings without an alert by incident: those of its sessions, and others close to it."""
    found: dict[str, list[TrackedFinding]] = {uid: [] for uid in clusters}
    if not clusters:
        return found
    sessions = {each.session: uid for uid, members in clusters.items() for each in members if each.session}
    for other in sorted((each for each in tracker.findings.values() if not each.is_alert), key=_order):
        uid = sessions.get(other.session) or _nearest(other, clusters, quiet)
        if uid:
            found[uid].append(other)
    return found


def _nearest(other: TrackedFinding, clusters: Mapping[str, Sequence[TrackedFinding]], quiet: int) -> str:
    distance, uid = min(
        (min(abs(other.first - each.first) for each in members), uid) for uid, members in clusters.items()
    )
    return uid if distance <= quiet else ""


def _record(
    uid: str,
    members: Sequence[TrackedFinding],
    attached: Sequence[TrackedFinding],
    known: tuple[Mapping[str, GivenVerdict], int, int],
) -> IncidentRecord:
    verdicts, clock, quiet = known
    active = [each for each in members if each.uid not in verdicts or not verdicts[each.uid].is_false]
    due = max(max(each.first, each.detected_at) for each in members) + quiet
    resolution = Resolution.FALSE_POSITIVE if not active else Resolution.QUIET if due <= clock else Resolution.NONE
    record = IncidentRecord(
        uid,
        severity=max(each.severity for each in active or members),
        detections=tuple(sorted({each.detection for each in active or members})),
        state=_state(active or members) if resolution is Resolution.NONE else IncidentState.RESOLVED,
        resolution=resolution,
        resolved_at=members[-1].first + quiet if resolution is Resolution.QUIET else 0,
        members=tuple(each.uid for each in members),
        attached=tuple(each.uid for each in attached),
        due=due,
        # A resolved incident is never shown as acknowledged.
        acknowledged=resolution is Resolution.NONE and any(each.uid in verdicts for each in active),
    )
    states = [(each.uid, each.revision, verdicts.get(each.uid)) for each in (*members, *attached)]
    record.digest = blake2b(_encode([record.material(), states]), digest_size=8).digest()
    return record


def _state(active: Sequence[TrackedFinding]) -> IncidentState:
    """Return `UPDATED` if an event after the first raised the severity or added another detection, else `OPEN`."""
    start = active[0].first
    first = [each for each in active if each.first == start]
    severity, kinds = max(each.severity for each in first), {each.detection for each in first}
    is_more = any(each.severity > severity or each.detection not in kinds for each in active)
    return IncidentState.UPDATED if is_more else IncidentState.OPEN


def severity_of(record: IncidentRecord) -> Severity:
    """Return an incident's severity."""
    return Severity(record.severity)
