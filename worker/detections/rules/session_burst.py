"""`session-burst`: a user starts many sessions within minutes."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.familiarity import is_known_device, is_known_network
from worker.sessions.baseline import FIVE_MINUTES

if TYPE_CHECKING:
    from worker.enrich.model import Device
    from worker.sessions.state import StartRate


class SessionBurst(Parameters):
    """Parameters of `session-burst`."""

    sessions: int = 10
    """Starts within five minutes from which it is a burst."""
    known: float = 10.0
    """Fives of minutes with starts behind the user's own rate from which that counts, too."""
    sigmas: float = 3.0
    """Standard deviations over the user's own mean."""


def detect(view: View, parameters: SessionBurst) -> Signal | None:
    """Count the starts of the last five minutes, this one with them, and hold them against the user's usual."""
    since = view.now - FIVE_MINUTES
    count = 1 + len([1 for start in view.user.baseline.starts if start > since])
    if count < parameters.sessions:
        return None
    count -= sign_ons(view, since)
    if count < parameters.sessions:
        return None
    usual = usual_limit(view.user.baseline.rate, parameters)
    if usual is not None and count <= usual:
        return None
    return Signal(
        severity=Severity.LOW if _is_own_machine(view) else Severity.MEDIUM,
        summary=f"{count} sessions started within 5 min",
        observed={"starts": count, "minutes": 5},
        expected={"limit": parameters.sessions, "usual_limit": None if usual is None else round(usual, 1)},
    )


def _is_own_machine(view: View) -> bool:
    """Return whether a machine's own client starts the sessions, from a network of its own: runners do."""
    context = view.context
    return view.is_machine() and is_known_device(view, context.device) and is_known_network(view, context.network)


def sign_ons(view: View, since: int) -> int:
    """Return how many of the sessions started since are single sign-on to further audiences.

    One browser at one address that opens sessions for different audiences signed in once.
    """
    seen: dict[tuple[str, Device], set[str]] = {}
    contexts = [view.contexts[each.context] for each in view.user.sessions.values() if each.started > since]
    for context in (*contexts, view.context):
        if context.aud:
            seen.setdefault((context.network.prefix, context.device), set()).add(context.aud)
    return sum(len(audiences) - 1 for audiences in seen.values())


def usual_limit(rate: StartRate, parameters: SessionBurst) -> float | None:
    """Return mean + sigmas standard deviations of the user's counts in five minutes; None when too few are known."""
    if rate.known < parameters.known:
        return None
    mean = rate.total / rate.known
    variance = max(rate.squares / rate.known - mean * mean, 0.0)
    return mean + parameters.sigmas * sqrt(variance)


DETECTION = Detection(
    id="session-burst",
    title="Burst of new sessions",
    description=(
        "A user starts ten or more sessions within five minutes, and more than is usual for that user. Stolen "
        "credentials are put to use by tools that sign in again and again, often from changing networks; people "
        "hardly ever do. Single sign-on of one browser to several audiences is one sign-in, and a machine's own "
        "client on its own network is low."
    ),
    severity=Severity.MEDIUM,
    score=47,
    scope=Scope.USER,
    attacks=(Attack("T1078", "Valid Accounts"), Attack("T1110", "Brute Force")),
    false_positives=(
        "A script or a test run that signs in anew for each request; it becomes usual after days.",
        "A client in a redirect loop between application and identity provider.",
    ),
    runbook=(
        "Group the user's sessions of the last 10 minutes by network and device: one of each is a loop or a script.",
        "Compare with the networks and devices of the user's last 14 days.",
        "Revoke the new sessions and reset the credentials when they are not the user's.",
    ),
    sources=(
        "Splunk: mean plus three standard deviations of the entity's own counts.",
        "tirreno: many sessions within minutes.",
    ),
    triggers=Trigger.START,
    parameters=SessionBurst(),
    detect=detect,
)
