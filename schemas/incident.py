"""`Incident`: everything found of one user that belongs together (OCSF 1.x Incident Finding, class 2005).

An incident is published on the incidents topic in full, each time its state changes. `Incident.message` writes such a
message, `decode_incident` reads one. OCSF field meanings follow https://schema.ocsf.io/classes/incident_finding.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import Any

import msgspec
import orjson

from schemas.finding import CATEGORY_UID, OCSF_VERSION, SEVERITIES, Activity, Attack, Severity

INCIDENT_CLASS_UID = 2005
CLASS_NAME = "Incident Finding"


class IncidentState(StrEnum):
    """What an incident is at. It depends on its findings alone, not on the order in which they arrived."""

    OPEN = "open"
    """Nothing was added since the event that began it."""
    UPDATED = "updated"
    """A later event raised the severity or brought another kind of finding."""
    RESOLVED = "resolved"
    """See `Resolution`."""


class Resolution(StrEnum):
    """Why an incident is resolved."""

    NONE = ""
    QUIET = "quiet"
    """Nothing more was found within `incident.quiet_minutes`."""
    WITHDRAWN = "withdrawn"
    """Late records closed or suppressed all of its alerting findings."""
    FALSE_POSITIVE = "false-positive"
    """All of its alerting findings were marked as false positives, or closed and suppressed."""
    MERGED = "merged"
    """A late finding showed that it belongs to the incident `merged_into`."""


IN_PROGRESS = 2
INCIDENT_STATUS_ID = {IncidentState.OPEN: 1, IncidentState.UPDATED: IN_PROGRESS, IncidentState.RESOLVED: 4}
"""OCSF `status_id` of an Incident Finding."""
INCIDENT_STATUS = {1: "New", 2: "In Progress", 4: "Resolved"}
"""OCSF `status`: the caption of `status_id`."""


class Side(StrEnum):
    """Who was probably at a network, place and device."""

    USER = "user"
    """The user's history knows it."""
    INTRUDER = "intruder"
    """The user's history does not know it, and it uses a session of theirs."""
    UNKNOWN = "unknown"
    """The findings do not tell."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A network, place and device from which an event came. Text is for people; empty when it is unknown.

    Attributes:
        network: e.g. `203.0.113.7 (AS64500 Example ISP, hosting)`.
        place: e.g. `Paris, FR`.
        device: e.g. `Chrome 131 on Windows 10`.
        side: whose it probably is.
    """

    ip: str = ""
    network: str = ""
    network_kind: str = ""
    asn: int = 0
    country: str = ""
    place: str = ""
    device: str = ""
    side: Side = Side.UNKNOWN


class IncidentFinding(msgspec.Struct, frozen=True, kw_only=True):
    """A finding of an incident.

    Attributes:
        summary: what was seen against what was expected.
        status: `new`, `updated`, `suppressed` or `closed`, see `schemas.finding.Status`.
        is_alert: it counts towards the incident's severity and risk.
        false_positive: somebody marked it as one.
        suppressed_by: why it is suppressed.
        is_covered: it is suppressed only because another finding says the same.
    """

    uid: str
    detection: str
    title: str
    summary: str
    severity: Severity
    risk_score: int
    session_uid: str
    first_time: int
    last_time: int
    count: int
    status: str
    is_alert: bool
    false_positive: bool = False
    suppressed_by: tuple[str, ...] = ()
    is_covered: bool = False


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One event that matters: what was found of it, and what changed.

    Attributes:
        time: event time, milliseconds.
        text: one sentence for people, which names the side and where it was.
        what: the same without where it was: `before` and `after` say that; empty when they are None.
        findings: ids of the findings that began with it.
        before, after: what the session changed from and to; None when the findings do not tell.
    """

    time: int
    session_uid: str
    severity: Severity
    text: str
    detections: tuple[str, ...]
    findings: tuple[str, ...]
    before: Sighting | None = None
    after: Sighting | None = None
    what: str = ""


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One state of one incident. Times are milliseconds since the epoch; 0 means none.

    Attributes:
        uid: 32 hex digits, the same for the same cause whoever computes it, and when; see `incident_uid`.
        revision: grows with every state of the same uid, also after kills and redeliveries. A receiver that has told
            a revision skips what is not above it.
        activity: CREATE when this uid is published for the first time, else UPDATE, or CLOSE when it is resolved.
            A resolved incident can be opened again by a late or a new finding, as an UPDATE.
        merged_into: uid of the incident it became part of; empty for others.
        user_id: empty when the findings are about no single user; then `subject` names the network or client.
        key: where the incident is kept when it is about no single user; feedback on it names this key.
        title: one sentence: who, what, from where to where, since when.
        severity: the highest of its alerting findings.
        risk_score: the scores of its alerting findings combined, 0 to 100.
        findings: alerting ones first, the most severe first; at most as many as the settings allow.
        finding_count: how many there are, with those left out.
        leading: the detection of the finding that `title` and `runbook` come from.
        detections: kinds of the alerting findings, the leading one first.
        suppressed: findings that were suppressed or closed, and why.
        acknowledged_at: when feedback first said that somebody looks into it, or that it is right; 0 when none did.
        acknowledged_by: author of that feedback; empty when they gave no name.
        not_judged: what could not be judged, and why, one sentence each.
        runbook: steps of the leading finding.
        started_at, last_event_at: event times of the first and last occurrence among its findings.
        detected_at: timestamp of the record that brought this state about.
        resolved_at: when the state became resolved.
        timeline: in order of time; the first entries and the last when some were left out (`timeline_omitted`).
        sessions: their uids. `sightings`: every network, place and device with its side.
        networks, devices, places: the same as text, each once.
    """

    uid: str
    revision: int
    activity: Activity
    state: IncidentState
    resolution: Resolution = Resolution.NONE
    merged_into: str = ""
    tenant_id: str
    user_id: str
    subject: str = ""
    key: str = ""
    title: str
    severity: Severity
    risk_score: int
    started_at: int
    last_event_at: int
    detected_at: int
    resolved_at: int = 0
    leading: str
    runbook: tuple[str, ...]
    detections: tuple[str, ...]
    attacks: tuple[Attack, ...]
    finding_count: int
    findings: tuple[IncidentFinding, ...]
    suppressed: tuple[IncidentFinding, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()
    timeline_omitted: int = 0
    sessions: tuple[str, ...] = ()
    sightings: tuple[Sighting, ...] = ()
    networks: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    not_judged: tuple[str, ...] = ()
    acknowledged_at: int = 0
    acknowledged_by: str = ""

    @property
    def status_id(self) -> int:
        """OCSF `status_id`: an acknowledged incident is in progress."""
        number = INCIDENT_STATUS_ID[self.state]
        return IN_PROGRESS if self.acknowledged_at and number < IN_PROGRESS else number

    @property
    def is_resolved(self) -> bool:
        """Whether nobody needs to look at it any more."""
        return self.state is IncidentState.RESOLVED

    def ocsf(self) -> dict[str, Any]:
        """Render the OCSF Incident Finding; `unmapped` holds the incident in full."""
        status_id, activity = self.status_id, int(self.activity)
        return {
            "class_uid": INCIDENT_CLASS_UID,
            "class_name": CLASS_NAME,
            "category_uid": CATEGORY_UID,
            "category_name": "Findings",
            "activity_id": activity,
            "type_uid": INCIDENT_CLASS_UID * 100 + activity,
            "severity_id": int(self.severity) + 1,
            "severity": SEVERITIES[self.severity].capitalize(),
            "status_id": status_id,
            "status": INCIDENT_STATUS[status_id],
            "time": self.detected_at,
            "start_time": self.started_at,
            "end_time": self.last_event_at,
            "count": self.finding_count,
            "message": self.title,
            "metadata": {
                "version": OCSF_VERSION,
                "product": {"name": "sessionwatch", "vendor_name": "sessionwatch"},
                "tenant_uid": self.tenant_id,
                "uid": f"{self.uid}-{self.revision}",
                "correlation_uid": self.uid,
            },
            "attacks": [attack.ocsf() for attack in self.attacks],
            "finding_info_list": [_finding_info(each) for each in self.findings],
            "unmapped": msgspec.to_builtins(self),
        }

    def message(self) -> bytes:
        """Return the JSON published to the incidents topic."""
        return orjson.dumps(self.ocsf())


class _Message(msgspec.Struct, frozen=True):
    unmapped: Incident


_decode = msgspec.json.Decoder(_Message).decode


def decode_incident(message: bytes) -> Incident:
    """Return the incident of a message on the incidents topic.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _decode(message).unmapped


def incident_uid(tenant_id: str, owner: str, anchor: str) -> str:
    """Return an incident's id: 32 hex digits.

    Args:
        tenant_id: the tenant.
        owner: the user, or the network for incidents without a user.
        anchor: what its first alerting finding is about: the session, or the finding's own id when it has none. All
            findings of one session are of one incident, so that the id does not depend on which of them came first.
    """
    return blake2b(orjson.dumps(["incident", tenant_id, owner, anchor]), digest_size=16).hexdigest()


def _finding_info(finding: IncidentFinding) -> dict[str, Any]:
    return {
        "uid": finding.uid,
        "title": finding.title,
        "desc": finding.summary,
        "analytic": {"uid": finding.detection, "name": finding.title, "type_id": 1, "type": "Rule"},
        "first_seen_time": finding.first_time,
        "last_seen_time": finding.last_time,
    }
