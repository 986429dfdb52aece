"""What the user is known by. Rules that compare two contexts ask whether both are the user's own."""

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
    """Tell whether the user came from a network before. A private relay is everybody's."""
    return network.kind == NetworkKind.RELAY or network_key(network) in view.user.baseline.networks


def is_settled_network(view: View, network: Network) -> bool:
    """Tell whether the user came from a network for a day or more."""
    known = view.user.baseline.networks.get(network_key(network))
    return known is not None and view.now - known.first >= DAY


def is_known_area(view: View, place: Place, since: int = 0) -> bool:
    """Tell whether the user was seen around a place, for `since` milliseconds or more.

    Of a place without coordinates the country has to do.
    """
    history, before = view.user.baseline, view.now - since
    if place.latitude is None:
        known = history.countries.get(place.country)
        return known is not None and known.first <= before
    return any(history.places[key].first <= before for key in known_places(history.places, place))


def is_known_device(view: View, device: Device) -> bool:
    """Tell whether the user was seen with a device before."""
    return device_key(device) in view.user.baseline.devices


def is_usual_spot(view: View, context: Context) -> bool:
    """Tell whether the user is known both on the network and around the place of a context, for a day or more."""
    network = context.network
    settled = network.kind == NetworkKind.RELAY or is_settled_network(view, network)
    if network.kind == NetworkKind.MOBILE:
        # A carrier's place is a gateway's: its country alone is the user's.
        return settled and context.place.country in view.user.baseline.countries
    return settled and is_known_area(view, context.place, DAY)


def is_out_of_place(view: View, context: Context) -> bool:
    """Tell whether a network is new to the user, or was never seen around the place though it stays where it is.

    Mobile carriers take their customers' traffic out wherever they like: a network that was seen in several places may
    be seen in another one.
    """
    if not is_known_network(view, context.network):
        return True
    return _is_out_of(view.user.baseline.places, context)


def is_off_own_lines(view: View, context: Context) -> bool:
    """Tell what `is_out_of_place` does, of a desktop computer as far as the user's desktop computers are known.

    A phone's carrier often is a provider of fixed lines as well; its gateways tell nothing of where those lines are.
    """
    if not is_known_network(view, context.network):
        return True
    return _is_out_of(_places_of_client(view, context.device), context)


def _is_out_of(places: Iterable[str], context: Context) -> bool:
    """Tell whether a network is in none of the places it is known in, although it is known in one alone."""
    own = f"{network_key(context.network)} "
    here = known_places([key for key in places if key.startswith(own)], context.place)
    return not here and not wanders(places, context.network)


def is_new_to_client(view: View, context: Context) -> bool:
    """Tell whether a network is new to the user, or to the user's desktop computers where it is used by one."""
    if not is_known_network(view, context.network):
        return True
    own = f"{network_key(context.network)} "
    desktop = context.device.kind == DESKTOP and bool(view.user.baseline.desktop_places)
    return desktop and not any(key.startswith(own) for key in view.user.baseline.desktop_places)


def _places_of_client(view: View, device: Device) -> Iterable[str]:
    """Return the learned places of desktop computers for one of them, else those of all clients."""
    baseline = view.user.baseline
    return baseline.desktop_places if device.kind == DESKTOP else baseline.places


def is_hand_over(view: View, before: Context) -> bool:
    """Tell whether a session just begun goes on in an application of the same system and country.

    By design a native application signs in through the browser, often while the phone changes networks.
    """
    after, session = view.context, view.session
    begun = session is not None and session.events == 1 and not is_anonymiser(after.network.kind)
    same = before.device.os == after.device.os != "" and before.place.country == after.place.country
    return begun and same and before.device.kind == after.device.kind == "mobile"


BACK_KM = 100.0
"""A session this close to where it was is back there."""


def is_back(view: View, before: Context) -> bool:
    """Tell whether a session is back, with one device, where it was before it left for a network of the user's.

    A phone on a journey changes between the hotel's Wi-Fi and its carrier, whose traffic leaves the network at home.
    It is one only if nothing cast doubt on the session when it first came there.
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
    """Tell whether the user's learning period is over."""
    return is_learned(view.user.baseline, view.now)


TRAVELLED = 3
"""Countries a user was seen in, from which on the next one is no news."""


def is_traveller(view: View) -> bool:
    """Tell whether the user was seen in several countries."""
    return len(view.user.baseline.countries) >= TRAVELLED


def elapsed_ms(view: View) -> int:
    """Return the time since the session's last event."""
    return view.now - view.session.seen if view.session else 0


PAUSE = 3 * HOUR
"""What a journey by air takes besides the flight: the ways to and from the airports, and the time spent there."""
FLIGHT_KMH = 800.0
"""Speed of an airliner from gate to gate."""


def is_unhurried(view: View, distance_km: float) -> bool:
    """Tell whether the session paused for as long as a journey over a distance takes, from door to door."""
    return elapsed_ms(view) >= PAUSE + distance_km / FLIGHT_KMH * HOUR


def pair(one: str, other: str) -> str:
    """Return the name of two things in either order."""
    return " - ".join(sorted((one, other)))
