"""`use-after-revocation`: a session is used, or comes back, after it was deleted."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import duration_name, network_name


class UseAfterRevocation(Parameters):
    """`use-after-revocation` has no parameters; the grace is a setting of the state."""


def detect(view: View, _parameters: UseAfterRevocation) -> Signal | None:
    """Flag activity, or a change that takes the deletion back, later than the deletion plus the grace.

    The session's record may say that it is deleted all the same: then a service honoured no revocation.
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
        "A session was used after it had been deleted, or its deletion was taken back. Revocation is how people are "
        "logged out after a theft: a session that survives it is in the wrong hands or on a service that does not "
        "check."
    ),
    severity=Severity.CRITICAL,
    score=99,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),
        Attack("T1078", "Valid Accounts"),
    ),
    false_positives=("A service that caches sessions for longer than the grace of 30 seconds.",),
    runbook=(
        "Find the service that accepted the session after the revocation time in the evidence; block it there.",
        "Ask who revoked the session and why: a log-out after a reported theft makes this an incident.",
        "Review what the session did since its revocation, and the user's other sessions of the last 7 days.",
    ),
    sources=("OWASP Session Management Cheat Sheet: session invalidation.", "RFC 7009: revocation is immediate."),
    triggers=Trigger.ENDED,
    parameters=UseAfterRevocation(),
    detect=detect,
    invariant=True,
)
