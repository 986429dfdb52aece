"""`use-after-expiry`: a session is used after its expiry."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import duration_name, network_name


class UseAfterExpiry(Parameters):
    """`use-after-expiry` has no parameters; the skew is a setting of the state."""


def detect(view: View, _parameters: UseAfterExpiry) -> Signal | None:
    """Flag activity later than the effective expiry plus skew, unless the session was authenticated anew."""
    session = view.session
    if session is None or not session.expires or view.context.created_at > max(session.created, session.expires):
        return None
    late = view.activity - session.expires
    if late <= view.limits.clock_skew:
        return None
    return Signal(
        summary=(
            f"session was used from {network_name(view.context.network)} {duration_name(late)} after it had expired"
        ),
        observed={"activity_time": view.activity, "late_ms": late},
        expected={"expires_at": session.expires, "max_age_minutes": session.max_age_minutes},
        before=view.before,
    )


DETECTION = Detection(
    id="use-after-expiry",
    title="Expired session used",
    description=(
        "A session was used later than its expiry allows: its maximum age after the last use or the creation, by the "
        "tenant's policy. Whoever accepts it does not enforce expiry, or the session store was changed to let an old "
        "session live."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=(Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),),
    false_positives=("A refresh that was lost on its way, so that the last known use is older than the real one.",),
    runbook=(
        "Check whether events of the session's last hours are missing (late events, gaps in the topic).",
        "Find the service that accepted the session, and why it did not check the expiry.",
        "If the network or device is not the user's, revoke the session and treat it as stolen.",
    ),
    sources=("OWASP Session Management Cheat Sheet: idle timeout.", "NIST SP 800-63B-4 section 5.2."),
    triggers=Trigger.EXPIRED,
    parameters=UseAfterExpiry(),
    detect=detect,
    invariant=True,
)
