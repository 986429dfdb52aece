"""Checks of a context against the user's baseline. Rules that compare two contexts apply them to both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.comparison import apart_km, is_same_device
from worker.enrich.model import NetworkKind, is_anonymiser
from worker.sessions.baseline import DESKTOP, device_key, is_clean, is_learned, known_places, network_key, wanders
from worker.sessions.limits import DAY, HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.detections.api import View
    from worker.enrich.model import Device, Network, Place
    from worker.sessions.state import Context


def is_known_network(view: View, network: Network) -> bool:
    """Return whether the user came from a network before. A private relay counts as known to every user."""
    return network.kind == NetworkKind.RELAY or network_key(network) in view.user.baseline.networks


def is_settled_network(view: View, network: Network) -> bool:
    """Return whether the user first came from a network a day ago or earlier."""
    known = view.user.baseline.networks.get(network_key(network))
    return known is not None and view.now - known.first >= DAY


def is_known_area(view: View, place: Place, since: int = 0) -> bool:
    """Return whether the user was first seen in the area of a place at least `since` milliseconds ago.

    For a place without coordinates the country is used instead.
    """
    history, before = view.user.baseline, view.now - since
    if place.latitude is None:
        known = history.countries.get(place.country)
        return known is not None and known.first <= before
    return any(history.places[key].first <= before for key in known_places(history.places, place))


def is_known_device(view: View, device: Device) -> bool:
    """Return whether the user was seen with a device before."""
    return device_key(device) in view.user.baseline.devices


def is_usual_spot(view: View, context: Context) -> bool:
    """Return whether both the network and the area of a context have been known of the user for a day or more."""
    network = context.network
    settled = network.kind == NetworkKind.RELAY or is_settled_network(view, network)
    if network.kind == NetworkKind.MOBILE:
        # A carrier's coordinates are those of its gateway; only the country is the user's.
        return settled and context.place.country in view.user.baseline.countries
    return settled and is_known_area(view, context.place, DAY)


def is_out_of_place(view: View, context: Context) -> bool:
    """Return whether a network is new to the user, or is known in only one place and that is not this one.

    Traffic of mobile carriers leaves through gateways in many places. So a network that was seen in several places may
    appear in another one.
    """
    if not is_known_network(view, context.network):
        return True
    return _is_out_of(view.user.baseline.places, context)


def is_off_own_lines(view: View, context: Context) -> bool:
    """Like `is_out_of_place`, but for a desktop computer only the places of the user's desktop computers count.

    A phone's carrier often provides fixed lines as well, and its gateways say nothing about the places of these lines.
    """
    if not is_known_network(view, context.network):
        return True
    return _is_out_of(_places_of_client(view, context.device), context)


def _is_out_of(places: Iterable[str], context: Context) -> bool:
    """Return whether a context is in no known place of its network, and the network has at most one known place."""
    own = f"{network_key(context.network)} "
    here = known_places([key for key in places if key.startswith(own)], context.place)
    return not here and not wanders(places, context.network)


def is_new_to_client(view: View, context: Context) -> bool:
    """Return whether a network is new to the user or, if the device is a desktop computer, to the user's desktops."""
    if not is_known_network(view, context.network):
        return True
    own = f"{network_key(context.network)} "
    desktop = context.device.kind == DESKTOP and bool(view.user.baseline.desktop_places)
    return desktop and not any(key.startswith(own) for key in view.user.baseline.desktop_places)


def _places_of_client(view: View, device: Device) -> Iterable[str]:
    """Return the learned places of desktop computers if the device is one, else those of all devices."""
    baseline = view.user.baseline
    return baseline.desktop_places if device.kind == DESKTOP else baseline.places


def is_hand_over(view: View, before: Context) -> bool:
    """Return whether a session that has just begun on a phone goes on with the same system and in the same country.

    A native application signs in through the browser by design, often while the phone changes networks.
    """
    after, session = view.context, view.session
    begun = session is not None and session.events == 1 and not is_anonymiser(after.network.kind)
    same = before.device.os == after.device.os != "" and before.place.country == after.place.country
    return begun and same and before.device.kind == after.device.kind == "mobile"


BACK_KM = 100.0
"""Distance up to which a session counts as back at an earlier place."""


def is_back(view: View, before: Context) -> bool:
    """Return whether a session returns, with the same device, from a settled network of the user to an earlier place.

    A phone on a journey changes between the hotel's Wi-Fi and its carrier, whose traffic leaves the network at home.
    This counts only if no finding has cast doubt on the session within the quarantine.
    """
    after, session = view.context, view.session
    if session is None or before.uid != after.uid or not is_clean(session, view.now, view.limits):
        return False
    if not is_settled_network(view, before.network):
        return False
    trail = [view.contexts[number] for _, number in session.trail]
    was_here = any(_is_alike(each, after) and apart_km(each, after) <= BACK_KM for each in trail)
    return was_here and is_same_device(before.device, after.device)


def _is_alike(one: Context, other: Context) -> bool:
    return network_key(one.network) == network_key(other.network) and is_same_device(one.device, other.device)


def is_known_user(view: View) -> bool:
    """Return whether the user's learning period is over."""
    return is_learned(view.user.baseline, view.now)


TRAVELLED = 3
"""Number of countries from which a user counts as a traveller."""


def is_traveller(view: View) -> bool:
    """Return whether the user was seen in `TRAVELLED` countries or more."""
    return len(view.user.baseline.countries) >= TRAVELLED


def elapsed_ms(view: View) -> int:
    """Return the milliseconds since the session's last event; 0 for a new session."""
    return view.now - view.session.seen if view.session else 0


PAUSE = 3 * HOUR
"""Time that a journey by air takes besides the flight, in milliseconds: to, from and at the airports."""
FLIGHT_KMH = 800.0
"""Average speed of an airliner from gate to gate."""


def is_unhurried(view: View, distance_km: float) -> bool:
    """Return whether the session paused at least as long as a journey over this distance takes from door to door."""
    return elapsed_ms(view) >= PAUSE + distance_km / FLIGHT_KMH * HOUR


def pair(one: str, other: str) -> str:
    """Return one name for a pair, whatever its order."""
    return " - ".join(sorted((one, other)))
