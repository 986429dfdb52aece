"""`auth-downgrade`: a session shows weaker authentication than before, or than the user's usual."""

from __future__ import annotations

from collections import Counter

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.sessions.strength import strength


class AuthDowngrade(Parameters):
    """Parameters of `auth-downgrade`."""

    usual_after: int = 5
    """Sessions of known strength after which there is a usual."""


def detect(view: View, parameters: AuthDowngrade) -> Signal | None:
    """Within a session hold the strength against its strongest; at a start against the user's usual."""
    now = strength(view.context.amr)
    if now < 0:
        return None
    if view.session is not None:
        return _within(view, now) if now < view.session.strength else None
    usual = usual_strength(view.user.baseline.strengths, parameters.usual_after)
    if usual is None or now >= usual:
        return None
    return _signal(view, Severity.MEDIUM, "usual", now, usual, "the user's usual")


def _within(view: View, now: int) -> Signal:
    strongest = view.session.strength if view.session else 0
    return _signal(view, Severity.HIGH, "session", now, strongest, "what the session had shown")


def _signal(view: View, severity: Severity, subject: str, now: int, expected: int, than: str) -> Signal:
    methods = " ".join(view.context.amr or ()) or "none"
    return Signal(
        severity=severity,
        subject=subject,
        summary=f"authentication ({methods}, strength {now}) is weaker than {than} (strength {expected})",
        observed={"amr": list(view.context.amr or ()), "strength": now},
        expected={"strength": expected},
        before=view.before,
    )


def usual_strength(strengths: list[int], after: int) -> int | None:
    """Return the most frequent of the last strengths (the lower of equals), None before there are `after`."""
    if len(strengths) < after:
        return None
    return max(sorted(Counter(strengths).items()), key=lambda item: item[1])[0]


DETECTION = Detection(
    id="auth-downgrade",
    title="Weaker authentication than before",
    description=(
        "The strongest authentication method of a session fell while it ran, or a new session shows weaker methods "
        "than the user's usual. Phishing kits and stolen passwords force people down to what can be relayed."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1556.006", "Modify Authentication Process: Multi-Factor Authentication"),
        Attack("T1621", "Multi-Factor Authentication Request Generation"),
    ),
    false_positives=(
        "A lost security key and a sign-in with a backup method.",
        "A client that omits methods on refresh.",
    ),
    runbook=(
        "Compare the methods in the evidence with the user's enrolments; a recent loss of a key explains a fallback.",
        "Look for a new device or network in the same session within the last 60 minutes.",
        "If unexplained, revoke the session and require re-enrolment of the second factor.",
    ),
    sources=("RFC 8176 (method names).", "NIST SP 800-63B (order of strength).", "Proofpoint: FIDO downgrade attacks."),
    triggers=Trigger.GRANT | Trigger.START,
    parameters=AuthDowngrade(),
    detect=detect,
    needs=("amr",),
)
