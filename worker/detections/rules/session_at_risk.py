"""`session-at-risk`: what was found of a session adds up."""

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
    """Risk from which it is critical."""
    parts: int = 2
    """Different detections of medium severity or above that cast doubt on who holds the session."""


def detect(view: View, parameters: SessionAtRisk) -> Signal | None:
    """Name the findings that took the risk over the threshold, those of the last hours among them."""
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
    """Return the findings of the session that are surely remembered, whatever the order of arrival; oldest first."""
    since, uid = view.now - view.limits.allowed_lateness, view.context.uid
    groups = (group for group in view.user.open_findings.values() if group.last >= since)
    own = (group for group in groups if view.contexts[group.context].uid == uid)
    return sorted(own, key=lambda group: (group.first, group.detection, group.subject))


DETECTION = Detection(
    id="session-at-risk",
    title="Session at risk",
    description=(
        "Findings add to a risk between 0 and 100 of their session, each by its share of what is missing to 100, "
        "which halves every four hours. Where several weaker signs of different kinds meet in one session, their sum "
        "says what none of them says alone: this finding names its parts and is the one to begin with. It takes two "
        "different detections that cast doubt on who holds the session; what is new or against a policy is no part."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=(Attack("T1539", "Steal Web Session Cookie"), Attack("T1078", "Valid Accounts")),
    false_positives=(
        "A journey with a new device: change of network, place and device within hours, each of them benign.",
        "Penetration tests and red teams.",
    ),
    runbook=(
        "Read the parts in the evidence, and the session's findings of the last 4 hours in their order.",
        "Revoke the session when network and device both changed, or when the user does not recognise them.",
        "Raise the tenant's threshold, or tune the parts, if they turn out to be benign again and again.",
    ),
    sources=(
        "Okta Identity Threat Protection: session risk; Microsoft Entra ID Protection: risk detections add up.",
        "Noisy or: risk += (100 - risk) x score / 100.",
    ),
    triggers=Trigger.RISK,
    parameters=SessionAtRisk(),
    detect=detect,
)
