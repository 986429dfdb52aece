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
    """Number of session starts within five minutes from which it is a burst."""
    known: float = 10.0
    """Number of five-minute buckets with starts from which the user's own rate counts, too."""
    sigmas: float = 3.0
    """Number of standard deviations above the user's mean that is still usual."""


def detect(view: View, parameters: SessionBurst) -> Signal | None:
    """Count the starts of the last five minutes, including this one, and compare the number with the usual one."""
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
    """Return whether a machine starts the sessions with a known client on a known network, as build runners do."""
    context = view.context
    return view.is_machine() and is_known_device(view, context.device) and is_known_network(view, context.network)


def sign_ons(view: View, since: int) -> int:
    """Return how many of the sessions started since `since` come from single sign-on to further audiences.

    Sessions of one device on one network for different audiences count as one sign-in.
    """
    seen: dict[tuple[str, Device], set[str]] = {}
    contexts = [view.contexts[each.context] for each in view.user.sessions.values() if each.started > since]
    for context in (*contexts, view.context):
        if context.aud:
            seen.setdefault((context.network.prefix, context.device), set()).add(context.aud)
    return sum(len(audiences) - 1 for audiences in seen.values())


def usual_limit(rate: StartRate, parameters: SessionBurst) -> float | None:
    """Return the mean plus `sigmas` standard deviations of the user's counts; None when too few counts are known."""
    if rate.known < parameters.known:
        return None
    mean = rate.total / rate.known
    variance = max(rate.squares / rate.known - mean * mean, 0.0)
    return mean + parameters.sigmas * sqrt(variance)


DETECTION = Detection(
    id="session-burst",
    title="Burst of new sessions",
    description=(
        "A user starts ten or more sessions within five minutes, and more than usual for this user. Tools that use "
        "stolen credentials sign in repeatedly, often from changing networks; people rarely do. Single sign-on of one "
        "browser to several audiences counts as one sign-in. The severity is low for a machine with a known client on "
        "a known network."
    ),
    severity=Severity.MEDIUM,
    score=47,
    scope=Scope.USER,
    attacks=(Attack("T1078", "Valid Accounts"), Attack("T1110", "Brute Force")),
    false_positives=(
        "A script or a test run that signs in again for each request; it becomes usual after some days.",
        "A client in a redirect loop between application and identity provider.",
    ),
    runbook=(
        "Group the user's sessions of the last 10 minutes by network and device; one of each means a loop or a script.",
        "Compare them with the user's networks and devices of the last 14 days.",
        "If they are not the user's, revoke the new sessions and reset the credentials.",
    ),
    sources=(
        "Splunk: mean plus three standard deviations of the entity's own counts.",
        "tirreno: many sessions within minutes.",
    ),
    triggers=Trigger.START,
    parameters=SessionBurst(),
    detect=detect,
)
