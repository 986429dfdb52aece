"""`scope-escalation`: a session gains scopes without re-authentication."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import is_reauthenticated, other_device, other_network, other_system
from worker.detections.familiarity import is_known_device, is_known_network, is_usual_spot

if TYPE_CHECKING:
    from worker.sessions.state import Session


class ScopeEscalation(Parameters):
    """`scope-escalation` has no parameters; sensitive scopes are in the tenant's policy."""


def detect(view: View, _parameters: ScopeEscalation) -> Signal | None:
    """Hold the event's scopes against the widest set the session has had."""
    session, scopes = view.session, view.context.scopes
    if session is None or not scopes or is_reauthenticated(view):
        return None
    gained = _first_told(view, scopes) if session.scopes is None else sorted(set(scopes) - set(session.scopes))
    if not gained:
        return None
    sensitive = sorted(set(gained) & set(view.policy.sensitive_scopes))
    return Signal(
        severity=_severity(view, session, sensitive),
        subject=" ".join(gained)[:200],
        summary=f"session gained scopes without re-authentication: {' '.join(gained)[:200]}",
        observed={"gained": gained, "sensitive": sensitive},
        expected={"scopes": list(session.scopes or ())},
        before=view.before,
    )


def _severity(view: View, session: Session, sensitive: list[str]) -> Severity:
    """With one device, on one line or where the user is known for a day, it is what incremental consent looks like."""
    if sensitive:
        return Severity.MEDIUM if session.scopes is None else Severity.HIGH
    before, after = view.before, view.context
    if before is None or not is_known_device(view, after.device) or other_device(before.device, after.device):
        return Severity.MEDIUM
    moved = other_network(before.network, after.network) or other_system(before.network, after.network)
    if is_usual_spot(view, after):
        return Severity.LOW
    return Severity.MEDIUM if moved or not is_known_network(view, after.network) else Severity.LOW


def _first_told(view: View, scopes: tuple[str, ...]) -> list[str]:
    """Return the sensitive scopes that a session names after it named none, and that no session of the user had.

    What is omitted at the start is unknown: it must not be a way to gain scopes without a word.
    """
    had: set[str] = set()
    for uid, other in view.user.sessions.items():
        if uid != view.context.uid:
            had.update(other.scopes or ())
    return sorted(set(scopes) & set(view.policy.sensitive_scopes) - had)


DETECTION = Detection(
    id="scope-escalation",
    title="Session gained scopes",
    description=(
        "A session carries scopes it did not have before, without the user having authenticated again. Scopes only "
        "grow through consent or step-up; growth inside a running session is privilege escalation or consent abuse. "
        "On an unchanged device and network, or with one device where the user is known for a day, it is what "
        "incremental consent looks like, and low unless the scope is sensitive."
    ),
    severity=Severity.MEDIUM,
    score=47,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1098.003", "Account Manipulation: Additional Cloud Roles"),
        Attack("T1550.001", "Use Alternate Authentication Material: Application Access Token"),
    ),
    false_positives=("Incremental consent, where an application asks for more scopes as features are used.",),
    runbook=(
        "Read the gained scopes in the evidence and ask the owner of the client whether incremental consent is used.",
        "Look for device or network changes of the session in the 60 minutes before the gain.",
        "If nobody asked for it, revoke the session and the client's refresh tokens of the last 24 hours.",
    ),
    sources=("RFC 6749 section 6: a refresh must not widen scope.", "Microsoft Entra ID Protection: anomalous token."),
    triggers=Trigger.GRANT,
    parameters=ScopeEscalation(),
    detect=detect,
    tenant_wide=True,
)
