"""The sample incident of `sessionwatch alerts test`: made up, and says so."""

from __future__ import annotations

from schemas.finding import Activity, Attack, Severity
from schemas.incident import Incident, IncidentFinding, IncidentState, Side, Sighting, TimelineEntry

HOUR = 3_600_000
_HOME = Sighting(
    ip="198.51.100.24", network="198.51.100.24 (AS64496 Example Telecom, isp)", asn=64_496, network_kind="isp",
    country="FR", place="Lyon, FR", device="Firefox 140 on Linux", side=Side.USER,
)  # fmt: skip
_AWAY = Sighting(
    ip="203.0.113.80", network="203.0.113.80 (AS64511 Example Hosting, hosting)", asn=64_511, network_kind="hosting",
    country="SG", place="Singapore, SG", device="a scripted client (curl 8)", side=Side.INTRUDER,
)  # fmt: skip


def sample_incident(now: int, severity: Severity = Severity.CRITICAL) -> Incident:
    """Return a made-up incident at a time, in milliseconds; its id depends on that time."""
    began = now - HOUR // 4
    finding = IncidentFinding(
        uid=f"{now:032x}",
        detection="session-hijack",
        title="Session used by somebody else",
        summary="from Lyon, FR to Singapore, SG, 10,780 km in 15 minutes: 43,120 km/h",
        severity=severity,
        risk_score=99,
        session_uid="sample-session",
        first_time=began,
        last_time=now,
        count=3,
        status="new",
        is_alert=True,
    )
    moment = TimelineEntry(
        time=began,
        session_uid="sample-session",
        severity=severity,
        text="The session of Firefox in Lyon is used by a scripted client in Singapore",
        detections=("session-hijack",),
        findings=(finding.uid,),
        before=_HOME,
        after=_AWAY,
    )
    return Incident(
        uid=f"{now:032x}",
        revision=1,
        activity=Activity.CREATE,
        state=IncidentState.OPEN,
        tenant_id="sample-tenant",
        user_id="sample.user",
        title="TEST of alert delivery: a session of sample.user moved from Lyon, FR to Singapore, SG",
        severity=severity,
        risk_score=99,
        started_at=began,
        last_event_at=now,
        detected_at=now,
        leading="session-hijack",
        runbook=(
            "Nothing: this is a test of alert delivery, and nothing happened.",
            "If this had been real: end the session, and ask the user through a channel you trust.",
        ),
        detections=("session-hijack",),
        attacks=(Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),),
        finding_count=1,
        findings=(finding,),
        timeline=(moment,),
        sessions=("sample-session",),
        sightings=(_HOME, _AWAY),
        networks=(_HOME.network, _AWAY.network),
        devices=(_HOME.device, _AWAY.device),
        places=(_HOME.place, _AWAY.place),
    )
