"""Evidence of findings: network, place and device before and after, and their names as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from worker.sessions.baseline import known_parts

if TYPE_CHECKING:
    from worker.detections.api import Signal
    from worker.enrich.model import Device, Network, Place
    from worker.sessions.contracts import View
    from worker.sessions.state import Context


def context_evidence(context: Context) -> dict[str, Any]:
    """Return network, place and device of a context as plain JSON values; unknown parts are left out."""
    network, place, device = context.network, context.place, context.device
    return {
        "ip": network.ip,
        **_known(prefix=network.prefix, asn=network.asn, as_org=network.as_org, network_kind=network.kind),
        **_known(country=place.country, city=place.city),
        **({} if place.latitude is None else {"coordinates": [place.latitude, place.longitude]}),
        **_known(radius_km=place.radius_km, ua_family=device.browser, ua_major=device.browser_major),
        **_known(os_family=device.os, os_major=device.os_major, device=device.kind, scripted=device.scripted),
    }


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


MOST_ITEMS, LONGEST_ITEM = 64, 256
"""Maximum number of items in a list of evidence, and of characters in a text. Evidence is stored with its finding."""


def bounded(value: Any) -> Any:
    """Return a value of evidence within the limits; a truncated list ends with the number of items left out."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_ITEM else value[:LONGEST_ITEM] + "…"
    if isinstance(value, dict):
        return {name: bounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        left_out = len(value) - MOST_ITEMS
        kept = [bounded(each) for each in value[:MOST_ITEMS]]
        return [*kept, f"… and {left_out} more"] if left_out > 0 else kept
    return value


def render(signal: Signal, view: View) -> bytes:
    """Return the evidence of a signal as JSON."""
    return orjson.dumps(
        {
            "observed": bounded(signal.observed),
            "expected": bounded(signal.expected),
            "after": context_evidence(view.context),
            "before": context_evidence(signal.before) if signal.before else None,
            "session_uid": view.context.uid,
            "known": _known_sides(signal, view),
            "suppressed_by": signal.suppressed_by,
        },
        option=orjson.OPT_SORT_KEYS,
    )


def _known_sides(signal: Signal, view: View) -> dict[str, list[str]] | None:
    """Return which parts of both contexts are in the user's baseline; None without a baseline."""
    baseline = view.user.baseline
    if not baseline.sessions:
        return None
    before = known_parts(baseline, signal.before) if signal.before else []
    return {"after": known_parts(baseline, view.context), "before": before}


def network_name(network: Network) -> str:
    """Return e.g. `203.0.113.7 (AS64500 Example ISP, hosting)`."""
    asn = f"AS{network.asn} {network.as_org}".strip() if network.asn else "unknown network"
    return f"{network.ip} ({asn}, {network.kind})" if network.kind else f"{network.ip} ({asn})"


def place_name(place: Place) -> str:
    """Return e.g. `Paris, FR`, or `unknown place`."""
    return ", ".join(part for part in (place.city, place.country) if part) or "unknown place"


def device_name(device: Device) -> str:
    """Return e.g. `Chrome 131 on Windows 10`, or `unknown device`."""
    if not device.browser:
        return "unknown device"
    browser = f"{device.browser} {device.browser_major}" if device.browser_major else device.browser
    return f"{browser} on {device.os} {device.os_major}".rstrip() if device.os else browser


def duration_name(milliseconds: int) -> str:
    """Return e.g. `45 s`, `12 min`, `3.5 h`, `2.0 d`."""
    seconds = milliseconds / 1000
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}" if unit != "h" else f"{seconds / size:.1f} h"
    return f"{seconds / 86_400:.1f} d"
