"""`session-interleaving`: one session is used alternately from two networks or devices."""

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
    """Window in which the returns are counted."""
    returns: int = 2
    """Number of returns to an earlier network or device from which the session has two holders."""
    area_km: float = 100.0
    """Two places closer than this are one area."""


def detect(view: View, parameters: SessionInterleaving) -> Signal | None:
    """Count how often the session returned to an earlier network or device."""
    if view.session is None or len(view.session.trail) <= parameters.returns:
        return None  # two returns need three changes before: A, B, A, B
    way = _way(view)
    if len(way) < 2 or not way[-1].came_back:
        return None
    since = view.now - parameters.minutes * MINUTE
    returns = sum(station.came_back and station.when >= since for station in way)
    if returns < parameters.returns:
        return None
    return _signal(view, way[-2].context, returns, parameters)


class _Station(NamedTuple):
    """A context that the session moved to, when, and whether the session had been there before."""

    when: int
    came_back: bool
    context: Context


def _way(view: View) -> list[_Station]:
    """Return the stations of the session. Unknown parts of a station are taken from the one before.

    An unknown network of the other address family is skipped. If the systems are known, both address families of a line
    belong to one operator and are one station.
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
    """Return the key of a station: network and device. A network without a known system is unknown."""
    return _operator(context.network) or last[0], device_key(context.device) or last[1]


def _operator(network: Network) -> str:
    """Return the key of a network. For a cloud, which has several systems, it is the organisation's first word."""
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
    """Return whether a context is behind an anonymiser, unless both networks are known of the user."""
    known = all(network_key(each.network) in view.user.baseline.networks for each in contexts)
    return hidden(*contexts) and not known


DETECTION = Detection(
    id="session-interleaving",
    title="Session with two holders",
    description=(
        "Within an hour, one session returned at least twice to a network or device that it had left: A, B, A, B. A "
        "person who moves goes in one direction; a session with two holders is used by both alternately. Address "
        "families are compared separately, because dual-stack clients alternate between them. The severity is low if "
        "both are on one network, or if both are known devices at usual places of the user. It is medium if a session "
        "without doubt, on one device, returns to where it was from a known network of the user."
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
        "A phone that alternates between Wi-Fi and carrier at the edge of coverage (low: same device and area).",
    ),
    runbook=(
        "Compare the session's events of the last 60 minutes by network and device.",
        "If both holders act, one of them stole the session; revoke it and let the user sign in again.",
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
