"""`auth-downgrade`: the authentication of a session is weaker than before, or than the user's usual one."""

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
    """Number of sessions with known strength from which there is a usual strength."""
    shown: int = 2
    """Number of earlier sessions with the same device and strength from which this strength is usual on the device."""


def detect(view: View, parameters: AuthDowngrade) -> Signal | None:
    """Compare the strength with that of the session so far; at a sign-in, with the usual one on the device."""
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
    """Return whether the sign-in comes with a known device on a known network, or from a usual place of the user."""
    own = is_known_device(view, view.context.device) and is_known_network(view, view.context.network)
    return own or (is_usual_spot(view, view.context) and not hidden(view.context))


def _is_to_one_factor(now: int, before: int) -> bool:
    """Return whether the strength fell to fewer factors, or to a secret alone, and not just to a weaker method.

    Many identity providers list only the last method: a code alone was most often a second factor.
    """
    return now == NONE or now < TWO_FACTORS <= before or now == KNOWN_SECRET < CODE <= before


def _within(view: View, session: Session, now: int) -> Signal | None:
    """Compare with the strength at the session's start; on a new network or another device, with its strongest one.

    So the end of a step-up on the same device and network is not a downgrade.
    """
    before, after = view.before, view.context
    if before is None:
        return None
    roamed = other_network(before.network, after.network) and not is_known_network(view, after.network)
    moved = roamed or other_device(before.device, after.device)
    expected = session.strength if moved else session.base
    if now >= expected:
        return None
    # A single code on the same device and network is the factor that was asked for again.
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
    """Return the most frequent of the last strengths, the lower one of equals; None if there are fewer than `after`."""
    if len(strengths) < after:
        return None
    return max(sorted(Counter(strengths).items()), key=lambda item: item[1])[0]


DETECTION = Detection(
    id="auth-downgrade",
    title="Weaker authentication than before",
    description=(
        "The authentication of a running session became weaker, or a new session uses weaker methods than usual for "
        "the user. Phishing kits force a fallback to methods that can be relayed, and stolen passwords give only one "
        "factor. A fall to one factor is high within a session and medium at its start; a fall to a weaker second "
        "factor is low. A code alone on the session's own device and network is low, because many providers list only "
        "the last method. The usual strength is that of sessions with the same device. If the device has none yet, the "
        "finding is low with a known device on a known network, or at a place known for a day. Within sessions of one "
        "device of the user, a fall that keeps coming back is raised for a day only."
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
