"""`location-change`: a session goes on from another place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import (
    hidden,
    is_abroad,
    is_known_carrier,
    last_own_place,
    last_place,
    moved_km,
    one_line,
    other_country,
    other_device,
)
from worker.detections.evidence import place_name
from worker.enrich.geodesy import distance_km
from worker.enrich.model import NetworkKind
from worker.sessions.baseline import network_key

if TYPE_CHECKING:
    from worker.sessions.state import Context

HOUR_MS = 3_600_000


class LocationChange(Parameters):
    """Parameters of `location-change`."""

    area_km: float = 100.0
    """Within one country, two places closer than this are one."""
    fastest_kmh: float = 900.0
    """Cruising speed of an airliner: up to it a journey to where the user has been before is plausible."""


def detect(view: View, parameters: LocationChange) -> Signal | None:
    """Compare the event's place with the session's last one that was the user's own, else with the last known."""
    before, after = last_own_place(view) or last_place(view), view.context
    if before is None or one_line(before.network, after.network) or is_known_carrier(view, after.network):
        return None
    abroad = other_country(before.place, after.place)
    distance = distance_km(before.place, after.place) or 0.0
    if not abroad and moved_km(before, after) <= parameters.area_km:
        return None
    masked = hidden(before, after)
    return Signal(
        severity=_severity(view, before, parameters) if abroad else Severity.LOW,
        subject=after.place.country if abroad else place_name(after.place),
        summary=(
            f"session moved from {place_name(before.place)} to {place_name(after.place)}"
            + (f", {distance:,.0f} km" if distance else "")
            + (", through an anonymiser" if masked else "")
        ),
        observed={"place": place_name(after.place), "distance_km": round(distance), "anonymiser": masked},
        expected={"place": place_name(before.place)},
        before=before,
        suppressed_by=("plausible-travel",) if abroad and _is_plausible(view, before, distance, parameters) else (),
    )


def _severity(view: View, before: Context, parameters: LocationChange) -> Severity:
    """Weigh a move to another country by how far either place is the user's."""
    after = view.context
    if is_abroad(view, before, after, parameters.area_km):
        return Severity.HIGH
    if hidden(before, after):
        return Severity.MEDIUM if _is_new_exit(view, after) else Severity.LOW
    if is_known_carrier(view, before.network):
        # A phone that roams at home and joins a network there, or somebody else in that country.
        return Severity.HIGH if other_device(before.device, after.device) else Severity.MEDIUM
    return Severity.LOW


def _is_new_exit(view: View, after: Context) -> bool:
    """Tell whether a country new to the user is reached through a network that is new as well, other than a gateway."""
    baseline, network = view.user.baseline, after.network
    new = network_key(network) not in baseline.networks and after.place.country not in baseline.countries
    return hidden(after) and network.kind not in (NetworkKind.PROXY, NetworkKind.SATELLITE) and new


def _is_plausible(view: View, before: Context, distance: float, parameters: LocationChange) -> bool:
    """Tell whether the same device was carried, in the time there was, to a country the user is known in."""
    after = view.context
    same_device = bool(before.device.browser and after.device.browser) and not other_device(before.device, after.device)
    elapsed = view.now - (view.session.seen if view.session else view.now)
    in_time = distance <= parameters.fastest_kmh * elapsed / HOUR_MS
    return same_device and in_time and after.place.country in view.user.baseline.countries


DETECTION = Detection(
    id="location-change",
    title="Session moved to another place",
    description=(
        "One session is used from another country, or from farther away in the same country, than before. People "
        "rarely cross a border within one session; whoever took the session over often sits behind one. Of a mobile "
        "carrier at most the country counts, and nothing once the user is known on it, for phones roam. A VPN or "
        "relay new to the user is medium in a country new to the user, else low."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=(Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),),
    false_positives=(
        "A long-lived session carried across a border, by train or plane, to a country that is new to the user.",
        "An address whose geo data has just been moved to another country.",
        "A phone that roams joins a network abroad for the first time: the same device, so medium.",
    ),
    runbook=(
        "Look for `impossible-travel` of the user within the same hour: without it the user may be travelling.",
        "Compare the devices before and after; the same device in a neighbouring country is most often its owner.",
        "Ask the user; if the place is not theirs, revoke the session and reset credentials used in the last 24 hours.",
    ),
    sources=(
        "Okta Identity Threat Protection: session roaming across countries.",
        "Microsoft Entra ID Protection: atypical travel; 100 km as the radius of one metropolitan area.",
    ),
    triggers=Trigger.PLACE,
    parameters=LocationChange(),
    detect=detect,
    needs=("place",),
)
