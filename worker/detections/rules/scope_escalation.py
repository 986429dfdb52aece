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
    """Compare the event's scopes with all scopes that the session has had."""
    session, scopes = view.session, view.context.scopes
    if session is None or not scopes or is_reauthenticated(view):
        return None
    gained = _first_listed(view, scopes) if session.scopes is None else sorted(set(scopes) - set(session.scopes))
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
    """Return low for one device, on one network or known for a day: incremental consent looks like that."""
    if sensitive:
        return Severity.MEDIUM if session.scopes is None else Severity.HIGH
    before, after = view.before, view.context
    if before is None or not is_known_device(view, after.device) or other_device(before.device, after.device):
        return Severity.MEDIUM
    moved = other_network(before.network, after.network) or other_system(before.network, after.network)
    if is_usual_spot(view, after):
        return Severity.LOW
    return Severity.MEDIUM if moved or not is_known_network(view, after.network) else Severity.LOW


def _first_listed(view: View, scopes: tuple[str, ...]) -> list[str]:
    """Return the sensitive scopes in a session's first list of scopes that no other session of the user has had.

    Scopes omitted at the start are unknown. Omitting them must not be a way to gain scopes without a finding.
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
        "A session has scopes that it did not have before, and the user did not authenticate again. Scopes grow only "
        "by consent or step-up; otherwise their growth in a running session is privilege escalation or consent abuse. "
        "On an unchanged device and network, or with one device where the user has been known for a day, the severity "
        "is low unless a scope is sensitive, because incremental consent looks the same."
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
        "Ask the owner of the client whether it uses incremental consent for the scopes in the evidence.",
        "Look for device or network changes of the session in the 60 minutes before the change of scopes.",
        "If nobody requested the scopes, revoke the session and the client's refresh tokens of the last 24 hours.",
    ),
    sources=("RFC 6749 section 6: a refresh must not widen scope.", "Microsoft Entra ID Protection: anomalous token."),
    triggers=Trigger.GRANT,
    parameters=ScopeEscalation(),
    detect=detect,
    tenant_wide=True,
)
