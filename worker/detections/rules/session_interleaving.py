"""`session-interleaving`: one session is used in turn from two places or devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import elsewhere, hidden, organisation_words, other_device
from worker.detections.evidence import device_name, network_name
from worker.detections.familiarity import is_back, is_known_device, is_usual_spot, pair
from worker.enrich.model import NetworkKind
from worker.sessions.baseline import device_key, network_key
from worker.sessions.limits import MINUTE

if TYPE_CHECKING:
    from worker.enrich.model import Network
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
    """Count how often the session came back to where it had been."""
    if view.session is None or len(view.session.trail) <= parameters.returns:
        return None  # A, B, A, B: as many returns take one station more to have left
    way = _way(view)
    if len(way) < 2 or not way[-1].came_back:
        return None
    since = view.now - parameters.minutes * MINUTE
    returns = sum(station.came_back and station.when >= since for station in way)
    if returns < parameters.returns:
        return None
    return _signal(view, way[-2].context, returns, parameters)


class _Station(NamedTuple):
    """Where the session went, when, and whether it had been there before."""

    when: int
    came_back: bool
    context: Context


def _way(view: View) -> list[_Station]:
    """Return the stations of the session. What is unknown of one is as before, and so is the other address family.

    Where systems are known, both families of a line belong to one operator and are one station.
    """
    stops = [(when, view.contexts[number]) for when, number in view.session.trail] if view.session else []
    way: list[_Station] = []
    been: list[tuple[str, str]] = []
    for when, context in [*stops, (view.now, view.context)]:
        if not context.network.asn and context.network.family != view.context.network.family:
            continue
        last = been[-1] if been else ("", "")
        sign = _sign(context, last)
        if been and all(old in ("", new) for old, new in zip(last, sign, strict=True)):
            been[-1] = sign
            continue
        way.append(_Station(when, sign in been, context))
        been.append(sign)
    return way


def _sign(context: Context, last: tuple[str, str]) -> tuple[str, str]:
    """Return what a station is told by: network and device; a network of unknown system is unknown."""
    return _operator(context.network) or last[0], device_key(context.device) or last[1]


def _operator(network: Network) -> str:
    """Return what a network is told by: a cloud by its organisation's first word, for it has several systems."""
    if network.kind == NetworkKind.HOSTING and (words := organisation_words(network.as_org)):
        return words[0]
    return network_key(network) if network.asn else ""


def _signal(view: View, before: Context, returns: int, parameters: SessionInterleaving) -> Signal:
    after = view.context
    apart = elsewhere(view, before, after, parameters.area_km)
    one_family = before.network.family == after.network.family
    two = bool(other_device(before.device, after.device)) or apart or (one_family and _is_hidden(view, before, after))
    usual = all(is_usual_spot(view, each) and is_known_device(view, each.device) for each in (before, after))
    one_line = bool(after.network.prefix) and before.network.prefix == after.network.prefix
    doubted = Severity.MEDIUM if is_back(view, before) else Severity.HIGH
    return Signal(
        severity=doubted if two and not usual and not one_line else Severity.LOW,
        once=pair(*(" ".join(_sign(each, ("", ""))) for each in (before, after))),
        summary=(
            f"session is used in turn by {device_name(before.device)} at {network_name(before.network)} and by "
            f"{device_name(after.device)} at {network_name(after.network)}, {returns} returns"
        ),
        observed={"returns": returns, "minutes": parameters.minutes},
        expected={"returns_below": parameters.returns},
        before=before,
    )


def _is_hidden(view: View, *contexts: Context) -> bool:
    """Return whether one comes through an anonymiser, unless the user is known on both networks."""
    known = all(network_key(each.network) in view.user.baseline.networks for each in contexts)
    return hidden(*contexts) and not known


DETECTION = Detection(
    id="session-interleaving",
    title="Session with two holders",
    description=(
        "Within an hour one session went back, at least twice, to a network or device it had left: A, B, A, B. "
        "Whoever moves goes one way; a session that is in two hands is used from both in turn. Address families are "
        "looked at apart, since dual-stack clients alternate between them all day. One line in common, or two "
        "stations that are both the user's own, are low; an undoubted session with one device that is back where it "
        "was from a network the user is known on is medium."
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
    covers=("ip-change", "device-change"),
    needs=("network", "device"),
)
