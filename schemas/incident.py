"""`Incident`: all findings of one user that belong together (OCSF 1.x Incident Finding, class 2005).

The worker publishes an incident in full on the incidents topic each time its state changes. `Incident.message` encodes
such a message, `decode_incident` decodes it. OCSF field meanings follow
https://schema.ocsf.io/classes/incident_finding.
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
    """State of an incident. It depends only on the findings, not on the order in which they arrived."""

    OPEN = "open"
    """No event after the first one raised the severity or added another detection."""
    UPDATED = "updated"
    """A later event raised the severity or added another detection."""
    RESOLVED = "resolved"
    """See `Resolution`."""


class Resolution(StrEnum):
    """Why an incident is resolved."""

    NONE = ""
    QUIET = "quiet"
    """No further alerting finding came within `incident.quiet_minutes`."""
    WITHDRAWN = "withdrawn"
    """All of its alerting findings were closed or suppressed because of late records."""
    FALSE_POSITIVE = "false-positive"
    """All of its alerting findings were marked as false positives, or closed or suppressed."""
    MERGED = "merged"
    """A late finding joined it to the incident `merged_into`."""


IN_PROGRESS = 2
INCIDENT_STATUS_ID = {IncidentState.OPEN: 1, IncidentState.UPDATED: IN_PROGRESS, IncidentState.RESOLVED: 4}
"""OCSF `status_id` of an Incident Finding."""
INCIDENT_STATUS = {1: "New", 2: "In Progress", 4: "Resolved"}
"""OCSF `status`: the caption of `status_id`."""


class Side(StrEnum):
    """Who probably used a network, place and device."""

    USER = "user"
    """The user's baseline contains it."""
    INTRUDER = "intruder"
    """The user's baseline does not contain it, and a session of the user is used from it."""
    UNKNOWN = "unknown"
    """The findings do not show who."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A network, place and device from which an event came. Text is for people; empty when it is unknown.

    Attributes:
        network: e.g. `203.0.113.7 (AS64500 Example ISP, hosting)`.
        place: e.g. `Paris, FR`.
        device: e.g. `Chrome 131 on Windows 10`.
        side: who probably used it.
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
        summary: what was seen and what was expected.
        status: `new`, `updated`, `suppressed` or `closed`, see `schemas.finding.Status`.
        is_alert: whether it counts towards the incident's severity and risk.
        false_positive: whether an analyst marked it as a false positive.
        suppressed_by: why it is suppressed.
        is_covered: whether it is suppressed only because another finding covers it.
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
    """One event of an incident: its findings, and what changed.

    Attributes:
        time: event time, milliseconds.
        text: one sentence for people, with the side, network, place and device.
        what: the sentence without network, place and device, which are in `before` and `after`; empty when these are
            None.
        findings: ids of the findings whose first occurrence is this event.
        before, after: what the session changed from and to; None when the findings do not contain it.
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
        uid: 32 hex digits. The same cause always has the same uid; see `incident_uid`.
        revision: grows with every state of the same uid, also after crashes and redeliveries. A receiver that has
            processed a revision ignores messages whose revision is not higher.
        activity: CREATE when this uid is published for the first time, CLOSE when the incident is resolved, else
            UPDATE. A late or new finding can reopen a resolved incident; this is an UPDATE.
        merged_into: uid of the incident that this one was merged into; empty for others.
        user_id: empty when the findings are not about one user; then `subject` names the network or client.
        key: key of the incident when it is not about one user; feedback on it names this key.
        title: one sentence: who, what, from where to where, since when.
        severity: highest severity of its alerting findings.
        risk_score: the combined scores of its alerting findings, 0 to 100.
        findings: alerting findings first, the most severe first; at most as many as the settings allow.
        finding_count: number of findings, including those left out.
        leading: detection of the finding that `title` and `runbook` come from.
        detections: detections of the alerting findings, the leading one first.
        suppressed: findings that were suppressed or closed, with the reasons.
        acknowledged_at: when feedback first said that the incident is under investigation or confirmed; 0 for none.
        acknowledged_by: author of that feedback; empty when it has none.
        not_judged: what could not be judged, and why, one sentence each.
        runbook: steps of the leading finding.
        started_at, last_event_at: event times of the first and last occurrence of its findings.
        detected_at: timestamp of the record that caused this state.
        resolved_at: when the incident was resolved.
        timeline: entries in order of time. If there are too many, the first and the last ones are kept, and
            `timeline_omitted` is the number of the others.
        sessions: uids of the sessions. `sightings`: all networks, places and devices, with their sides.
        networks, devices, places: the sightings as text, each once.
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
        """Whether the incident is resolved."""
        return self.state is IncidentState.RESOLVED

    def ocsf(self) -> dict[str, Any]:
        """Return the OCSF Incident Finding; `unmapped` contains the incident in full."""
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
    """Return the incident in a message of the incidents topic.

    Raises:
        msgspec.DecodeError: the message does not contain an incident.
    """
    return _decode(message).unmapped


def incident_uid(tenant_id: str, owner: str, anchor: str) -> str:
    """Return the id of an incident: 32 hex digits.

    Args:
        tenant_id: the tenant.
        owner: the user, or the network for incidents without a user.
        anchor: session of the first alerting finding, or the id of the finding if it has no session. All findings of a
            session belong to one incident, so the id does not depend on which of them arrived first.
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
