"""`location-change`: a session moves to another place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import (
    hidden,
    is_abroad,
    is_known_carrier,
    is_own_country,
    is_same_device,
    last_own_place,
    last_place,
    moved_km,
    one_line,
    other_country,
    other_device,
)
from worker.detections.evidence import place_name
from worker.detections.familiarity import (
    elapsed_ms,
    is_back,
    is_known_network,
    is_known_user,
    is_off_own_lines,
    is_traveller,
    is_unhurried,
    is_usual_spot,
)
from worker.enrich.geodesy import distance_km
from worker.enrich.model import NetworkKind
from worker.sessions.baseline import DESKTOP, network_key

if TYPE_CHECKING:
    from worker.sessions.state import Context

HOUR_MS = 3_600_000

EXIT = "an anonymiser's exit"
"""All exits of anonymisers are one value: they are raised once."""


class LocationChange(Parameters):
    """Parameters of `location-change`."""

    area_km: float = 100.0
    """Within one country, two places closer than this are one area."""
    ground_kmh: float = 200.0
    """Highest speed of travel on the ground, from door to door."""
    road_kmh: float = 60.0
    """Speed from door to door that few journeys on the ground exceed."""
    flight_km: float = 500.0
    """Distance above which people fly."""
    fastest_kmh: float = 900.0
    """Cruising speed of an airliner: up to it, a journey to a country known of the user is plausible."""


def detect(view: View, parameters: LocationChange) -> Signal | None:
    """Compare the event's place with the session's last one that was the user's own, else with the last known one."""
    before, after = _last_place(view), view.context
    if before is None or one_line(before.network, after.network) or is_known_carrier(view, after.network):
        return None
    abroad = other_country(before.place, after.place)
    distance = distance_km(before.place, after.place) or 0.0
    if not abroad and moved_km(before, after) <= parameters.area_km:
        return None
    fastest = parameters.ground_kmh if distance <= parameters.flight_km else parameters.fastest_kmh
    hurried = distance > fastest * elapsed_ms(view) / HOUR_MS
    masked = hidden(before, after)
    return Signal(
        severity=_abroad(view, before, parameters)
        if abroad
        else _within(view, before, distance, parameters, hurried=hurried),
        subject=after.place.country if abroad else place_name(after.place),
        summary=(
            f"session moved from {place_name(before.place)} to {place_name(after.place)}"
            + (f", {distance:,.0f} km" if distance else "")
            + (", through an anonymiser" if masked else "")
        ),
        observed={"place": place_name(after.place), "distance_km": round(distance), "anonymiser": masked},
        expected={"place": place_name(before.place)},
        before=before,
        once=EXIT if hidden(after) else after.place.country if abroad else place_name(after.place),
        suppressed_by=("plausible-travel",) if abroad and _is_plausible(view, before, distance, parameters) else (),
    )


def _last_place(view: View) -> Context | None:
    """Return the session's last place; if it is on the event's own line, prefer the last one of the same family."""
    before, same, after = last_own_place(view) or last_place(view), view.same_family, view.context
    other_end = before is not None and before.network.family != after.network.family
    if before is None or not other_end or not one_line(before.network, after.network):
        return before
    return same if same is not None and is_own_country(view, same) else before


def _abroad(view: View, before: Context, parameters: LocationChange) -> Severity:
    """Return the severity of a move to another country, which depends on whether the two places are the user's own."""
    after = view.context
    if is_usual_spot(view, after):
        return Severity.LOW
    if is_abroad(view, before, after, parameters.area_km) or _is_out_of_hiding(view, before):
        if _is_journey(view, before, parameters):
            return Severity.LOW
        return Severity.MEDIUM if is_back(view, before) else Severity.HIGH
    if hidden(before, after):
        return Severity.MEDIUM if _is_new_exit(view, after) and not is_unhurried(view, 0.0) else Severity.LOW
    if is_known_carrier(view, before.network) and not _is_carried_at_leisure(view, before):
        # A roaming phone that joins a network abroad, or another person in that country.
        return Severity.HIGH if other_device(before.device, after.device) else Severity.MEDIUM
    return Severity.LOW


def _is_journey(view: View, before: Context, parameters: LocationChange) -> bool:
    """Return whether the device can have been carried: with enough time for a journey, or by a known traveller."""
    distance = distance_km(before.place, view.context.place) or 0.0
    travels = is_traveller(view) and _is_carried(view, before, distance, parameters)
    return travels or _is_carried_at_leisure(view, before)


def _is_carried_at_leisure(view: View, before: Context) -> bool:
    """Return whether the pause was long enough to carry the same device from door to door."""
    distance = distance_km(before.place, view.context.place)
    carried = distance is not None and is_unhurried(view, distance)
    return carried and is_same_device(before.device, view.context.device)


def _is_out_of_hiding(view: View, before: Context) -> bool:
    """Return whether a session comes from behind an anonymiser to a country that is new to a known user."""
    after = view.context
    new = is_own_country(view, after) and after.place.country not in view.user.baseline.countries
    return hidden(before) and new and is_known_user(view)


def _is_new_exit(view: View, after: Context) -> bool:
    """Return whether both country and network are new to a known user, behind an anonymiser that is no gateway."""
    baseline, network = view.user.baseline, after.network
    new = network_key(network) not in baseline.networks and after.place.country not in baseline.countries
    exits = hidden(after) and network.kind not in (NetworkKind.PROXY, NetworkKind.SATELLITE)
    return exits and new and is_known_user(view)


def _within(view: View, before: Context, distance: float, parameters: LocationChange, *, hurried: bool) -> Severity:
    """Return the severity of a move within a country.

    It is medium at a place where the user never was with the network, or for a move to or from it faster than by train.
    """
    after = view.context
    if not is_known_user(view) or is_unhurried(view, distance):
        return Severity.LOW
    stays = distance > parameters.flight_km or after.device.kind == DESKTOP
    brisk = distance > parameters.road_kmh * elapsed_ms(view) / HOUR_MS
    moved = stays and brisk and is_known_network(view, after.network) and is_off_own_lines(view, after)
    fled = hurried and (is_off_own_lines(view, before) or is_off_own_lines(view, after))
    return Severity.MEDIUM if moved or fled else Severity.LOW


def _is_plausible(view: View, before: Context, distance: float, parameters: LocationChange) -> bool:
    """Return whether the same device can have been carried in this time to a known country of the user."""
    known = view.context.place.country in view.user.baseline.countries
    return known and _is_carried(view, before, distance, parameters)


def _is_carried(view: View, before: Context, distance: float, parameters: LocationChange) -> bool:
    """Return whether the same device can have been carried over this distance in this time."""
    old, new = before.device, view.context.device
    return is_same_device(old, new) and distance <= parameters.fastest_kmh * elapsed_ms(view) / HOUR_MS


DETECTION = Detection(
    id="location-change",
    title="Session moved to another place",
    description=(
        "A session moves to another country, or to another place in the same country. People rarely cross a border "
        "within one session, and an attacker is often in another country. Each new country is raised once. A move to "
        "another country is low if the user is known on the network and at the place, if the user is known to travel "
        "and the device can have been carried, or if the session paused at least as long as the journey takes from "
        "door to door (three hours and the flight). It is medium if a session without doubt returns, with one device, "
        "to where it was before. Within a country the severity is medium for a place where the user never was with the "
        "network, or where the user's desktop computers never were, if the move was faster than by train; otherwise it "
        "is low. A VPN abroad that is new to the user is medium if the session goes on through it within three hours."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=(Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),),
    false_positives=(
        "A session used up to the departure gate or on board, in a country that is new to the user.",
        "An address whose country has just changed in the geo data.",
        "A roaming phone that joins a network abroad for the first time (medium, because the device is the same).",
    ),
    runbook=(
        "Look for `impossible-travel` of the user within the same hour; without it, the user may be travelling.",
        "Compare the devices before and after; the same device in a neighbouring country is most often the user's.",
        "Ask the user; if the place is not theirs, revoke the session and reset credentials used in the last 24 hours.",
    ),
    sources=(
        "Okta Identity Threat Protection: session roaming across countries.",
        "Microsoft Entra ID Protection: atypical travel; 100 km as the radius of one metropolitan area.",
    ),
    triggers=Trigger.PLACE,
    parameters=LocationChange(),
    detect=detect,
    covers=("ip-change", "session-interleaving"),
    needs=("place",),
)
