"""The incident stage: turns published findings into incidents.

Findings are delivered at least once. The state of a finding with the highest revision counts, so a repeated one changes
nothing. All findings of a user are on one partition, because their key is the user's key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from schemas.feedback import Feedback
from schemas.finding import SEVERITIES, STATUS_ID, Activity
from worker.detections.api import Trigger
from worker.detections.evidence import device_name, network_name, place_name
from worker.detections.registry import detections
from worker.enrich.model import Device, Network, Place
from worker.pipeline.incident_report import About, report
from worker.pipeline.ports import BatchResult, Message
from worker.pipeline.rows import incident_row
from worker.sessions.incidents import (
    COUNTRY,
    DEVICE,
    NETWORK,
    GivenVerdict,
    IncidentLimits,
    IncidentTracker,
    ObservedContext,
    TrackedFinding,
    advance,
    decode_tracker,
    encode_tracker,
    mark,
    pending,
    track,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.incident import Incident
    from worker.pipeline.ports import Record, Shard

INCIDENT_PREFIX = b"/incident/"
"""Prefix of the keys of this state. Keys of users do not begin with a slash, because tenants have names."""
FEEDBACK_PREFIX = b"/feedback/"
"""Prefix of the keys of feedback on findings that is forwarded to the partition of the finding's user."""
MOST_AUTHOR = 80
"""Most characters of the author of feedback that are kept."""
_STATUS = {number: str(status) for status, number in STATUS_ID.items()}
_CHANGES = {Activity.CREATE: "created", Activity.UPDATE: "updated", Activity.CLOSE: "resolved"}
_BITS = {"network": NETWORK, "country": COUNTRY, "device": DEVICE}


class IncidentStage:
    """Applies findings and feedback to the state of their users.

    Args:
        topic: the topic of incidents.
        limits: limits of incidents.
    """

    def __init__(self, topic: str, limits: IncidentLimits) -> None:
        self._topic = topic
        self._limits = limits

    def process(self, records: Sequence[Record], shard: Shard) -> BatchResult:
        """Apply findings of one partition in order; the shard is not changed before everything that can fail."""
        batch = _Batch(self._topic, self._limits, shard)
        for record in records:
            batch.take(record)
        outcome = batch.finish()
        outcome.record_time = records[0].timestamp if records else 0
        outcome.counters["findings-correlated",] += len(records)
        return outcome

    def advance(self, keys: Sequence[bytes], now: int, shard: Shard) -> BatchResult:
        """Fire the timers of the states with these keys."""
        batch = _Batch(self._topic, self._limits, shard)
        for key in keys:
            batch.advance(key, now)
        return batch.finish()


class _Batch:
    """One batch of findings and feedback."""

    def __init__(self, topic: str, limits: IncidentLimits, shard: Shard) -> None:
        self._topic = topic
        self._limits = limits
        self._shard = shard
        self._trackers: dict[bytes, IncidentTracker] = {}
        self._written: dict[bytes, dict[str, int]] = {}
        self._outcome = BatchResult()

    def take(self, record: Record) -> None:
        """Apply a finding, or feedback on one."""
        key, value = record.key, record.value
        if not key or not value:
            return
        if key.startswith(FEEDBACK_PREFIX):
            self._feedback(key, value, record.timestamp)
            return
        try:
            message = _decode(value)
        except msgspec.DecodeError:
            # Not one of our findings: another producer on this topic must not stop the worker.
            self._outcome.counters["ignored", "not-a-finding"] += 1
            return
        tracker = self._load(INCIDENT_PREFIX + key)
        _name(tracker, key, message)
        if not track(tracker, tracked(message), self._limits):
            self._outcome.counters["deduplicated",] += 1

    def _feedback(self, key: bytes, value: bytes, time: int) -> None:
        feedback = Feedback.model_validate_json(value)
        tracker = self._load(INCIDENT_PREFIX + key.removeprefix(FEEDBACK_PREFIX))
        if tracker.tenant_id != feedback.tenant_id:
            return
        verdict = GivenVerdict(time, feedback.verdict, feedback.author[:MOST_AUTHOR])
        mark(tracker, feedback.findings, verdict, self._limits)

    def advance(self, key: bytes, now: int) -> None:
        """Fire the timer of one state."""
        advance(self._load(key), now, self._limits)

    def _load(self, key: bytes) -> IncidentTracker:
        tracker = self._trackers.get(key)
        if tracker is None:
            state = self._shard.get(key)
            tracker = self._trackers[key] = IncidentTracker() if state is None else decode_tracker(state)
            self._written[key] = {uid: record.version for uid, record in tracker.records.items()}
        return tracker

    def finish(self) -> BatchResult:
        """Write the new states to the shard, and return the result."""
        rows: list[bytes] = []
        for key, tracker in self._trackers.items():
            rows += self._changed_rows(key, tracker)
            self._publish(key, tracker)
            state = encode_tracker(tracker, self._limits) if tracker.findings or tracker.records else None
            self._outcome.states[key] = state
        for key, state in self._outcome.states.items():
            self._shard.put(key, state)
        if rows:
            self._outcome.rows["incidents"] = rows
        return self._outcome

    def _changed_rows(self, key: bytes, tracker: IncidentTracker) -> list[bytes]:
        written = self._written[key]
        changed = [record for uid, record in tracker.records.items() if written.get(uid) != record.version]
        return [incident_row(report(tracker, record, about), record.version, record.members, record.attached)
                for record in changed]  # fmt: skip

    def _publish(self, key: bytes, tracker: IncidentTracker) -> None:
        for record in pending(tracker):
            incident = report(tracker, record, about)
            record.published = record.revision
            self._outcome.messages.append(Message(self._topic, key.removeprefix(INCIDENT_PREFIX), incident.message()))
            self._count(incident)

    def _count(self, incident: Incident) -> None:
        self._outcome.counters["incident", _CHANGES[incident.activity], SEVERITIES[incident.severity]] += 1
        self._outcome.incidents.append(incident)


def split_feedback(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Return the announcements of sessions and the forwarded feedback, which share a topic."""
    split: tuple[list[Record], list[Record]] = ([], [])
    for record in records:
        split[(record.key or b"").startswith(FEEDBACK_PREFIX)].append(record)
    return split


def about(uid: str) -> About:
    """Return the metadata of a detection; only its id, if the detection does not exist any more."""
    found = detections().get(uid)
    if found is None:
        return About(uid, (), (), sums_up=False)
    return About(found.title, found.runbook, found.attacks, found.sums_up or bool(found.triggers & Trigger.RISK))


# Messages on the findings topic


class _Analytic(msgspec.Struct):
    uid: str


class _Info(msgspec.Struct):
    uid: str
    title: str
    analytic: _Analytic
    first_seen_time: int
    last_seen_time: int


class _Metadata(msgspec.Struct):
    uid: str
    tenant_uid: str


class _Named(msgspec.Struct):
    uid: str = ""


class _Actor(msgspec.Struct):
    user: _Named = msgspec.field(default_factory=_Named)
    session: _Named = msgspec.field(default_factory=_Named)


class _Evidence(msgspec.Struct):
    data: dict[str, Any]


class _Unmapped(msgspec.Struct):
    suppressed_by: tuple[str, ...] = ()
    subject: str = ""


class FindingMessage(msgspec.Struct):
    """The fields of a message on the findings topic that incidents need, see `schemas.finding.Finding.ocsf`."""

    severity_id: int
    status_id: int
    time: int
    count: int
    message: str
    risk_score: int
    is_alert: bool
    metadata: _Metadata
    finding_info: _Info
    evidences: list[_Evidence]
    unmapped: _Unmapped
    actor: _Actor = msgspec.field(default_factory=_Actor)


_decode = msgspec.json.Decoder(FindingMessage).decode


def _name(tracker: IncidentTracker, key: bytes, message: FindingMessage) -> None:
    """Note whose findings a tracker holds."""
    if not tracker.tenant_id:
        tracker.tenant_id, tracker.user_id = message.metadata.tenant_uid, message.actor.user.uid
        if not tracker.user_id:
            tracker.subject = message.unmapped.subject or message.finding_info.title
            tracker.key = key.decode("utf-8", "replace")


def tracked(message: FindingMessage) -> TrackedFinding:
    """Return the fields of a finding that the state keeps."""
    info, data = message.finding_info, message.evidences[0].data
    known = data.get("known") or {}
    return TrackedFinding(
        uid=info.uid,
        revision=int(message.metadata.uid.rpartition("-")[2]),
        detection=info.analytic.uid,
        title=info.title,
        summary=message.message[:2000],
        severity=message.severity_id - 1,
        score=message.risk_score,
        session=message.actor.session.uid or data.get("session_uid", ""),
        first=info.first_seen_time,
        last=info.last_seen_time,
        count=message.count,
        detected_at=message.time,
        status=_STATUS.get(message.status_id, ""),
        is_alert=message.is_alert,
        suppressed_by=message.unmapped.suppressed_by,
        before=_context(data.get("before"), known.get("before")),
        after=_context(data.get("after"), known.get("after")),
    )


def _context(context: dict[str, Any] | None, known: Sequence[str] | None) -> ObservedContext | None:
    """Return a side of the evidence, see `worker.detections.evidence.context_evidence`."""
    if not context:
        return None
    said = context.get
    network = Network(said("ip", ""), 0, "", said("asn", 0), said("as_org", ""), said("network_kind", ""))
    place = Place(said("country", ""), said("city", ""), None, None, 0.0, "")
    device = Device(said("ua_family", ""), said("ua_major", 0), said("os_family", ""), said("os_major", ""), "", False)
    return ObservedContext(
        network.ip,
        network.asn,
        network_name(network),
        network.kind,
        place.country,
        place_name(place) if place.country or place.city else "",
        device_name(device)[:200] if device.browser else "",
        -1 if known is None else sum(_BITS.get(part, 0) for part in known),
    )
