"""`Finding`: the result of a detection, for ClickHouse and for the findings topic (OCSF 1.x, class 2004).

OCSF field meanings follow the Detection Finding class, https://schema.ocsf.io/classes/detection_finding.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from hashlib import blake2b
from typing import Any

import msgspec
import orjson

CLASS_UID = 2004
CATEGORY_UID = 2
OCSF_VERSION = "1.5.0"
ATTACK_VERSION = "17.0"
ANALYTIC_RULE = 1
"""OCSF `analytic.type_id`: a rule."""


class Severity(IntEnum):
    """Severity, ordered. The values are indexes into `SEVERITIES`; OCSF `severity_id` is one more."""

    INFORMATIONAL = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


SEVERITIES = ("informational", "low", "medium", "high", "critical")
SCORES = (1, 21, 47, 73, 99)
"""Base risk score of each severity (Elastic's: 21 low, 47 medium, 73 high, 99 critical)."""


class Activity(IntEnum):
    """OCSF `activity_id`."""

    CREATE = 1
    UPDATE = 2
    CLOSE = 3


class Status(StrEnum):
    """`findings.status`."""

    NEW = "new"
    UPDATED = "updated"
    SUPPRESSED = "suppressed"
    CLOSED = "closed"


STATUS_ID = {Status.NEW: 1, Status.UPDATED: 2, Status.SUPPRESSED: 3, Status.CLOSED: 4}
"""OCSF `status_id`."""
STATUS_CAPTION = {1: "New", 2: "In Progress", 3: "Suppressed", 4: "Resolved"}
"""OCSF `status`: the caption of `status_id`."""


class Attack(msgspec.Struct, frozen=True):
    """A MITRE ATT&CK technique, e.g. `T1550.004`."""

    uid: str
    name: str

    def ocsf(self) -> dict[str, Any]:
        """Return the OCSF `attack` object: the technique and, if it is one, the sub-technique."""
        technique, dot, _ = self.uid.partition(".")
        name, _, below = self.name.partition(": ")
        if not dot:
            return {"technique": {"uid": self.uid, "name": self.name}, "version": ATTACK_VERSION}
        sub_technique = {"uid": self.uid, "name": below or name}
        return {
            "technique": {"uid": technique, "name": name}, "sub_technique": sub_technique, "version": ATTACK_VERSION
        }  # fmt: skip


def finding_uid(tenant_id: str, detection: str, user_id: str, session_uid: str, subject: str, bucket: int) -> str:
    """Return the id of a finding: 32 hex digits. The same cause always has the same id.

    Args:
        tenant_id: the tenant.
        detection: the detection's id.
        user_id: the user; empty when the finding is not about one user. Two users with one session uid have two
            findings.
        session_uid: the session; empty when the finding is about the user.
        subject: what in the session or user the finding is about; may be empty.
        bucket: start of the event-time bucket, milliseconds.
    """
    parts = orjson.dumps([tenant_id, detection, user_id, session_uid, subject, bucket])
    return blake2b(parts, digest_size=16).hexdigest()


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One state of one finding.

    Attributes:
        event_time, last_event_time: first and last occurrence, milliseconds.
        detected_at: timestamp of the record that caused this state, milliseconds.
        revision: grows with every state of the same uid.
        evidence: JSON object: `observed`, `expected`, `after`, `before`, `suppressed_by`.
        shadow: whether the policy says to store it without an alert.
    """

    uid: str
    activity: Activity
    status: Status
    detection: str
    title: str
    description: str
    severity: Severity
    risk_score: int
    attacks: tuple[Attack, ...]
    runbook: tuple[str, ...]
    tenant_id: str
    user_id: str
    session_uid: str
    subject: str
    summary: str
    bucket_time: int
    event_time: int
    last_event_time: int
    detected_at: int
    count: int
    revision: int
    suppressed_by: tuple[str, ...]
    shadow: bool
    evidence: bytes
    source: tuple[str, int, int]

    def is_alert(self) -> bool:
        """Return whether it alerts: severity medium or above, and neither shadow nor suppressed nor closed."""
        quiet = self.shadow or self.status in (Status.SUPPRESSED, Status.CLOSED)
        return not quiet and self.severity >= Severity.MEDIUM

    def ocsf(self) -> dict[str, Any]:
        """Return the OCSF Detection Finding."""
        return {
            "class_uid": CLASS_UID,
            "class_name": "Detection Finding",
            "category_uid": CATEGORY_UID,
            "category_name": "Findings",
            "activity_id": int(self.activity),
            "type_uid": CLASS_UID * 100 + int(self.activity),
            "severity_id": int(self.severity) + 1,
            "severity": SEVERITIES[self.severity].capitalize(),
            "status_id": STATUS_ID[self.status],
            "status": STATUS_CAPTION[STATUS_ID[self.status]],
            "time": self.detected_at,
            "start_time": self.event_time,
            "end_time": self.last_event_time,
            "count": self.count,
            "message": self.summary,
            "risk_score": self.risk_score,
            "is_alert": self.is_alert(),
            "metadata": self._metadata(),
            "finding_info": self._finding_info(),
            **({"actor": self._actor()} if self.user_id else {}),
            "evidences": [{"data": orjson.Fragment(self.evidence)}],
            "remediation": {"desc": " ".join(f"{n}. {step}" for n, step in enumerate(self.runbook, 1))},
            "unmapped": {"suppressed_by": self.suppressed_by, "shadow": self.shadow, "subject": self.subject},
        }

    def _metadata(self) -> dict[str, Any]:
        topic, partition, offset = self.source
        return {
            "version": OCSF_VERSION,
            "profiles": ["host"],
            "product": {"name": "sessionwatch", "vendor_name": "sessionwatch"},
            "tenant_uid": self.tenant_id,
            "uid": f"{self.uid}-{self.revision}",
            "correlation_uid": self.session_uid or self.user_id,
            "log_name": topic,
            "sequence": offset,
            "labels": [f"kafka.partition:{partition}"],
        }

    def _finding_info(self) -> dict[str, Any]:
        return {
            "uid": self.uid,
            "title": self.title,
            "desc": self.description,
            "analytic": {"uid": self.detection, "name": self.title, "type_id": ANALYTIC_RULE, "type": "Rule"},
            "attacks": [attack.ocsf() for attack in self.attacks],
            "first_seen_time": self.event_time,
            "last_seen_time": self.last_event_time,
            "modified_time": self.detected_at,
        }

    def _actor(self) -> dict[str, Any]:
        actor: dict[str, Any] = {"user": {"uid": self.user_id, "org": {"uid": self.tenant_id}}}
        if self.session_uid:
            actor["session"] = {"uid": self.session_uid}
        return actor

    def message(self) -> bytes:
        """Return the JSON published to the findings topic."""
        return orjson.dumps(self.ocsf())
