"""`location-change`: a session goes on from another place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import hidden, last_place, moved_km, other_country, other_device
from worker.detections.evidence import place_name
from worker.detections.familiarity import elapsed_ms, is_known_user, is_out_of_place, is_usual_spot

if TYPE_CHECKING:
    from worker.sessions.state import Context

HOUR_MS = 3_600_000


class LocationChange(Parameters):
    """Parameters of `location-change`."""

    area_km: float = 100.0
    """Within one country, two places closer than this are one."""
    ground_kmh: float = 200.0
    """What nobody travels at on the ground, door to door."""
    fastest_kmh: float = 900.0
    """Cruising speed of an airliner: up to it a journey to where the user has been before is plausible."""


def detect(view: View, parameters: LocationChange) -> Signal | None:
    """Compare the event's place with the session's last known one."""
    before, after = last_place(view), view.context
    if before is None:
        return None
    abroad = other_country(before.place, after.place)
    distance = moved_km(before.place, after.place)
    if not abroad and distance <= parameters.area_km:
        return None
    hurried = distance > parameters.ground_kmh * elapsed_ms(view) / HOUR_MS
    masked = hidden(before, after)
    return Signal(
        severity=_abroad(view, before, distance, parameters) if abroad else _within(view, before, hurried=hurried),
        subject=after.place.country if abroad else place_name(after.place),
        summary=(
            f"session moved from {place_name(before.place)} to {place_name(after.place)}"
            + (f", {distance:,.0f} km" if distance else "")
            + (", through an anonymiser" if masked else "")
        ),
        observed={"place": place_name(after.place), "distance_km": round(distance), "anonymiser": masked},
        expected={"place": place_name(before.place)},
        before=before,
        once=after.place.country if abroad else place_name(after.place),
        suppressed_by=("plausible-travel",) if abroad and _is_plausible(view, before, distance, parameters) else (),
    )


def _abroad(view: View, before: Context, distance: float, parameters: LocationChange) -> Severity:
    """Another country is high, unless the user is known there or it is the other side of the border."""
    after = view.context
    if hidden(after) or is_usual_spot(view, after):
        return Severity.LOW
    located = None not in (before.place.latitude, after.place.latitude)
    known = after.place.country in view.user.baseline.countries
    near = located and distance <= parameters.area_km
    return Severity.LOW if near or (hidden(before) and (known or not is_known_user(view))) else Severity.HIGH


def _within(view: View, before: Context, *, hurried: bool) -> Severity:
    """Within a country it counts where the user never was, and got to or from faster than by train.

    Mobile carriers take their customers' traffic out wherever they like: on a network that was seen in several places
    another one is nothing.
    """
    after = view.context
    if not hurried or hidden(before, after) or not is_known_user(view):
        return Severity.LOW
    return Severity.MEDIUM if is_out_of_place(view, before) or is_out_of_place(view, after) else Severity.LOW


def _is_plausible(view: View, before: Context, distance: float, parameters: LocationChange) -> bool:
    """Tell whether the same device was carried, in the time there was, to a country the user is known in."""
    after = view.context
    same_device = bool(before.device.browser and after.device.browser) and not other_device(before.device, after.device)
    in_time = distance <= parameters.fastest_kmh * elapsed_ms(view) / HOUR_MS
    return same_device and in_time and after.place.country in view.user.baseline.countries


DETECTION = Detection(
    id="location-change",
    title="Session moved to another place",
    description=(
        "One session is used from another country, or from farther away in the same country, than before. People "
        "rarely cross a border within one session; whoever took the session over often sits behind one."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=(Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),),
    false_positives=(
        "A long-lived session carried across a border, by train or plane, to a country that is new to the user.",
        "An address whose geo data has just been moved to another country.",
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
    covers=("ip-change", "session-interleaving"),
    needs=("place",),
)
