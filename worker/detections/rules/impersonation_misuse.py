"""`impersonation-misuse`: a session in which staff acts as a user is used in an unusual way."""

from __future__ import annotations

from schemas.vocabulary import SessionClass
from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import other_device, other_system
from worker.detections.evidence import device_name, network_name
from worker.enrich.model import NetworkKind

_OUTSIDE = frozenset({NetworkKind.HOSTING, NetworkKind.TOR, NetworkKind.VPN})


class ImpersonationMisuse(Parameters):
    """Parameters of `impersonation-misuse`."""

    max_minutes: float = 720.0
    """Longest allowed lifetime of an impersonation session, in minutes."""


def detect(view: View, parameters: ImpersonationMisuse) -> Signal | None:
    """Flag an impersonation that moves, comes through an anonymiser, has sensitive scopes, or lasts too long."""
    if view.session_class is not SessionClass.IMPERSONATION:
        return None
    reasons = {**_moves(view), **_circumstances(view, parameters)}
    if not reasons:
        return None
    return Signal(
        severity=max(reasons.values()),
        subject=" ".join(sorted(reasons)),
        summary=(
            f"impersonation of the user {', '.join(sorted(reasons))}: {device_name(view.context.device)} at "
            f"{network_name(view.context.network)}"
        ),
        observed={"reasons": sorted(reasons), "scopes": list(view.context.scopes or ())},
        expected={"max_minutes": parameters.max_minutes, "sensitive_scopes": 0},
        before=view.before,
    )


def _moves(view: View) -> dict[str, Severity]:
    """Return how an impersonation moved away from the device and network on which it began."""
    before, after = view.before, view.context
    if before is None:
        return {}
    changed = [
        *(["device"] if other_device(before.device, after.device) else ()),
        *(["network"] if other_system(before.network, after.network) else ()),
    ]
    if not changed:
        return {}
    severity = Severity.CRITICAL if len(changed) > 1 else Severity.HIGH
    return {f"moved to another {' and '.join(changed)}": severity}


def _circumstances(view: View, parameters: ImpersonationMisuse) -> dict[str, Severity]:
    """Return the problems that an impersonation has at its start or that this event adds."""
    context, before, found = view.context, view.before, {}
    if context.network.kind in _OUTSIDE and (before is None or before.network.kind != context.network.kind):
        is_tor = context.network.kind == NetworkKind.TOR
        found["through an anonymiser"] = Severity.HIGH if is_tor else Severity.MEDIUM
    gained = set(context.scopes or ()) - set(view.session.scopes or () if view.session else ())
    if gained & set(view.policy.sensitive_scopes):
        found["with sensitive scopes"] = Severity.MEDIUM
    age, known = context.max_age_minutes, view.session and view.session.max_age_minutes
    if age and age > parameters.max_minutes and age != known:
        found["of a long lifetime"] = Severity.LOW
    return found


DETECTION = Detection(
    id="impersonation-misuse",
    title="Impersonation misused",
    description=(
        "A session in which an administrator or supporter acts as the user moves to another device or network, comes "
        "through an anonymiser, has sensitive scopes, or lasts longer than half a day. Impersonation is meant for "
        "seeing what the user sees, from the workplace where it began. With the stolen account of a supporter, it "
        "gives an attacker access to every user."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1134.001", "Access Token Manipulation: Token Impersonation/Theft"),
        Attack("T1078", "Valid Accounts"),
    ),
    false_positives=(
        "A supporter who works through a VPN that the tenant's policy does not list.",
        "An application whose impersonation sessions carry all scopes of the user by design; list them otherwise.",
    ),
    runbook=(
        "Find the impersonator (in the identity provider's audit log, or `impersonator` in `meta_data`) and ask them.",
        "Look for other impersonations by the same person within 24 hours.",
        "End the session. If the impersonator does not know about it, end the impersonator's own sessions, too.",
    ),
    sources=(
        "Okta support case management incident, October 2023: stolen sessions of support staff.",
        "Keycloak IMPERSONATE events; USSO session type impersonation; OWASP ASVS 5.0, V8: administrative interfaces.",
    ),
    triggers=Trigger.START | Trigger.NETWORK | Trigger.DEVICE | Trigger.GRANT,
    parameters=ImpersonationMisuse(),
    detect=detect,
)
