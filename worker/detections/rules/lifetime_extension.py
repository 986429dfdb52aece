"""`lifetime-extension`: the lifetime of a session grows, or exceeds the tenant's maximum."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import is_reauthenticated


class LifetimeExtension(Parameters):
    """`lifetime-extension` has no parameters; the tenant's maximum is in its policy."""


def detect(view: View, _parameters: LifetimeExtension) -> Signal | None:
    """Compare `max_age_minutes` with the tenant's maximum and, without a new sign-in, with the session's last value."""
    age = view.context.max_age_minutes
    known = view.session.max_age_minutes if view.session else None
    if not age or (known and age <= known):
        return None
    maximum = view.policy.max_lifetime_minutes
    grew = bool(known) and not is_reauthenticated(view)
    if not grew and (maximum is None or age <= maximum):
        return None
    expected = known if grew else maximum
    reason = "grew from" if grew else "is longer than the tenant's maximum of"
    return Signal(
        subject=f"{'grew' if grew else 'maximum'} {age:g}",
        summary=f"lifetime of the session {reason} {expected:g} min: now {age:g} min",
        observed={"max_age_minutes": age},
        expected={"max_age_minutes": expected},
        before=view.before,
    )


DETECTION = Detection(
    id="lifetime-extension",
    title="Session lifetime extended",
    description=(
        "The lifetime of a session grew while it was in use, or exceeds the tenant's maximum. An attacker who can "
        "change session records can extend the lifetime of stolen sessions."
    ),
    severity=Severity.MEDIUM,
    score=47,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1098", "Account Manipulation"),
        Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),
    ),
    false_positives=(
        "A new policy that extends the sessions of a whole tenant at once.",
        "A user who chooses 'Keep me signed in' after the session began.",
    ),
    runbook=(
        "Check whether other sessions of the tenant changed alike in the last 24 hours; if so, it is a new policy.",
        "Otherwise find the service that wrote the change, and restore the lifetime or revoke the session.",
    ),
    sources=(
        "NIST SP 800-63B-4 section 5.2: reauthentication limits.",
        "OWASP Session Management Cheat Sheet: expiration.",
    ),
    triggers=Trigger.GRANT | Trigger.START,
    parameters=LifetimeExtension(),
    detect=detect,
    casts_doubt=False,
    tenant_wide=True,
)
