"""The message of an incident: its schema, and that reading it gives what was written."""

from __future__ import annotations

from typing import Any

import jsonschema
import msgspec
import pytest

from schemas.finding import Activity, Attack, Severity
from schemas.incident import (
    Incident,
    IncidentFinding,
    IncidentState,
    Side,
    Sighting,
    TimelineEntry,
    decode_incident,
    incident_uid,
)  # fmt: skip
from schemas.jsonschema import documents


def incident(**changes: Any) -> Incident:
    finding = IncidentFinding(
        uid="f" * 32, detection="session-hijack", title="Session taken over", summary="s", severity=Severity.HIGH,
        risk_score=73, session_uid="s1", first_time=1, last_time=2, count=1, status="new", is_alert=True,
    )  # fmt: skip
    entry = TimelineEntry(
        time=1, session_uid="s1", severity=Severity.HIGH, text="t", detections=("session-hijack",),
        findings=(finding.uid,), after=Sighting(ip="192.0.2.1", side=Side.INTRUDER),
    )  # fmt: skip
    values: dict[str, Any] = {
        "uid": "a" * 32, "revision": 3, "activity": Activity.CREATE, "state": IncidentState.OPEN, "tenant_id": "acme",
        "user_id": "u", "title": "t", "severity": Severity.HIGH, "risk_score": 73, "started_at": 1, "last_event_at": 2,
        "detected_at": 3, "leading": "session-hijack", "runbook": ("a",), "detections": ("session-hijack",),
        "attacks": (Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),),
        "finding_count": 1, "findings": (finding,), "timeline": (entry,), "sessions": ("s1",),
    }  # fmt: skip
    return Incident(**{**values, **changes})


@pytest.mark.parametrize("state", IncidentState)
def test_a_message_fits_the_published_schema(state: IncidentState) -> None:
    schema = documents()["incident.schema.json"]
    jsonschema.Draft202012Validator.check_schema(schema)
    message = msgspec.json.decode(incident(state=state).message())
    jsonschema.validate(message, schema)
    assert message["type_uid"] == 200501


def test_reading_a_message_gives_the_incident() -> None:
    assert decode_incident(incident().message()) == incident()
    with pytest.raises(msgspec.DecodeError):
        decode_incident(b"{}")


def test_the_id_depends_on_tenant_owner_and_anchor() -> None:
    ids = {incident_uid(*parts) for parts in (("t", "u", "s"), ("t", "u", "r"), ("t", "v", "s"), ("x", "u", "s"))}
    assert len(ids) == 4
