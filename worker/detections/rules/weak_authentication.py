"""`weak-authentication`: a session shows no second factor although the tenant's policy requires one."""

from __future__ import annotations

from schemas.vocabulary import TWO_FACTORS, UNKNOWN
from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View


class WeakAuthentication(Parameters):
    """Parameters of `weak-authentication`; the tenant's policy says when MFA is required."""

    least: int = TWO_FACTORS
    """Lowest sufficient strength: 4 two factors, 5 with application, token or biometric, 6 phishing-resistant."""


def detect(view: View, parameters: WeakAuthentication) -> Signal | None:
    """Compare the methods with what the policy requires. Unknown methods are not judged."""
    shown = view.strength
    if shown == UNKNOWN or shown >= parameters.least:
        return None
    asked = _asked_by(view)
    if not asked or view.is_machine():
        return None
    amr = view.context.amr or ()
    return Signal(
        subject=asked,
        summary=f"session shows {' '.join(amr) or 'no method'}, and the tenant's policy asks for MFA {asked}",
        observed={"amr": list(amr), "strength": shown},
        expected={"strength": parameters.least, "asked": asked},
        before=view.before,
    )


def _asked_by(view: View) -> str:
    """Return the condition under which the policy requires MFA for this event, as text; `""` when it does not."""
    policy = view.policy
    if policy.mfa == "always":
        return "always"
    if policy.mfa != "scopes":
        return ""
    sensitive = sorted(set(policy.mfa_scopes).intersection(view.context.scopes or ()))
    return f"for {' '.join(sensitive)}" if sensitive else ""


DETECTION = Detection(
    id="weak-authentication",
    title="No second factor shown",
    description=(
        "The tenant's policy requires multi-factor authentication, always or for certain scopes, and the methods of a "
        "person's session show at most one factor. Two factors are two different kinds of something known, held or "
        "inherent; a key bound to the origin counts as both. Either the identity provider has a gap, or an attacker "
        "found a sign-in that requires only a password. Methods that are omitted, unknown or another provider's are "
        "not judged."
    ),
    severity=Severity.MEDIUM,
    score=47,
    scope=Scope.SESSION,
    attacks=(Attack("T1078", "Valid Accounts"), Attack("T1556.006", "Modify Authentication Process: MFA")),
    false_positives=(
        "An identity provider that lists only the last method of several.",
        "Users within the grace period of their MFA enrolment.",
    ),
    runbook=(
        "Check in the identity provider which rule let the session through without a second factor.",
        "Look for the same gap in the user's and the client's sessions of the last 24 hours.",
        "Revoke the session and ask for a second factor.",
    ),
    sources=(
        "RFC 8176: amr values; the other vocabularies are named in schemas/vocabulary.py.",
        "NIST SP 800-63B-4: two different kinds of factors.",
        "Panther: sign-in without MFA.",
    ),
    triggers=Trigger.START | Trigger.GRANT,
    parameters=WeakAuthentication(),
    detect=detect,
    casts_doubt=False,
    needs=("amr",),
)
