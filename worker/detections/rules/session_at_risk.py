"""`session-at-risk`: several findings of a session together exceed the tenant's risk threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.finding import SEVERITIES
from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.sessions.risk import CRITICAL

if TYPE_CHECKING:
    from worker.sessions.state import OpenFinding


class SessionAtRisk(Parameters):
    """Parameters of `session-at-risk`; the threshold is in the tenant's policy."""

    critical: float = CRITICAL
    """Risk from which the severity is critical."""
    parts: int = 2
    """Least number of different detections of medium severity or above that cast doubt on who holds the session."""


def detect(view: View, parameters: SessionAtRisk) -> Signal | None:
    """Return a signal with the recent findings that raised the risk over the threshold, if they suffice."""
    found = _recent(view)
    parts = [group for group in found if not group.suppressed_by and group.detection != DETECTION.id]
    if (
        len({part.detection for part in parts if part.severity >= Severity.MEDIUM and part.casts_doubt})
        < parameters.parts
    ):
        return None
    names = ", ".join(dict.fromkeys(part.detection for part in parts))
    earlier = view.session.findings - len(found) if view.session else 0
    return Signal(
        severity=Severity.CRITICAL if view.risk >= parameters.critical else Severity.HIGH,
        summary=f"risk of the session reached {view.risk:.0f} of 100 by {names}",
        observed={
            "risk": round(view.risk, 1),
            "parts": [{"detection": part.detection, "severity": SEVERITIES[part.severity]} for part in parts],
            "earlier_findings": max(earlier, 0),
        },
        expected={"below": view.policy.risk_threshold},
        before=view.before,
    )


def _recent(view: View) -> list[OpenFinding]:
    """Return the findings of the session within the allowed lateness, oldest first.

    These are certainly in the state, whatever the order of arrival.
    """
    since, uid = view.now - view.limits.allowed_lateness, view.context.uid
    groups = (group for group in view.user.open_findings.values() if group.last >= since)
    own = (group for group in groups if view.contexts[group.context].uid == uid)
    return sorted(own, key=lambda group: (group.first, group.detection, group.subject))


DETECTION = Detection(
    id="session-at-risk",
    title="Session at risk",
    description=(
        "Each finding raises the risk of its session, from 0 to 100: it reduces the distance to 100 by its score in "
        "percent. The risk halves every four hours. Several weaker findings of different kinds in one session can "
        "together show an attack. This finding names them; begin the analysis with it. It requires two different "
        "detections that cast doubt on who holds the session. Findings about something merely new or against a policy "
        "do not count for this."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=(Attack("T1539", "Steal Web Session Cookie"), Attack("T1078", "Valid Accounts")),
    false_positives=(
        "A journey with a new device: network, place and device change within hours, and each change is benign.",
        "Penetration tests and red teams.",
    ),
    runbook=(
        "Read the parts in the evidence, and the session's findings of the last 4 hours in order of time.",
        "If both network and device changed, or the user does not recognise them, revoke the session.",
        "If the parts are benign repeatedly, raise the tenant's `risk_threshold` or tune these detections.",
    ),
    sources=(
        "Okta Identity Threat Protection: session risk; Microsoft Entra ID Protection: risk detections add up.",
        "Noisy or: risk += (100 - risk) x score / 100.",
    ),
    triggers=Trigger.RISK,
    parameters=SessionAtRisk(),
    detect=detect,
)
