"""`concurrent-sessions`: a user has more concurrent sessions than the policy allows and than usual."""

from __future__ import annotations

from statistics import median_high
from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.sessions.baseline import network_key
from worker.sessions.fold import is_live, live_sessions
from worker.sessions.limits import DAY

if TYPE_CHECKING:
    from worker.enrich.model import Device


class ConcurrentSessions(Parameters):
    """Parameters of `concurrent-sessions`; the limit itself is in the tenant's policy."""

    known_days: int = 7
    """Days since the user's first event after which there is a usual maximum."""
    factor: float = 2.0
    """Multiple of the usual daily maximum above which the number is unusual."""


def detect(view: View, parameters: ConcurrentSessions) -> Signal | None:
    """Count the user's unexpired sessions, including this new one."""
    if view.is_machine():
        return None
    live = 1 + live_sessions(view.user, view.now)
    if live > view.policy.max_sessions:
        live -= sign_ons(view)
    limit, usual = view.policy.max_sessions, usual_peak(view, parameters.known_days)
    if live <= limit or (usual is not None and live <= usual * parameters.factor):
        return None
    return Signal(
        once=f"sessions {live.bit_length() // 2}",
        summary=f"{live} sessions at once; allowed are {limit}, usual are {'unknown' if usual is None else usual}",
        observed={"sessions": live},
        expected={"limit": limit, "usual": usual},
    )


def sign_ons(view: View) -> int:
    """Return how many live sessions come from single sign-on to further audiences on one device and network."""
    seen: dict[tuple[str, Device], set[str]] = {}
    live = (view.contexts[each.context] for each in view.user.sessions.values() if is_live(each, view.now))
    for context in (*live, view.context):
        if context.aud:
            seen.setdefault((network_key(context.network), context.device), set()).add(context.aud)
    return sum(len(audiences) - 1 for audiences in seen.values())


def usual_peak(view: View, days: int) -> int | None:
    """Return the median of the daily maxima before today; None if the user has been known for less than `days`.

    With the median, one day of an attack does not make the next one usual.
    """
    today = view.now // DAY
    peaks = [most for day, most in view.user.baseline.peaks if day < today]
    if not peaks or today - view.user.baseline.first // DAY < days:
        return None
    return median_high(peaks)


DETECTION = Detection(
    id="concurrent-sessions",
    title="Unusually many sessions at once",
    description=(
        "A user has more unexpired sessions than the tenant's policy allows and, after the first week, more than twice "
        "the usual maximum. Sold credentials, and those found by credential stuffing, are used from many places at "
        "once. Sessions on one device and network for different audiences count as one. The finding is raised once, "
        "and again when the number has grown fourfold."
    ),
    severity=Severity.MEDIUM,
    score=47,
    scope=Scope.USER,
    attacks=(Attack("T1078", "Valid Accounts"), Attack("T1110.004", "Brute Force: Credential Stuffing")),
    false_positives=(
        "Automated tests or a script that signs in again each time.",
        "A client that loses its session store and signs in at every start.",
    ),
    runbook=(
        "Group the user's active sessions by network and device; a single network and client is most often a script.",
        "If they come from several networks, compare these with the user's networks of the last 14 days.",
        "If networks or devices are not the user's, revoke all sessions and reset the credentials.",
    ),
    sources=(
        "OWASP ASVS 5.0, V7: limits on concurrent sessions.",
        "tirreno: account shared or sold; default limit of 10.",
    ),
    triggers=Trigger.START,
    parameters=ConcurrentSessions(),
    detect=detect,
    casts_doubt=False,
)
