"""`session-type-change`: the class of a session changes, or is new to its user."""

from __future__ import annotations

from schemas.vocabulary import SessionClass
from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import device_name
from worker.sessions.baseline import device_key, is_interactive

_SWAPS = {SessionClass.PERSON, SessionClass.MACHINE}


class SessionTypeChange(Parameters):
    """`session-type-change` has no parameters; the classes of types are in the tenant's policy."""


def detect(view: View, _parameters: SessionTypeChange) -> Signal | None:
    """Compare the class with the session's earlier one; for a new session, with those of the user's sessions."""
    now = view.session_class
    if not view.context.session_type or now is SessionClass.UNKNOWN:
        return None
    return _new_to_user(view, now) if view.session is None else _within(view, now)


def _within(view: View, now: SessionClass) -> Signal | None:
    """Return the signal for a change within a session. It is low if, say, a recovery becomes a person's session."""
    told = view.before.session_type if view.before else None
    before = view.policy.vocabulary.session_class(told)
    if before in (SessionClass.UNKNOWN, now):
        return None
    grown = now is SessionClass.PERSON and before is not SessionClass.MACHINE
    return Signal(
        severity=Severity.LOW if grown else Severity.HIGH,
        subject=f"{before}-{now}",
        summary=f"session was of type {told} ({before}) and is now of type {view.context.session_type} ({now})",
        observed={"session_type": view.context.session_type, "class": now.value},
        expected={"session_type": told, "class": before.value},
        before=view.before,
    )


def _new_to_user(view: View, now: SessionClass) -> Signal | None:
    """Return the signal for a person's first machine session or the reverse; medium from a client that people use."""
    if now not in _SWAPS or not view.is_new_class():
        return None
    by_person = is_interactive(device_key(view.context.device))
    return Signal(
        severity=Severity.MEDIUM if by_person else Severity.LOW,
        subject=now,
        summary=(
            f"first session of type {view.context.session_type} ({now}) of this user, "
            f"from {device_name(view.context.device)}"
        ),
        observed={"session_type": view.context.session_type, "class": now.value, "interactive_client": by_person},
        expected={"session_types": sorted(word or "(not told)" for word in view.user.baseline.types)},
    )


DETECTION = Detection(
    id="session-type-change",
    title="Session of another type",
    description=(
        "The type of a session changed to another class (person, machine, recovery, impersonation, temporary), or a "
        "person has a first machine session, or a machine a first person session. The class decides which checks apply "
        "to a session, for example that of a second factor, so an attacker who can write the type can disable checks. "
        "A service account that signs in with a browser is used by a person."
    ),
    severity=Severity.MEDIUM,
    score=47,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1078", "Valid Accounts"),
        Attack("T1562.001", "Impair Defenses: Disable or Modify Tools"),
    ),
    false_positives=(
        "A developer's first API key: low, unless a browser uses it.",
        "A producer that begins to send another word for the same sessions; map it in the policy's `session_types`.",
    ),
    runbook=(
        "Find the service that wrote the type, and whether it changed other sessions in the last 24 hours.",
        "Compare the client with the type; a browser with a machine's session is used by a person.",
        "If there is no explanation, revoke the session and rotate the credential.",
    ),
    sources=(
        "USSO SessionType; Microsoft Entra ID: interactive, non-interactive and service principal sign-ins.",
        "Splunk and Elastic: interactive logon by a service account.",
    ),
    triggers=Trigger.START | Trigger.GRANT,
    parameters=SessionTypeChange(),
    detect=detect,
)
