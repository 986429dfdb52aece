"""`use-after-expiry`: a session is used after its expiry."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import duration_name, network_name
from worker.detections.familiarity import is_settled_network
from worker.sessions.limits import MINUTE


class UseAfterExpiry(Parameters):
    """Parameters of `use-after-expiry`; the skew is a setting of the state."""

    write_minutes: float = 5.0
    """Delay with which a service may write the last use. Up to it, a use with an unchanged device is low."""


def detect(view: View, parameters: UseAfterExpiry) -> Signal | None:
    """Flag activity later than the effective expiry plus skew, unless the user signed in again."""
    session = view.session
    if session is None or not session.expires or view.context.created_at > max(session.created, session.expires):
        return None
    late = view.activity - session.expires
    if late <= view.limits.clock_skew:
        return None
    return Signal(
        severity=Severity.LOW if late <= parameters.write_minutes * MINUTE and _is_owner(view) else Severity.HIGH,
        summary=(
            f"session was used from {network_name(view.context.network)} {duration_name(late)} after it had expired"
        ),
        observed={"activity_time": view.activity, "late_ms": late},
        expected={"expires_at": session.expires, "max_age_minutes": session.max_age_minutes},
        before=view.before,
    )


def _is_owner(view: View) -> bool:
    """Return whether the device is unchanged, on the same network or another settled one of the user."""
    before, after = view.before, view.context
    own = before is not None and before.network.prefix == after.network.prefix != ""
    own = own or is_settled_network(view, after.network)
    return own and before is not None and before.device == after.device


DETECTION = Detection(
    id="use-after-expiry",
    title="Expired session used",
    description=(
        "A session was used after its expiry. The service that accepts it does not enforce the expiry, or the session "
        "store was changed to extend an old session. Up to five minutes after the expiry, with an unchanged device on "
        "the same or a known network, the severity is low, because some services write the last use with a delay."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=(Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),),
    false_positives=("A lost refresh event: the last known use is older than the real one.",),
    runbook=(
        "Check whether events of the session's last hours are missing (late events, gaps in the topic).",
        "Find the service that accepted the session, and the reason why it did not check the expiry.",
        "If the network or device is not the user's, revoke the session and treat it as stolen.",
    ),
    sources=("OWASP Session Management Cheat Sheet: idle timeout.", "NIST SP 800-63B-4 section 5.2."),
    triggers=Trigger.EXPIRED,
    parameters=UseAfterExpiry(),
    detect=detect,
    invariant=True,
)
