"""`session-hijack`: network and device of a session change at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import (
    is_abroad,
    is_gone_private,
    is_unreadable_client,
    last_device,
    other_device,
    other_network,
    other_system,
)
from worker.detections.evidence import device_name, network_name, place_name
from worker.detections.familiarity import is_hand_over, is_known_device, is_usual_spot, pair
from worker.sessions.baseline import device_key, network_key

if TYPE_CHECKING:
    from worker.enrich.model import Network
    from worker.sessions.state import Context


class SessionHijack(Parameters):
    """Parameters of `session-hijack`."""

    area_km: float = 100.0
    """Two places closer than this are one area, even across a border."""


def detect(view: View, parameters: SessionHijack) -> Signal | None:
    """Flag a new network together with another device. A script after a browser is critical."""
    before, after = last_device(view), view.context
    if before is None or not _is_other_client(view, before) or not _new_network(view, before, parameters):
        return None
    scripted = after.device.scripted and not before.device.scripted
    return Signal(
        severity=_severity(view, before, scripted=scripted),
        subject=network_key(after.network),
        once=_once(view, before, scripted=scripted),
        summary=(
            f"session of {device_name(before.device)} at {network_name(before.network)}, {place_name(before.place)} "
            f"is used by {device_name(after.device)} at {network_name(after.network)}, {place_name(after.place)}"
        ),
        observed={"device": device_name(after.device), "network": network_key(after.network), "scripted": scripted},
        expected={"device": device_name(before.device), "network": network_key(before.network)},
        before=before,
    )


def _severity(view: View, before: Context, *, scripted: bool) -> Severity:
    """Return the severity: low for a known device at a usual place; for a script only right after the sign-in."""
    known = is_usual_spot(view, view.context) and is_known_device(view, view.context.device)
    begun = view.session is not None and view.session.events == 1
    if scripted:
        return Severity.LOW if known and begun else Severity.CRITICAL
    return Severity.LOW if known or is_hand_over(view, before) else Severity.HIGH


def _once(view: View, before: Context, *, scripted: bool) -> str:
    """Return the value that it is raised once for: the two devices and the network; for a script, it and its network.

    A script that takes over a session is raised every time. Exceptions are a script that takes over right after the
    sign-in, and one that has had the session before: it is probably the application's own server, for all browsers.
    """
    session, after = view.session, view.context
    if scripted and session is not None and session.events > 1:
        had = any(_is_alike(view.contexts[number], after) for _, number in session.trail)
        if not had:
            return ""
    if scripted:
        return f"{device_key(after.device)} {network_key(after.network)}"
    return f"{pair(device_key(before.device), device_key(after.device))} {network_key(after.network)}"


def _is_alike(one: Context, other: Context) -> bool:
    return one.device == other.device and network_key(one.network) == network_key(other.network)


def _is_other_client(view: View, before: Context) -> bool:
    after = view.context.device
    return bool(other_device(before.device, after)) or (
        view.activity > 0 and is_unreadable_client(before.device, after)
    )


def _new_network(view: View, before: Context, parameters: SessionHijack) -> bool:
    after = view.context
    if is_gone_private(before.network, after.network):
        return True
    if after.device.scripted and not before.device.scripted and other_network(before.network, after.network):
        return True
    reference = (view.same_family or before).network
    return _is_other(reference, after.network) or is_abroad(view, before, after, parameters.area_km)


def _is_other(before: Network, after: Network) -> bool:
    """Return whether two addresses belong to different operators; if one is unknown, to different /24 or /64."""
    if before.asn and after.asn:
        return other_system(before, after)
    return other_network(before, after)


DETECTION = Detection(
    id="session-hijack",
    title="Session taken over",
    description=(
        "One session is suddenly used by a different device from another autonomous system or country. Roaming changes "
        "the network and keeps the device; a theft changes both. A scripted client that takes over a browser's session "
        "is typical of a replayed cookie. It is critical and is raised every time, unless it takes over right after "
        "the sign-in, as an application's own server does. The severity is low for a known device on a known network "
        "and place of the user, and for a known program that takes over a sign-in there. The two modes of one browser "
        "count as one device. After a browser, an unknown user agent counts as a different device; after a public "
        "address, a private one counts as another network."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1539", "Steal Web Session Cookie"),
        Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),
        Attack("T1185", "Browser Session Hijacking"),
    ),
    false_positives=(
        "A session handed from a browser to an application on another device by design (device pairing by QR code).",
    ),
    runbook=(
        "Revoke the session at once; the evidence names both devices and networks.",
        "List what the session has done since the event time, and the user's other sessions of the last 24 hours.",
        "Reset the user's credentials and look for an infostealer or a phishing proxy on the first device.",
    ),
    sources=(
        "Okta Identity Threat Protection: session hijacking by change of IP and device.",
        "Elastic detection rules: web session cookie replay; severities high and critical.",
    ),
    triggers=Trigger.DEVICE,
    parameters=SessionHijack(),
    detect=detect,
    covers=("device-change", "ip-change", "location-change", "session-interleaving", "impossible-travel"),
    needs=("network", "device"),
)
