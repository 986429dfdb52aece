"""Comparisons that several detections use. An unknown value never differs from another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.enrich.geodesy import distance_km
from worker.enrich.model import NetworkKind, is_anonymiser, is_own_place
from worker.sessions.baseline import device_key, is_interactive, network_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.enrich.model import Device, Network, Place
    from worker.sessions.contracts import View
    from worker.sessions.state import Context


OWN_CLIENT = "app"
"""Device class of the tenant's own clients."""

MODES = frozenset(
    {
        frozenset({("Chrome Mobile", "Android"), ("Chrome", "Linux")}),
        frozenset({("Samsung Internet", "Android"), ("Chrome", "Linux")}),
        frozenset({("Samsung Internet", "Android"), ("Samsung Internet", "Linux")}),
        frozenset({("Firefox Mobile", "Android"), ("Firefox", "Linux")}),
        frozenset({("Edge Mobile", "Android"), ("Edge", "Linux")}),
        frozenset({("Mobile Safari", "iOS"), ("Safari", "Mac OS X")}),
        frozenset({("IE", "Windows"), ("Edge", "Windows")}),
    }
)
"""Browser and operating system in the two modes of one browser. Examples are the desktop site of a phone or tablet
(Chrome on Android reports Linux, Safari on an iPad reports a Mac) and the Internet Explorer mode of Edge."""
_WITH_OWN_VERSION = frozenset({"Samsung Internet", "IE"})
"""Browsers whose version is not that of their other mode."""


def other_network(before: Network, after: Network) -> bool:
    """Return whether two addresses of one family are in different /24 or /64 networks; False if one is unknown."""
    return bool(before.prefix and after.prefix) and before.family == after.family and before.prefix != after.prefix


def other_system(before: Network, after: Network) -> bool:
    """Return whether two addresses are known to belong to autonomous systems of different operators."""
    return bool(before.asn and after.asn) and not same_operator(before, after)


def is_gone_private(before: Network, after: Network) -> bool:
    """Return whether a public address became a private one, which no client on the internet has."""
    return bool(before.prefix) and after.kind == NetworkKind.PRIVATE


def is_unreadable_client(before: Device, after: Device) -> bool:
    """Return whether a browser is followed by a user agent without known client and system, such as an empty one."""
    return is_interactive(device_key(before)) and not after.browser and not after.os


def other_country(before: Place, after: Place) -> bool:
    """Return whether two places are known to be in different countries."""
    return bool(before.country and after.country) and before.country != after.country


def same_operator(before: Network, after: Network) -> bool:
    """Return whether two addresses belong to one operator: one autonomous system, or systems of one organisation.

    Of two hosting networks only the first words of the names are compared: the systems of a cloud have names such as
    AMAZON-02 and AMAZON-AES.
    """
    if before.asn and before.asn == after.asn:
        return True
    old, new = organisation_words(before.as_org), organisation_words(after.as_org)
    if before.kind == after.kind == NetworkKind.HOSTING:
        old, new = old[:1], new[:1]
    return bool(old) and old == new


def organisation_words(name: str) -> list[str]:
    """Return the words of an organisation's name, in lower case."""
    return name.casefold().replace("-", " ").replace(",", " ").split()


def one_line(before: Network, after: Network) -> bool:
    """Return whether two addresses may belong to one access line, which has one place whatever the geo data says.

    They do if they are equal or in one /64, or if one is IPv4 and one IPv6 and their operators are equal or not both
    known. Geo databases often have different places for the two address families of a line.
    """
    if before.ip == after.ip or (
        before.family == after.family == 6 and before.prefix and before.prefix == after.prefix
    ):
        return True
    known = bool(before.asn and after.asn)
    return before.family != after.family and (not known or same_operator(before, after))


def is_known_carrier(view: View, network: Network) -> bool:
    """Return whether a network is a known mobile carrier of the user: roaming traffic leaves it in the home country."""
    return network.kind == NetworkKind.MOBILE and network_key(network) in view.user.baseline.networks


def is_own_country(view: View, context: Context) -> bool:
    """Return whether the country is known and the user's own, not that of an anonymiser's or roaming phone's exit."""
    hides = hidden(context) or is_known_carrier(view, context.network)
    return bool(context.place.country) and not hides


def apart_km(before: Context, after: Context) -> float:
    """Return the distance of two contexts minus both accuracy radii, in km; 0 unless both places are the user's own."""
    if one_line(before.network, after.network) or not _are_own_places(before, after):
        return 0.0
    distance = distance_km(before.place, after.place) or 0.0
    return max(0.0, distance - before.place.radius_km - after.place.radius_km)


def moved_km(before: Context, after: Context) -> float:
    """Return the distance of two contexts, in km; 0 unless both places are the user's own.

    For places from geo databases the accuracy radius is subtracted; for stated places it is not.
    """
    if one_line(before.network, after.network) or not _are_own_places(before, after):
        return 0.0
    guessed = sum(place.radius_km for place in (before.place, after.place) if place.source == "ip")
    return max(0.0, (distance_km(before.place, after.place) or 0.0) - guessed)


def _are_own_places(*contexts: Context) -> bool:
    return all(is_own_place(each.network, each.place) for each in contexts)


def is_abroad(view: View, before: Context, after: Context, area_km: float) -> bool:
    """Return whether two contexts are in different countries, both the user's own, and not close to one border."""
    if one_line(before.network, after.network) or not other_country(before.place, after.place):
        return False
    near = _are_own_places(before, after) and moved_km(before, after) <= area_km
    return is_own_country(view, before) and is_own_country(view, after) and not near


def elsewhere(view: View, before: Context, after: Context, area_km: float) -> bool:
    """Return whether two contexts are in different countries or farther apart than `area_km`."""
    return is_abroad(view, before, after, area_km) or moved_km(before, after) > area_km


def last_known(view: View, is_known: Callable[[Context], object]) -> Context | None:
    """Return the newest context of the session before this event for which `is_known` holds; None when there is none.

    So an unknown value in between, such as an unknown user agent, does not hide a change.
    """
    if view.before is None or is_known(view.before):
        return view.before
    trail = reversed(view.session.trail) if view.session else ()
    return next((context for _, number in trail if is_known(context := view.contexts[number])), None)


def last_device(view: View) -> Context | None:
    """Return the session's last context with a known device."""
    return last_known(view, lambda context: context.device.browser)


def last_own_place(view: View) -> Context | None:
    """Return the session's last context whose country is the user's own."""
    return last_known(view, lambda context: is_own_country(view, context))


def last_place(view: View) -> Context | None:
    """Return the session's last context with a known country."""
    return last_known(view, lambda context: context.place.country)


def hidden(*contexts: Context) -> bool:
    """Return whether any of the contexts is behind an anonymiser, so that its place is not the user's."""
    return any(is_anonymiser(context.network.kind) for context in contexts)


def is_other_mode(before: Device, after: Device) -> bool:
    """Return whether two devices are the two modes of one browser; see `MODES`."""
    pair = frozenset({(before.browser, before.os), (after.browser, after.os)})
    versioned = not {before.browser, after.browser} & _WITH_OWN_VERSION
    return pair in MODES and not (versioned and before.browser_major != after.browser_major)


def is_same_device(before: Device, after: Device) -> bool:
    """Return whether two devices are known and do not differ."""
    if before == after:
        return bool(before.browser or before.os)
    return bool(before.browser and after.browser) and not other_device(before, after)


def other_device(before: Device, after: Device) -> str:
    """Return `device_difference`, or `""` for the two modes of one browser."""
    return "" if is_other_mode(before, after) else device_difference(before, after)


def device_difference(before: Device, after: Device) -> str:
    """Return how two devices differ: browser, operating system, class, or an older version; `""` when they do not.

    A client of the tenant (`first_party_clients`), on either side, never differs: it shares sessions by design.
    """
    if not before.browser or not after.browser or OWN_CLIENT in (before.kind, after.kind):
        return ""
    if before.browser != after.browser:
        return "browser"
    if before.os and after.os and before.os != after.os:
        return "operating system"
    if before.kind and after.kind and before.kind != after.kind:
        return "device class"
    if before.browser_major and after.browser_major and after.browser_major < before.browser_major:
        return "older version"
    return ""


def is_authenticated_anew(view: View) -> bool:
    """Return whether the event is a new sign-in of an existing session: its creation time moves forward."""
    return view.session is not None and view.context.created_at > view.session.created > 0


def is_reauthenticated(view: View) -> bool:
    """Return whether the user authenticated with this event: a new sign-in, or a stronger method than before."""
    session = view.session
    if session is None:
        return False
    return is_authenticated_anew(view) or view.strength > session.strength >= 0
