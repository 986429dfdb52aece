"""`impossible-travel`: a user is in two places faster than anyone travels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import (
    apart_km,
    is_known_carrier,
    is_reauthenticated,
    one_line,
    other_country,
    other_device,
)
from worker.detections.evidence import duration_name, place_name
from worker.detections.familiarity import is_back, is_usual_spot, pair
from worker.enrich.geodesy import distance_km
from worker.enrich.model import NetworkKind, is_own_place
from worker.sessions.baseline import network_key

if TYPE_CHECKING:
    from worker.sessions.state import Context


class ImpossibleTravel(Parameters):
    """Parameters of `impossible-travel`."""

    least_km: float = 500.0
    """Distances up to this are ignored, because geo data can be that wrong."""
    fastest_kmh: float = 900.0
    """Highest possible speed: the cruising speed of an airliner."""
    hurried_kmh: float = 600.0
    """Highest possible speed from door to door, for a running session that goes on in a system new to the user."""
    far_km: float = 1_500.0
    """Distance above which `hurried_kmh` applies."""


HOUR_MS = 3_600_000
CARRIER_KM = 500.0
"""Error of the place of a mobile carrier, in km."""
LEAST_MS = 1_000
"""Shortest time between two places, in milliseconds."""


def detect(view: View, parameters: ImpossibleTravel) -> Signal | None:
    """Compare the event with the user's last activity, in event time, at a place that is the user's own."""
    number, when, *_ = view.user.place
    if not number:
        return None
    before = view.contexts[number]
    distance = _distance(view, before)
    elapsed = max(abs(view.activity - when), LEAST_MS)
    speed = distance / (elapsed / HOUR_MS)
    fastest = _fastest(view, before, distance, parameters)
    if distance <= parameters.least_km or speed <= fastest:
        return None
    places = pair(place_name(before.place), place_name(view.context.place))
    return Signal(
        severity=_severity(view, before),
        subject=places.replace(" - ", "-"),
        once=_once(before, view.context),
        summary=(
            f"from {place_name(before.place)} to {place_name(view.context.place)}, {distance:,.0f} km in "
            f"{duration_name(elapsed)}: {speed:,.0f} km/h"
        ),
        observed={"distance_km": round(distance), "elapsed_ms": elapsed, "speed_kmh": round(speed)},
        expected={"fastest_kmh": fastest, "other_session": before.uid},
        before=before,
    )


def _severity(view: View, before: Context) -> Severity:
    """Return the severity, which depends on the user's usual places and on where the session was before."""
    usual = is_usual_spot(view, before) and is_usual_spot(view, view.context)
    if usual or _are_two_devices(before, view.context):
        return Severity.LOW
    return Severity.MEDIUM if is_back(view, before) else Severity.HIGH


def _are_two_devices(before: Context, after: Context) -> bool:
    """Return whether two sessions on two devices are in one country, such as those of a laptop and a phone.

    The network of a phone is not always known to be a mobile carrier. Other detections handle a sign-in with a device
    that is new to the user.
    """
    apart = before.uid != after.uid and bool(other_device(before.device, after.device))
    return apart and not other_country(before.place, after.place)


def _once(before: Context, after: Context) -> str:
    """Return the value that it is raised once for: the pair of countries or, within one country, of places."""
    if other_country(before.place, after.place):
        return pair(before.place.country, after.place.country)
    return pair(place_name(before.place), place_name(after.place))


def _fastest(view: View, before: Context, distance: float, parameters: ImpossibleTravel) -> float:
    """Return the highest possible speed, in km/h.

    The cruising speed is reached only in the air, where sessions come through satellite networks. For a session that
    goes on in a system new to the user, without a new sign-in, the lower speed from door to door applies.
    """
    after = view.context
    goes_on = view.session is not None and before.uid == after.uid and not is_reauthenticated(view)
    new = bool(after.network.asn) and network_key(after.network) not in view.user.baseline.networks
    flown = view.before is not None and view.before.network.kind == NetworkKind.SATELLITE
    hurried = (
        goes_on and not flown and is_own_place(after.network, after.place) and new and distance > parameters.far_km
    )
    return parameters.hurried_kmh if hurried else parameters.fastest_kmh


def _distance(view: View, before: Context) -> float:
    """Return the shortest possible distance, in km. A mobile carrier new to the user only proves another country."""
    after = view.context
    if is_own_place(after.network, after.place):
        return apart_km(before, after)
    unproven = is_known_carrier(view, after.network) or not other_country(before.place, after.place)
    if unproven or one_line(before.network, after.network):
        return 0.0
    return max(0.0, (distance_km(before.place, after.place) or 0.0) - before.place.radius_km - CARRIER_KM)


DETECTION = Detection(
    id="impossible-travel",
    title="Impossible travel",
    description=(
        "A user acted in two places, and no airliner covers their distance, minus the accuracy of both places, in the "
        "time between. If a running session goes on far away in a system new to its user, the limit is 600 km/h from "
        "door to door. Consecutive activities of all sessions of the user are compared, in event time; places that are "
        "not the user's own are skipped. A pair of places is raised once while it recurs. It is low if the user is "
        "known in both places, or if the two sessions are on two devices within one country. It is medium if a session "
        "returns, with one device, to where it was before from a known network of the user, as on a journey with a "
        "phone."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.USER,
    attacks=(
        Attack("T1078", "Valid Accounts"),
        Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),
    ),
    false_positives=(
        "A corporate VPN or remote desktop in another country that no list knows.",
        "An account shared by people in two places.",
    ),
    runbook=(
        "Compare both sessions in the evidence; if their devices differ, too, two people are likely.",
        "Ask the user where they are; check for a VPN client or a remote desktop used within the last 24 hours.",
        "If one place is not theirs, revoke that session and reset the credentials it was created with.",
    ),
    sources=(
        "Microsoft Entra ID Protection: impossible travel.",
        "Splunk and Okta: 500 miles per hour upwards; 900 km/h is an airliner's cruising speed.",
        "500 km: the error that geo data of carriers and providers sometimes has.",
    ),
    triggers=Trigger.TRAVEL,
    parameters=ImpossibleTravel(),
    detect=detect,
    covers=("location-change", "ip-change", "concurrent-countries", "new-country", "session-interleaving"),
    needs=("place",),
)
