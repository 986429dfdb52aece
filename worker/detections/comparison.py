"""Comparisons several detections make. Unknown is never different."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.enrich.geodesy import distance_km
from worker.enrich.model import is_anonymiser

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.enrich.model import Device, Network, Place
    from worker.sessions.contracts import View
    from worker.sessions.state import Context


def other_network(before: Network, after: Network) -> bool:
    """Tell whether two addresses of one family lie in different /24 or /64; unknown networks never differ."""
    return bool(before.prefix and after.prefix) and before.family == after.family and before.prefix != after.prefix


def other_system(before: Network, after: Network) -> bool:
    """Tell whether two addresses are known to belong to different autonomous systems."""
    return bool(before.asn and after.asn) and before.asn != after.asn


def other_country(before: Place, after: Place) -> bool:
    """Tell whether two places are known to lie in different countries."""
    return bool(before.country and after.country) and before.country != after.country


def apart_km(before: Place, after: Place) -> float:
    """Return the least distance two places can have, both accuracy radii off; 0 when unknown."""
    distance = distance_km(before, after)
    return 0.0 if distance is None else max(0.0, distance - before.radius_km - after.radius_km)


def moved_km(before: Place, after: Place) -> float:
    """Return the distance of two places; 0 when unknown.

    Places that were stated are taken at their word. Geo databases guess, so their accuracy radii are off.
    """
    distance = distance_km(before, after)
    guessed = sum(place.radius_km for place in (before, after) if place.source == "ip")
    return 0.0 if distance is None else max(0.0, distance - guessed)


def elsewhere(before: Place, after: Place, area_km: float) -> bool:
    """Tell whether two places lie in different countries or farther apart than one area."""
    return other_country(before, after) or moved_km(before, after) > area_km


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


def last_place(view: View) -> Context | None:
    """Return the session's last context with a known country."""
    return last_known(view, lambda context: context.place.country)


def hidden(*contexts: Context) -> bool:
    """Tell whether any of the contexts comes through an anonymiser, so that its place is not its user's."""
    return any(is_anonymiser(context.network.kind) for context in contexts)


def other_device(before: Device, after: Device) -> str:
    """Say how two devices differ: another browser, operating system or class, or a version going down; else `""`."""
    if not before.browser or not after.browser:
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
