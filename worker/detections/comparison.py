"""Comparisons several detections make. Unknown is never different."""

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
"""The class of device of the tenant's own clients."""

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
"""Browser and system of one browser's two modes: the desktop site of a phone or tablet (Chrome on Android says that it
runs on Linux, Safari on an iPad that it runs on a Mac), and Edge's Internet Explorer mode."""
_WITH_OWN_VERSION = frozenset({"Samsung Internet", "IE"})
"""Browsers whose version says nothing of the version of their other mode."""


def other_network(before: Network, after: Network) -> bool:
    """Tell whether two addresses of one family lie in different /24 or /64; unknown networks never differ."""
    return bool(before.prefix and after.prefix) and before.family == after.family and before.prefix != after.prefix


def other_system(before: Network, after: Network) -> bool:
    """Tell whether two addresses are known to belong to autonomous systems of different operators."""
    return bool(before.asn and after.asn) and not same_operator(before, after)


def is_gone_private(before: Network, after: Network) -> bool:
    """Tell whether a public address became a private one, which nobody outside can have."""
    return bool(before.prefix) and after.kind == NetworkKind.PRIVATE


def is_unreadable_client(before: Device, after: Device) -> bool:
    """Tell whether a browser's successor cannot be read at all: an empty agent, or a program's that nobody knows."""
    return is_interactive(device_key(before)) and not after.browser and not after.os


def other_country(before: Place, after: Place) -> bool:
    """Tell whether two places are known to lie in different countries."""
    return bool(before.country and after.country) and before.country != after.country


def same_operator(before: Network, after: Network) -> bool:
    """Tell whether two addresses belong to one operator: one autonomous system, or systems of one organisation.

    The systems of a cloud differ in all but the first word of their names, such as AMAZON-02 and AMAZON-AES.
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
    """Tell whether two addresses are ends of one line, which is in one place whatever geo data says of each.

    That is one address, one /64, or an IPv4 and an IPv6 address that nothing tells apart: of one operator, or of
    unknown ones. Geo databases place the two families of a line apart from each other.
    """
    if before.ip == after.ip or (
        before.family == after.family == 6 and before.prefix and before.prefix == after.prefix
    ):
        return True
    known = bool(before.asn and after.asn)
    return before.family != after.family and (not known or same_operator(before, after))


def is_known_carrier(view: View, network: Network) -> bool:
    """Tell whether a network is a mobile carrier the user is known on: it carries them home from wherever they are."""
    return network.kind == NetworkKind.MOBILE and network_key(network) in view.user.baseline.networks


def is_own_country(view: View, context: Context) -> bool:
    """Tell whether the country is known and where the user is, not where an anonymiser or a roaming phone comes out."""
    hides = hidden(context) or is_known_carrier(view, context.network)
    return bool(context.place.country) and not hides


def apart_km(before: Context, after: Context) -> float:
    """Return the least distance of two contexts, both accuracy radii off; 0 unless both places are the user's own."""
    if one_line(before.network, after.network) or not _are_own_places(before, after):
        return 0.0
    distance = distance_km(before.place, after.place) or 0.0
    return max(0.0, distance - before.place.radius_km - after.place.radius_km)


def moved_km(before: Context, after: Context) -> float:
    """Return the distance of two contexts; 0 unless both places are the user's own.

    Places that were stated are taken at their word. Geo databases guess, so their accuracy radii are off.
    """
    if one_line(before.network, after.network) or not _are_own_places(before, after):
        return 0.0
    guessed = sum(place.radius_km for place in (before.place, after.place) if place.source == "ip")
    return max(0.0, (distance_km(before.place, after.place) or 0.0) - guessed)


def _are_own_places(*contexts: Context) -> bool:
    return all(is_own_place(each.network, each.place) for each in contexts)


def is_abroad(view: View, before: Context, after: Context, area_km: float) -> bool:
    """Tell whether two contexts lie in different countries, both the user's own, and not on two sides of a border."""
    if one_line(before.network, after.network) or not other_country(before.place, after.place):
        return False
    near = _are_own_places(before, after) and moved_km(before, after) <= area_km
    return is_own_country(view, before) and is_own_country(view, after) and not near


def elsewhere(view: View, before: Context, after: Context, area_km: float) -> bool:
    """Tell whether two contexts lie in different countries or farther apart than one area."""
    return is_abroad(view, before, after, area_km) or moved_km(before, after) > area_km


def last_known(view: View, is_known: Callable[[Context], object]) -> Context | None:
    """Return the newest context of the session before this event of which something is known; None when there is none.

    What is unknown in between, such as a user agent nobody can read, does not hide what comes after it.
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
    """Tell whether any of the contexts comes through an anonymiser, so that its place is not its user's."""
    return any(is_anonymiser(context.network.kind) for context in contexts)


def is_other_mode(before: Device, after: Device) -> bool:
    """Tell whether two devices are the two modes of one browser; see `MODES`."""
    pair = frozenset({(before.browser, before.os), (after.browser, after.os)})
    versioned = not {before.browser, after.browser} & _WITH_OWN_VERSION
    return pair in MODES and not (versioned and before.browser_major != after.browser_major)


def is_same_device(before: Device, after: Device) -> bool:
    """Tell whether two devices are known and nothing tells them apart."""
    if before == after:
        return bool(before.browser or before.os)
    return bool(before.browser and after.browser) and not other_device(before, after)


def other_device(before: Device, after: Device) -> str:
    """Return `device_difference`; the two modes of one browser are one device."""
    return "" if is_other_mode(before, after) else device_difference(before, after)


def device_difference(before: Device, after: Device) -> str:
    """Return how two devices differ: another browser, operating system or class, or a version going down; else `""`.

    The tenant's own clients (`first_party_clients`) share sessions by design, whichever of the two is one.
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
    """Tell whether the event is a sign-in of a session that was there before: its creation time moves forward."""
    return view.session is not None and view.context.created_at > view.session.created > 0


def is_reauthenticated(view: View) -> bool:
    """Tell whether the user authenticated with this event: a new sign-in, or a stronger method than before."""
    session = view.session
    if session is None:
        return False
    return is_authenticated_anew(view) or view.strength > session.strength >= 0
