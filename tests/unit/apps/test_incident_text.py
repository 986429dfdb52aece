from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.finding import Activity, Severity
from schemas.incident import Incident, IncidentFinding, IncidentState, Resolution
from worker.apps.incident_text import as_line, as_text

T0 = 1_760_000_000_000


def finding(severity: Severity) -> IncidentFinding:
    return IncidentFinding(
        uid=f"{int(severity):032x}", detection="ip-change", title="T", summary="S", severity=severity, risk_score=50,
        session_uid="s", first_time=T0, last_time=T0, count=1, status="open", is_alert=True,
    )  # fmt: skip


INCIDENT = Incident(
    uid="4acfdc846b84" + "0" * 20, revision=1, activity=Activity.CREATE, state=IncidentState.OPEN,
    resolution=Resolution.NONE, merged_into="", tenant_id="acme", user_id="alice", subject="", key="k",
    title="alice: moved", severity=Severity.CRITICAL, risk_score=90, started_at=T0, last_event_at=T0, detected_at=T0,
    resolved_at=0, leading="ip-change", runbook=("Call the user.",), detections=("ip-change",), attacks=(),
    finding_count=2, findings=(finding(Severity.HIGH), finding(Severity.CRITICAL)),
)  # fmt: skip


def changed(**values: Any) -> Incident:
    return msgspec.structs.replace(INCIDENT, **values)


def test_the_text_names_the_commands_that_acknowledge_and_dismiss() -> None:
    text = as_text(INCIDENT)
    assert f"Acknowledge: `sessionwatch feedback {INCIDENT.uid} investigating`" in text
    assert f"False alarm: `sessionwatch feedback {INCIDENT.uid} false-positive`" in text


def test_an_acknowledged_incident_says_by_whom() -> None:
    incident = changed(acknowledged_at=T0, acknowledged_by="bob")
    assert "Acknowledge:" not in as_text(incident)
    assert "by bob" in as_text(incident)
    assert "[ack bob] alice: moved" in as_line(incident)
    assert "ack" not in as_line(INCIDENT)


def test_a_resolved_incident_needs_no_command() -> None:
    text = as_text(changed(state=IncidentState.RESOLVED, resolution=Resolution.QUIET, resolved_at=T0))
    assert "sessionwatch feedback" not in text


@pytest.mark.parametrize(("last", "said"), [(T0, "08:53:20 UTC"), (T0 + 1000, "08:53:20 to 2025-10-09 08:53:21 UTC")])
def test_one_moment_is_shown_once(last: int, said: str) -> None:
    (line,) = [line for line in as_text(changed(last_event_at=last)).splitlines() if line.startswith("Time ")]
    assert line == f"Time       2025-10-09 {said}"


def test_findings_are_in_the_order_of_their_severity() -> None:
    text = as_text(INCIDENT)
    assert text.index("critical      ip-change") < text.index("high          ip-change")
