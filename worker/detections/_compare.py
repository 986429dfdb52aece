"""Comparisons several detections make. Unknown is never different."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.enrich.geodesy import distance_km
from worker.enrich.model import is_anonymiser

if TYPE_CHECKING:
    from worker.enrich.model import Device, Network, Place
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


def elsewhere(before: Place, after: Place, area_km: float) -> bool:
    """Tell whether two places lie in different countries or farther apart than one area."""
    return other_country(before, after) or apart_km(before, after) > area_km


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
