"""`auth-downgrade`: a session shows weaker authentication than before, or than the user's usual."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from schemas.vocabulary import CODE, KNOWN_SECRET, NONE, TWO_FACTORS, UNKNOWN
from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import hidden, is_authenticated_anew, is_same_device, other_device, other_network
from worker.detections.familiarity import is_known_device, is_known_network, is_usual_spot
from worker.sessions.baseline import device_key

if TYPE_CHECKING:
    from worker.sessions.state import Session


class AuthDowngrade(Parameters):
    """Parameters of `auth-downgrade`."""

    usual_after: int = 5
    """Sessions of known strength after which there is a usual."""
    shown: int = 2
    """Earlier sessions with the same device that showed the same strength: then it is usual there."""


def detect(view: View, parameters: AuthDowngrade) -> Signal | None:
    """Within a session hold the strength against what it showed; at a sign-in against what is usual with the device."""
    now = view.strength
    if now == UNKNOWN:
        return None
    if view.session is not None and not is_authenticated_anew(view):
        return _within(view, view.session, now)
    client = device_key(view.context.device)
    known = view.user.baseline.clients.get(client, [])
    if known.count(now) >= parameters.shown:
        return None
    own = usual_strength(known, parameters.usual_after)
    usual = usual_strength(view.user.baseline.strengths, parameters.usual_after) if own is None else own
    if usual is None or now >= usual:
        return None
    low = not _is_to_one_factor(now, usual) or (own is None and _is_at_home(view))
    severity = Severity.LOW if low else Severity.MEDIUM
    return _signal(view, severity, "usual", now, usual, "the user's usual", f"{client} {now}")


def _is_at_home(view: View) -> bool:
    """Tell whether the sign-in comes from a spot of the user's own, or with device and network of the user's own."""
    own = is_known_device(view, view.context.device) and is_known_network(view, view.context.network)
    return own or (is_usual_spot(view, view.context) and not hidden(view.context))


def _is_to_one_factor(now: int, before: int) -> bool:
    """Tell a fall to one factor, or to nothing, from a fall between methods of the same number of factors.

    Many identity providers list the last method only: a code alone most often stood for a second factor.
    """
    return now == NONE or now < TWO_FACTORS <= before or now == KNOWN_SECRET < CODE <= before


def _within(view: View, session: Session, now: int) -> Signal | None:
    """Compare with what the session began with; on a network new to the user, or another device, with its strongest.

    A step-up that ends on the same device and network is none.
    """
    before, after = view.before, view.context
    if before is None:
        return None
    roamed = other_network(before.network, after.network) and not is_known_network(view, after.network)
    moved = roamed or other_device(before.device, after.device)
    expected = session.strength if moved else session.base
    if now >= expected:
        return None
    # Who goes on where they were with a code alone has shown the factor that was asked for again.
    is_repeated_code = not moved and now >= CODE and len(after.amr or ()) == 1
    severity = Severity.HIGH if _is_to_one_factor(now, expected) and not is_repeated_code else Severity.LOW
    return _signal(view, severity, "session", now, expected, "what the session had shown", _once(view, now, expected))


def _once(view: View, now: int, expected: int) -> str:
    """Return what a fall within a session is raised once for, where the user is known by the device it happens on."""
    before, device = view.before, view.context.device
    if before is None or not is_same_device(before.device, device) or not is_known_device(view, device):
        return ""
    return f"{device_key(device)} {expected} > {now}"


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
        renewed=subject == "session",
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
        "The authentication of a session fell while it ran, or a new session shows weaker methods than the user's "
        "usual. A fall to one factor is high within a session and medium at a start, a fall from one second factor to "
        "a weaker one is low. Phishing kits and stolen passwords force people down to what can be relayed. A code "
        "alone on the session's own device and network is low: many providers list the last method only. Within "
        "sessions of one of the user's devices a fall is raised for a day, and then no more while it keeps coming "
        "back. Usual is what was shown with the same device; while nothing is usual with it, it is low on a known "
        "device and network, or where the user is known for a day."
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
    sources=(
        "RFC 8176 and the vocabularies named in schemas/vocabulary.py (method names).",
        "NIST SP 800-63B-4 (order of strength).",
        "Proofpoint: FIDO downgrade attacks.",
    ),
    triggers=Trigger.GRANT | Trigger.START,
    parameters=AuthDowngrade(),
    detect=detect,
    needs=("amr",),
)
