"""`ip-change`: a session moves to another network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import (
    hidden,
    is_abroad,
    is_gone_private,
    moved_km,
    other_country,
    other_network,
    other_system,
    same_operator,
)
from worker.detections.evidence import network_name, place_name
from worker.detections.familiarity import (
    FLIGHT_KMH,
    PAUSE,
    elapsed_ms,
    is_known_area,
    is_known_network,
    is_known_user,
    is_new_to_client,
    is_off_own_lines,
    is_out_of_place,
    is_settled_network,
    is_traveller,
    is_unhurried,
)
from worker.enrich.geodesy import distance_km
from worker.enrich.model import NetworkKind, is_own_place
from worker.sessions.baseline import DESKTOP, network_key
from worker.sessions.limits import HOUR

if TYPE_CHECKING:
    from worker.enrich.model import Network
    from worker.sessions.state import Context


class IpChange(Parameters):
    """Parameters of `ip-change`."""

    area_km: float = 100.0
    """Two places closer than this are one area."""
    far_km: float = 400.0
    """Distance within a country above which the speed does not matter."""
    ground_kmh: float = 200.0
    """Highest speed of travel on the ground, from door to door."""
    road_kmh: float = 60.0
    """Speed from door to door that few journeys on the ground exceed."""


def detect(view: View, parameters: IpChange) -> Signal | None:
    """Compare the event's network with the session's last one of the same address family, else with its last one."""
    before, after = view.same_family or _other_family(view), view.context
    if before is None or not _is_moved(before.network, after.network):
        return None
    return Signal(
        severity=_severity(view, before, parameters),
        subject=network_key(after.network),
        summary=(
            f"session moved from {network_name(before.network)}, {place_name(before.place)} "
            f"to {network_name(after.network)}, {place_name(after.place)}"
        ),
        observed={"network": network_key(after.network), "ip": after.network.ip},
        expected={"network": network_key(before.network), "ip": before.network.ip},
        before=before,
        once=network_key(after.network),
    )


def _other_family(view: View) -> Context | None:
    """Return the session's last context if the event comes from another system, else None."""
    before = view.before
    return before if before is not None and other_system(before.network, view.context.network) else None


def _is_moved(before: Network, after: Network) -> bool:
    return other_network(before, after) or other_system(before, after) or is_gone_private(before, after)


def _severity(view: View, before: Context, parameters: IpChange) -> Severity:
    old, new = before.network, view.context.network
    if view.is_machine():
        return _of_service(view, before)
    if is_gone_private(old, new):
        return Severity.LOW
    if _is_away_from_home(view, before) or _is_elsewhere(view, before, parameters):
        return Severity.MEDIUM
    if not other_system(old, new) or is_known_network(view, new) or _is_there(view, new):
        return Severity.INFORMATIONAL
    if new.kind in (NetworkKind.HOSTING, NetworkKind.TOR):
        return Severity.MEDIUM
    return Severity.MEDIUM if _is_away(view, before, parameters) else Severity.LOW


def _is_away(view: View, before: Context, parameters: IpChange) -> bool:
    """Return whether the session goes on in another place. Within one country, the user must be past learning."""
    after = view.context
    distance = moved_km(before, after)
    if is_abroad(view, before, after, parameters.area_km):
        return not (is_traveller(view) or is_unhurried(view, distance))
    if _is_off_gateway(view, before):
        return True
    if is_unhurried(view, distance):
        return False
    hurried = distance > parameters.far_km or distance > parameters.ground_kmh * elapsed_ms(view) / HOUR
    return distance > parameters.area_km and hurried and is_known_user(view)


def _is_elsewhere(view: View, before: Context, parameters: IpChange) -> bool:
    """Return whether a known user's session goes on in another town, on a line new to the client, faster than by road.

    If the time was enough for the journey, the user may be using somebody else's line.
    """
    after = view.context
    new = is_new_to_client(view, after) if other_system(before.network, after.network) else _is_other_line(view)
    if not new or not is_known_user(view):
        return False
    if is_own_place(before.network, before.place) or before.network.kind == NetworkKind.SATELLITE:
        return _is_faster(before, after, elapsed_ms(view), parameters)
    return _is_unfamiliar(view, parameters)


def _is_unfamiliar(view: View, parameters: IpChange) -> bool:
    """Like `_is_elsewhere`, for a session that comes from a mobile carrier or gateway, whose place is not the user's.

    It compares with the user's last own place. Failing that, the session was used within the last hour, and the area is
    new to the user.
    """
    after, (number, when, *_) = view.context, view.user.place
    if number and _is_faster(view.contexts[number], after, abs(view.now - when), parameters):
        return True
    own = is_own_place(after.network, after.place) and not hidden(after)
    return own and elapsed_ms(view) <= HOUR and not is_known_area(view, after.place)


def _is_faster(before: Context, after: Context, elapsed: int, parameters: IpChange) -> bool:
    """Return whether two places are certainly apart, too far to go by road, in a time too short to fly."""
    distance = distance_km(before.place, after.place) or 0.0
    apart = moved_km(before, after) > 0.0
    return apart and distance > parameters.road_kmh * elapsed / HOUR and elapsed < PAUSE + distance / FLIGHT_KMH * HOUR


def _is_other_line(view: View) -> bool:
    """Return whether a desktop computer is on a line of its provider where the user's desktops never were."""
    after = view.context
    return after.device.kind == DESKTOP and is_off_own_lines(view, after)


def _is_away_from_home(view: View, before: Context) -> bool:
    """Return whether a phone moves from its carrier to a network that is known only in one other place of the user."""
    after = view.context
    if is_unhurried(view, 0.0):
        return False
    known = before.network.kind == NetworkKind.MOBILE and is_known_network(view, after.network) and is_known_user(view)
    return known and is_own_place(after.network, after.place) and is_out_of_place(view, after)


def _is_off_gateway(view: View, before: Context) -> bool:
    """Return whether a session that came through a settled gateway goes on without it, in an area new to the user."""
    after = view.context
    always = hidden(before) and is_settled_network(view, before.network) and is_known_user(view)
    if before.network.kind == NetworkKind.SATELLITE and view.user.baseline.places:
        return False  # the satellite network may be that of an airliner, which has landed
    return always and is_own_place(after.network, after.place) and not is_known_area(view, after.place)


def _is_there(view: View, new: Network) -> bool:
    """Return whether the session's last event came from that system, by the other address family."""
    return view.before is not None and view.before.network.asn == new.asn


def _of_service(view: View, before: Context) -> Severity:
    """Return the severity for a service, which should not move. If either system is unknown, a move is not certain."""
    old, new = before.network, view.context.network
    if not (old.asn and new.asn):
        return Severity.INFORMATIONAL
    if is_known_network(view, new) and not other_country(before.place, view.context.place):
        return Severity.INFORMATIONAL
    if same_operator(old, new):
        return Severity.LOW
    return Severity.HIGH


DETECTION = Detection(
    id="ip-change",
    title="Session moved to another network",
    description=(
        "A session moves to another network. People take their sessions between office, home and mobile networks, so a "
        "move alone is context and no alert. A stolen session often first shows as a move to a system new to the user "
        "in another place, to a hosting network or Tor, away from a gateway that was always used, or to a place of the "
        "user's own provider where the user never was; these moves are medium. Within a country they are medium only "
        "for users past their learning period: far away or faster than by train, or, to a provider that is new to the "
        "user or to the user's desktop computers, in another town and faster than by road. After a pause that is long "
        "enough for the journey the severity is low. For a service, whose networks are learned, a move to another "
        "region of its operator is low, and to another operator high."
    ),
    severity=Severity.LOW,
    score=21,
    scope=Scope.SESSION,
    attacks=(Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),),
    false_positives=(
        "Travelling, or switching between Wi-Fi, mobile carrier and a corporate VPN.",
        "A provider that moves customers between address blocks of two autonomous systems.",
        "A laptop that uses the connection of a phone whose carrier has its gateway in another town.",
    ),
    runbook=(
        "Compare before and after in the evidence; the same device on a known network of the user is normal roaming.",
        "Look at the session's other findings of the last 60 minutes; with a device change, treat it as a hijack.",
        "If the user does not recognise the network, revoke the session and the user's others of the last 24 hours.",
    ),
    sources=(
        "Okta Identity Threat Protection: session context change (new IP, new ASN) during a session.",
        "Microsoft Entra ID Protection: anomalous token, unfamiliar sign-in properties.",
    ),
    triggers=Trigger.NETWORK,
    parameters=IpChange(),
    detect=detect,
    needs=("network",),
)
