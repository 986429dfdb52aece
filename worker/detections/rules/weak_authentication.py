"""`weak-authentication`: a session shows no second factor where the tenant asks for one."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.sessions.strength import strength


class WeakAuthentication(Parameters):
    """Parameters of `weak-authentication`; when MFA is asked for is in the tenant's policy."""

    least: int = 2
    """Strength from which a method is a second factor: 2 by telephone, 3 one-time codes, 4 security keys."""


def detect(view: View, parameters: WeakAuthentication) -> Signal | None:
    """Hold the methods against what the policy asks for; omitted ones are unknown."""
    context = view.context
    if context.session_type == "service" or context.amr is None:
        return None
    asked = _asked_by(view)
    if not asked or (shown := strength(context.amr)) >= parameters.least:
        return None
    methods = " ".join(context.amr) or "no method"
    return Signal(
        subject=asked,
        summary=f"session shows {methods}, and the tenant's policy asks for MFA {asked}",
        observed={"amr": list(context.amr), "strength": shown},
        expected={"strength": parameters.least, "asked": asked},
        before=view.before,
    )


def _asked_by(view: View) -> str:
    """Say for what the policy asks for MFA; `""` when it does not."""
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
        "The tenant's policy asks for multi-factor authentication, always or for certain scopes, and the methods of "
        "an interactive session show none. Either the identity provider has a gap, or somebody found the door that "
        "needs a password only. Sessions that do not tell their methods are not judged."
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
    sources=("RFC 8176: amr values.", "NIST SP 800-63B: second factors.", "Panther: sign-in without MFA."),
    triggers=Trigger.START | Trigger.GRANT,
    parameters=WeakAuthentication(),
    detect=detect,
    needs=("amr",),
)
