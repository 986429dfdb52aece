"""`user-at-risk`: findings of several sessions of a user together exceed the tenant's risk threshold."""

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
    """Least number of sessions at risk; with fewer, `session-at-risk` is enough."""


def detect(view: View, parameters: UserAtRisk) -> Signal | None:
    """Return a signal with the sessions that put the user at risk and their recent findings."""
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
    """Return the user's findings within the allowed lateness, oldest first.

    These are certainly in the state, whatever the order of arrival.
    """
    since = view.now - view.limits.allowed_lateness
    found = (each for each in view.user.open_findings.values() if each.last >= since)
    parts = (each for each in found if not each.suppressed_by and each.detection not in _SUMS)
    return sorted(parts, key=lambda each: (each.first, each.detection, each.session, each.subject))


DETECTION = Detection(
    id="user-at-risk",
    title="User at risk",
    description=(
        "Each finding raises the risk of its user, from 0 to 100, as it raises that of its session. The risk halves "
        "every four hours. An attacker with a password or a mailbox opens one session after another, and each of them "
        "is a little unusual. If the findings of at least two sessions together exceed the tenant's threshold, this "
        "finding names them."
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
        "Read the parts in the evidence, and the user's findings of the last 4 hours in order of time.",
        "Identify the user's own sessions by network and device, and end the others.",
        "Reset the user's credentials, and check recoveries and enrolments of the last 24 hours.",
    ),
    sources=(
        "Microsoft Entra ID Protection: user risk; Okta Identity Threat Protection: entity risk level.",
        "OpenID CAEP and RISC: signals about a user rather than a session.",
    ),
    triggers=Trigger.USER_RISK,
    parameters=UserAtRisk(),
    detect=detect,
)
