"""`location-change`: a session goes on from another place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import hidden, last_place, moved_km, other_country, other_device
from worker.detections.evidence import place_name

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
    """Compare the event's place with the session's last known one."""
    before, after = last_place(view), view.context
    if before is None:
        return None
    abroad = other_country(before.place, after.place)
    distance = moved_km(before.place, after.place)
    if not abroad and distance <= parameters.area_km:
        return None
    masked = hidden(before, after)
    return Signal(
        severity=Severity.HIGH if abroad and not masked else Severity.LOW,
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
    needs=("place",),
)
