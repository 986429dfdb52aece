"""`user-at-risk`: findings of several sessions of a user add up over the tenant's threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.finding import SEVERITIES
from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.sessions.risk import CONTRIBUTION, decayed

if TYPE_CHECKING:
    from worker.sessions.state import OpenFinding

_SUMS = frozenset(("session-at-risk", "user-at-risk"))


class UserAtRisk(Parameters):
    """Parameters of `user-at-risk`; the threshold is in the tenant's policy."""

    sessions: int = 2
    """Sessions whose own risk counts, below which `session-at-risk` says all there is to say."""


def detect(view: View, parameters: UserAtRisk) -> Signal | None:
    """Name the sessions that put the user at risk, and their findings of the last hours."""
    risky = _sessions_at_risk(view)
    if len(risky) < parameters.sessions:
        return None
    parts = _parts(view)
    names = ", ".join(dict.fromkeys(part.detection for part in parts))
    return Signal(
        summary=f"risk of the user reached {view.risk:.0f} of 100 over {len(risky)} sessions by {names}",
        observed={
            "risk": round(view.risk, 1),
            "sessions": risky,
            "parts": [
                {
                    "detection": part.detection,
                    "severity": SEVERITIES[part.severity],
                    "session": view.contexts[part.context].uid,
                }
                for part in parts
            ],
        },
        expected={"below": view.policy.risk_threshold},
        before=view.before,
    )


def _sessions_at_risk(view: View) -> list[str]:
    half_life = view.limits.risk_half_life
    return sorted(
        uid
        for uid, each in view.user.sessions.items()
        if each.risk and decayed(each.risk, view.now - each.risk_at, half_life) >= CONTRIBUTION
    )


def _parts(view: View) -> list[OpenFinding]:
    """Return the findings that are surely remembered, whatever the order of arrival; oldest first."""
    since = view.now - view.limits.allowed_lateness
    found = (each for each in view.user.open_findings.values() if each.last >= since)
    parts = (each for each in found if not each.suppressed_by and each.detection not in _SUMS)
    return sorted(parts, key=lambda each: (each.first, each.detection, each.session, each.subject))


DETECTION = Detection(
    id="user-at-risk",
    title="User at risk",
    description=(
        "Findings add to a risk between 0 and 100 of their user as they do to their session's, which halves every four "
        "hours. Whoever holds a password or a mailbox opens session after session, each with a little of what is "
        "unusual: when the findings of at least two sessions add up over the tenant's threshold, this finding names "
        "them. It is what alerting and shared signals go by."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.USER,
    attacks=(
        Attack("T1078", "Valid Accounts"),
        Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),
    ),
    false_positives=(
        "The first day of a journey with several devices.",
        "Penetration tests and red teams.",
    ),
    runbook=(
        "Read the parts in the evidence, and the user's findings of the last 4 hours in their order.",
        "Tell apart the user's own sessions from the others by network and device; end the others.",
        "Reset the user's credentials, and look at recovery and enrolment in the last 24 hours.",
    ),
    sources=(
        "Microsoft Entra ID Protection: user risk; Okta Identity Threat Protection: entity risk level.",
        "OpenID CAEP and RISC: signals about a user rather than a session.",
    ),
    triggers=Trigger.USER_RISK,
    parameters=UserAtRisk(),
    detect=detect,
)
