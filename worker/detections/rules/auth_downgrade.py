"""`auth-downgrade`: a session shows weaker authentication than before, or than the user's usual."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import other_device, other_system
from worker.detections.familiarity import is_known_device, is_known_network
from worker.sessions.baseline import device_key
from worker.sessions.strength import strength

if TYPE_CHECKING:
    from worker.sessions.state import Session


class AuthDowngrade(Parameters):
    """Parameters of `auth-downgrade`."""

    usual_after: int = 5
    """Sessions of known strength after which there is a usual."""
    shown: int = 2
    """Earlier sessions with the same device that showed the same strength: then it is usual there."""


def detect(view: View, parameters: AuthDowngrade) -> Signal | None:
    """Within a session hold the strength against its start; at a start against what is usual with the device."""
    now = strength(view.context.amr)
    if now < 0:
        return None
    if view.session is not None:
        return _within(view, view.session, now)
    client = device_key(view.context.device)
    known = view.user.baseline.clients.get(client, [])
    if known.count(now) >= parameters.shown:
        return None
    own = usual_strength(known, parameters.usual_after)
    usual = usual_strength(view.user.baseline.strengths, parameters.usual_after) if own is None else own
    if usual is None or now >= usual:
        return None
    severity = Severity.LOW if own is None and _is_at_home(view) else Severity.MEDIUM
    return _signal(view, severity, "usual", now, usual, "the user's usual", f"{client} {now}")


def _is_at_home(view: View) -> bool:
    """Tell whether device and network of the sign-in are the user's own."""
    return is_known_device(view, view.context.device) and is_known_network(view, view.context.network)


def _within(view: View, session: Session, now: int) -> Signal | None:
    """A step-up that ends is the base again, and nobody authenticates at a refresh that names no method."""
    before, after = view.before, view.context
    if not after.amr or now >= session.strength or after.created_at > session.created > 0:
        return None
    moved = before is not None and bool(
        (other_system(before.network, after.network) and not is_known_network(view, after.network))
        or other_device(before.device, after.device)
    )
    if now >= session.base and not moved:
        return None
    return _signal(view, Severity.HIGH, "session", now, session.strength, "what the session had shown", "")


def _signal(view: View, severity: Severity, subject: str, now: int, expected: int, than: str, once: str) -> Signal:
    methods = " ".join(view.context.amr or ()) or "none"
    return Signal(
        severity=severity,
        subject=subject,
        summary=f"authentication ({methods}, strength {now}) is weaker than {than} (strength {expected})",
        observed={"amr": list(view.context.amr or ()), "strength": now},
        expected={"strength": expected},
        before=view.before,
        once=once,
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
