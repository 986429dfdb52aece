"""`session-interleaving`: one session is used in turn from two places or devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections._compare import elsewhere, hidden, other_device
from worker.detections.evidence import device_name, network_name
from worker.detections.form import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.sessions.history import device_key, network_key
from worker.sessions.limits import MINUTE

if TYPE_CHECKING:
    from worker.sessions.state import Context


class SessionInterleaving(Parameters):
    """Parameters of `session-interleaving`."""

    minutes: float = 60.0
    """Window of the returns."""
    returns: int = 2
    """Returns to a network or device already left from which on there are two holders."""
    area_km: float = 100.0
    """Two places closer than this are one area."""


def detect(view: View, parameters: SessionInterleaving) -> Signal | None:
    """Count how often the session came back to where it had been, in its address family alone."""
    way = _way(view)
    if len(way) < 2 or not way[-1][1]:
        return None
    since = view.now - parameters.minutes * MINUTE
    returns = sum(came_back and when >= since for when, came_back in way)
    if returns < parameters.returns:
        return None
    return _signal(view, returns, parameters)


def _way(view: View) -> list[tuple[int, bool]]:
    """Return the stations of the session in this address family: when, and whether it had been there before."""
    family = view.context.network.family
    stations = [(when, view.contexts[number]) for when, number in view.session.trail] if view.session else []
    stations.append((view.now, view.context))
    way: list[tuple[int, bool]] = []
    been: list[tuple[str, str]] = []
    for when, context in stations:
        sign = _sign(context)
        if context.network.family != family or not all(sign) or (been and been[-1] == sign):
            continue
        way.append((when, sign in been))
        been.append(sign)
    return way


def _sign(context: Context) -> tuple[str, str]:
    """Return what a station is told by; a network of unknown system is unknown."""
    return network_key(context.network) if context.network.asn else "", device_key(context.device)


def _signal(view: View, returns: int, parameters: SessionInterleaving) -> Signal | None:
    after, before = view.context, _other(view)
    if before is None:
        return None
    apart = elsewhere(before.place, after.place, parameters.area_km)
    two = bool(other_device(before.device, after.device)) or apart or hidden(before, after)
    return Signal(
        severity=Severity.HIGH if two else Severity.LOW,
        summary=(
            f"session is used in turn by {device_name(before.device)} at {network_name(before.network)} and by "
            f"{device_name(after.device)} at {network_name(after.network)}, {returns} returns"
        ),
        observed={"returns": returns, "minutes": parameters.minutes},
        expected={"returns_below": parameters.returns},
        before=before,
    )


def _other(view: View) -> Context | None:
    """Return the station before this one in its address family."""
    for _, number in reversed(view.session.trail if view.session else ()):
        context = view.contexts[number]
        if context.network.family == view.context.network.family and _sign(context) != _sign(view.context):
            return context
    return None


DETECTION = Detection(
    id="session-interleaving",
    title="Session with two holders",
    description=(
        "Within an hour one session went back, at least twice, to a network or device it had left: A, B, A, B. Whoever "
        "moves goes one way; a session that is in two hands is used from both in turn. Address families are looked at "
        "apart, since dual-stack clients alternate between them all day."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1539", "Steal Web Session Cookie"),
        Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),
        Attack("T1557", "Adversary-in-the-Middle"),
    ),
    false_positives=(
        "A VPN client that drops out and comes back.",
        "A phone between Wi-Fi and carrier at the edge of coverage: same device and area, so low.",
    ),
    runbook=(
        "Lay the session's events of the last 60 minutes side by side by network and device.",
        "If both holders act, one of them stole the session: revoke it and let the user sign in again.",
        "Look for other sessions from the second holder's network in the last 24 hours.",
    ),
    sources=(
        "RFC 9700 section 4.14: refresh token replay shows as use by two parties in turn.",
        "Okta Identity Threat Protection: session context changes back and forth.",
    ),
    triggers=Trigger.NETWORK | Trigger.DEVICE,
    parameters=SessionInterleaving(),
    detect=detect,
    needs=("network", "device"),
)
