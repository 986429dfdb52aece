"""What must follow from a malicious step, by the written definitions of the detections.

This is the simulator's own reading of the definitions over its own facts (which network, which city, which
device). It shares no code with the detectors. What lies near a threshold, or depends on the order in which the
detectors learn, is allowed rather than expected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from worker.simulator.config import HOUR, MINUTE, SECOND
from worker.simulator.people import STRICT_LIFETIME, WEAK_AMR, SimulatedTenant, SimulatedUser
from worker.simulator.world import EMBARGOED, great_circle_km

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.simulator.agents import SimulatedDevice
    from worker.simulator.geo import SimulatedNetwork

PLACE_KM: Final = (60.0, 150.0)
"""Below: the same place. Above: another. The definition's 100 km lie between."""
TRAVEL_KM: Final = (450.0, 520.0)
TRAVEL_KMH: Final = (850.0, 950.0)
CONCURRENT_MS: Final = (32 * MINUTE, 28 * MINUTE)
LOCATION_RADIUS_KM: Final = {"city": 25.0, "coordinates": 5.0}
ANONYMISERS: Final = frozenset({"vpn", "tor", "relay", "hosting", "satellite", "proxy"})


class Spot(NamedTuple):
    """Where and on what something was done."""

    network: SimulatedNetwork
    ip: str
    device: SimulatedDevice

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.ip else 4

    @property
    def prefix(self) -> str:
        """The /24 or /64, as text."""
        return self.ip.rsplit(".", 1)[0] if self.family == 4 else ":".join(self.ip.split(":")[:4])

    @property
    def trusted(self) -> bool:
        """Whether the user can be said to be there."""
        return bool(self.network.asn) and self.network.kind not in ANONYMISERS


class TrailPoint(NamedTuple):
    """A spot and when, milliseconds."""

    at: int
    spot: Spot


@dataclass(slots=True)
class OracleVerdict:
    """What must and what may be found."""

    expected: set[str] = field(default_factory=set)
    allowed: set[str] = field(default_factory=set)

    def add(self, detection: str, *, sure: bool) -> None:
        """File a detection."""
        (self.expected if sure else self.allowed).add(detection)


def judge_move(user: SimulatedUser, past: Sequence[TrailPoint], now: TrailPoint) -> OracleVerdict:
    """Judge activity in a session against what was seen in it before (at least its start)."""
    verdict = OracleVerdict()
    last = past[-1].spot
    same = next((seen.spot for seen in reversed(past) if seen.spot.family == now.spot.family), None)
    _network(verdict, user, last, same, now.spot)
    _place(verdict, last, now.spot)
    _device(verdict, last, now.spot)
    _hijack(verdict, last, same, now.spot)
    if now.spot.network.kind in ("vpn", "tor", "hosting", "relay"):
        verdict.allowed.add("anonymizer")
    return verdict


def _network(verdict: OracleVerdict, user: SimulatedUser, last: Spot, same: Spot | None, now: Spot) -> None:
    if same is None:
        if last.network.asn != now.network.asn:
            verdict.allowed.add("ip-change")
    elif same.network.asn != now.network.asn:
        verdict.expected.add("ip-change")
    elif same.prefix != now.prefix:
        verdict.add("ip-change", sure=user.service)


def _place(verdict: OracleVerdict, last: Spot, now: Spot) -> None:
    if not (last.network.asn and now.network.asn):
        return
    km = _km(last, now)
    if last.network.city.country != now.network.city.country:
        # Another session of the user may have been used within the half hour.
        verdict.allowed.add("concurrent-countries")
    if last.network.city.country != now.network.city.country or km > PLACE_KM[1]:
        verdict.expected.add("location-change")
    elif km > PLACE_KM[0]:
        verdict.allowed.add("location-change")


def _device(verdict: OracleVerdict, last: Spot, now: Spot) -> None:
    if not last.device.same_client(now.device) or now.device.version < last.device.version:
        verdict.expected.add("device-change")


def _hijack(verdict: OracleVerdict, last: Spot, same: Spot | None, now: Spot) -> None:
    if last.device.same_client(now.device):
        return
    abroad = last.network.city.country != now.network.city.country
    other = last.network.asn != now.network.asn
    if abroad or other:
        verdict.add("session-hijack", sure=abroad or same is not None)


def _km(a: Spot, b: Spot) -> float:
    return great_circle_km(a.network.latitude, a.network.longitude, b.network.latitude, b.network.longitude)


def judge_travel(tenant: SimulatedTenant, past: Sequence[TrailPoint], now: TrailPoint) -> OracleVerdict:
    """Judge the way from the user's last trusted place to this one."""
    verdict = OracleVerdict()
    trusted = [seen for seen in past if seen.spot.trusted and seen.at <= now.at]
    if not (trusted and now.spot.trusted and _located(tenant, now.spot)):
        return verdict
    located = [seen for seen in trusted if _located(tenant, seen.spot)]
    if not located:
        # What is stepped over leads to places from before this case.
        verdict.allowed.add("impossible-travel")
        return verdict
    last = max(located, key=lambda seen: seen.at)
    km = _km(last.spot, now.spot) - _radius(tenant, last.spot) - _radius(tenant, now.spot)
    speed = km * HOUR / max(now.at - last.at, SECOND)
    if km > TRAVEL_KM[0] and speed > TRAVEL_KMH[0]:
        verdict.add("impossible-travel", sure=km > TRAVEL_KM[1] and speed > TRAVEL_KMH[1])
    return verdict


def _located(tenant: SimulatedTenant, spot: Spot) -> bool:
    """Whether coordinates are known: systems that write places write a country alone for a carrier's NAT."""
    return tenant.places == "none" or spot.network.kind != "mobile"


def _radius(tenant: SimulatedTenant, spot: Spot) -> float:
    return LOCATION_RADIUS_KM.get(tenant.places, float(spot.network.radius_km))


def judge_start(
    user: SimulatedUser, others: Sequence[TrailPoint], now: TrailPoint, *, experienced: bool
) -> OracleVerdict:
    """Judge a sign-in by someone else: `others` are the last sights of the user's other sessions."""
    verdict = OracleVerdict()
    _newness(verdict, user, now.spot, experienced=experienced)
    _elsewhere(verdict, others, now)
    _policy(verdict, user.tenant, now.spot)
    if now.spot.network.kind in ("vpn", "tor", "hosting", "relay"):
        verdict.add("anonymizer", sure=not user.service)
    return verdict


def _newness(verdict: OracleVerdict, user: SimulatedUser, now: Spot, *, experienced: bool) -> None:
    located = experienced and now.trusted
    new = {
        "new-country": (now.network.city.country != user.city.country, located),
        "new-network": (now.network.asn not in user.known_asns(), located),
        "new-device": (not any(now.device.same_client(known) for known in user.devices), experienced),
    }
    found = [(name, sure) for name, (is_new, sure) in new.items() if is_new]
    for name, sure in found:
        verdict.add(name, sure=sure)
    if len(found) > 1:
        verdict.add("unfamiliar-sign-in", sure=sum(sure for _, sure in found) > 1)


def _elsewhere(verdict: OracleVerdict, others: Sequence[TrailPoint], now: TrailPoint) -> None:
    """Two sessions used within half an hour of each other from two countries."""
    if not now.spot.trusted:
        return
    gaps = [
        abs(now.at - seen.at)
        for seen in others
        if seen.spot.trusted and seen.spot.network.city.country != now.spot.network.city.country
    ]
    if gaps and min(gaps) < CONCURRENT_MS[0]:
        verdict.add("concurrent-countries", sure=min(gaps) < CONCURRENT_MS[1])


def _policy(verdict: OracleVerdict, tenant: SimulatedTenant, now: Spot) -> None:
    if not tenant.strict:
        return
    if now.network is tenant.denied:
        verdict.expected.add("denied-network")
    if now.network.city.country in EMBARGOED:
        verdict.expected.add("denied-country")


def judge_sign_in(user: SimulatedUser, doc: dict[str, object], *, experienced: bool) -> OracleVerdict:
    """Judge how a session was authenticated and what it may do."""
    verdict, tenant = OracleVerdict(), user.tenant
    weak = doc.get("amr") in WEAK_AMR
    scopes = doc.get("scopes")
    asks = tenant.strict or (isinstance(scopes, (list, tuple)) and not set(scopes).isdisjoint(tenant.mfa_scopes))
    if weak and asks and not user.service:
        verdict.expected.add("weak-authentication")
    if weak and user.amr not in WEAK_AMR:
        verdict.add("auth-downgrade", sure=experienced)
    lifetime = doc.get("max_age_minutes")
    if tenant.strict and isinstance(lifetime, int) and lifetime > STRICT_LIFETIME:
        verdict.expected.add("lifetime-extension")
    return verdict
