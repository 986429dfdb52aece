"""`use-after-revocation`: a session is used after its deletion, or its deletion is undone."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import duration_name, network_name


class UseAfterRevocation(Parameters):
    """`use-after-revocation` has no parameters; the grace is a setting of the state."""


def detect(view: View, _parameters: UseAfterRevocation) -> Signal | None:
    """Flag activity, or a change that undoes the deletion, later than the deletion plus the grace period.

    The record of the use may still say that the session is deleted: then a service ignored the revocation.
    """
    ended, grace = view.revoked_at, view.limits.revocation_grace
    if not ended:
        return None
    used, changed = view.activity - ended, view.now - ended
    if used > grace:
        how = f"was used from {network_name(view.context.network)} {duration_name(used)} after it had been revoked"
    elif view.kind == "changed" and changed > grace:
        how = f"was brought back {duration_name(changed)} after it had been revoked"
    else:
        return None
    return Signal(
        subject="used" if used > grace else "revived",
        summary=f"session {how}",
        observed={"activity_time": view.activity, "event_time": view.now},
        expected={"revoked_at": ended, "grace_ms": grace},
        before=view.before,
    )


DETECTION = Detection(
    id="use-after-revocation",
    title="Revoked session used",
    description=(
        "A session was used after it had been deleted, or its deletion was undone. Sessions are revoked after a theft, "
        "among other reasons. A session that is used afterwards is used by an attacker, or a service does not check "
        "revocations."
    ),
    severity=Severity.CRITICAL,
    score=99,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),
        Attack("T1078", "Valid Accounts"),
    ),
    false_positives=("A service that caches sessions for longer than the grace period of 30 seconds.",),
    runbook=(
        "Find the service that accepted the session after the revocation time in the evidence; block the session.",
        "Ask who revoked the session and why; if it was because of a reported theft, this is an incident.",
        "Review what the session has done since its revocation, and the user's other sessions of the last 7 days.",
    ),
    sources=("OWASP Session Management Cheat Sheet: session invalidation.", "RFC 7009: revocation is immediate."),
    triggers=Trigger.ENDED,
    parameters=UseAfterRevocation(),
    detect=detect,
    invariant=True,
)
