"""The simulated internet: who announces which prefix, and where it is.

Only documentation (RFC 5737, RFC 3849) and benchmark (RFC 2544) addresses and private-use AS numbers (RFC 6996)
occur. `write_geo` renders the same world as two MaxMind-format files, a city and an ASN one; the ASN records carry
the extension key `network_kind` (isp, mobile, hosting, vpn, tor, relay, satellite).
"""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.simulator.world import CITIES, COUNTRIES, EMBARGOED, City

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

ISP_RADIUS_KM: Final = 20
CARRIER_RADIUS_KM: Final = 150
CARRIER_OFFSET_DEGREES: Final = 0.35
"""A carrier's pools are placed up to this far from their city: under 45 km north-south, well inside the radius."""

UNLISTED_V4: Final = ("192.0.2.", "198.51.100.")
"""Prefixes in use that no geo file knows."""
UNLISTED_V6: Final = "2001:db8:ffff:"

RELAY_ORG: Final = "Simulated Private Relay"
_EPOCH: Final = 1_735_689_600  # build_epoch of the files: a constant, so that equal worlds are equal bytes


class SimulatedNetwork(msgspec.Struct, frozen=True, gc=False, eq=False):
    """Prefixes of one autonomous system at one place.

    Attributes:
        asn: AS number; 0 for networks no geo file knows.
        v4: /24 prefixes as text up to the last octet, e.g. `"198.18.7."`.
        v6: a /48 as text up to the subnet, e.g. `"2001:db8:12:"`; `""` when there is none.
        latitude, longitude, radius_km: what the city file says.
    """

    asn: int
    org: str
    kind: str
    city: City
    latitude: float
    longitude: float
    radius_km: int
    v4: tuple[str, ...]
    v6: str

    def address(self, rng: Random) -> str:
        """Draw an IPv4 host of this network; IPv6 where it has no IPv4."""
        if not self.v4:
            return self.address6(int(rng.random() * 65536), rng)
        return f"{self.v4[int(rng.random() * len(self.v4))]}{1 + int(rng.random() * 253)}"

    def address6(self, subnet: int, rng: Random) -> str:
        """Draw an IPv6 privacy address (RFC 8981) in the subnet's /64."""
        bits = rng.getrandbits(64)
        groups = (bits >> 48, bits >> 32 & 0xFFFF, bits >> 16 & 0xFFFF, bits & 0xFFFF | 1)
        return f"{self.v6}{subnet:x}:{groups[0]:x}:{groups[1]:x}:{groups[2]:x}:{groups[3]:x}"


class Internet(msgspec.Struct, frozen=True, gc=False, eq=False):
    """All networks by their role; keys are cities or country codes."""

    isps: dict[City, tuple[SimulatedNetwork, ...]]
    offices: dict[City, SimulatedNetwork]
    carriers: dict[City, tuple[SimulatedNetwork, ...]]
    relays: dict[str, tuple[SimulatedNetwork, ...]]
    hosting: tuple[SimulatedNetwork, ...]
    vpn: tuple[SimulatedNetwork, ...]
    tor: tuple[SimulatedNetwork, ...]
    satellite: tuple[SimulatedNetwork, ...]
    denied: tuple[SimulatedNetwork, ...]

    def networks(self) -> Iterator[SimulatedNetwork]:
        """Every network that the geo files know."""
        for role in (self.isps, self.carriers, self.relays):
            for group in role.values():
                yield from group
        yield from self.offices.values()
        for group in (self.hosting, self.vpn, self.tor, self.satellite, self.denied):
            yield from group


class _Registry:
    """Hands out prefixes, as a regional registry does."""

    def __init__(self) -> None:
        self._v4 = (f"198.{18 + i // 256}.{i % 256}." for i in range(512))
        self._v6 = (f"2001:db8:{i:x}:" for i in range(1, 0xFFFF))
        self._small = count(64512)
        self._large = count(4_200_000_000)

    def asn(self, *, large: bool = False) -> int:
        return next(self._large if large else self._small)

    def network(self, asn: int, org: str, kind: str, city: City, **more: Any) -> SimulatedNetwork:
        v4 = tuple(next(self._v4) for _ in range(more.get("v4", 1)))
        v6 = next(self._v6) if more.get("v6", True) else ""
        north, east = more.get("offset", (0.0, 0.0))
        latitude, longitude = round(city.latitude + north, 4), round(city.longitude + east, 4)
        return SimulatedNetwork(asn, org, kind, city, latitude, longitude, more.get("radius", ISP_RADIUS_KM), v4, v6)


@cache
def internet() -> Internet:
    """Build the one internet that every simulation shares."""
    registry, rng = _Registry(), Random(20_250_101)  # noqa: S311  # a fixed layout, not a secret
    return Internet(
        isps=_isps(registry),
        offices=_offices(registry),
        carriers=_carriers(registry, rng),
        relays=_relays(registry),
        hosting=_exits(registry, "hosting", _HOSTERS, 3),
        vpn=_exits(registry, "vpn", ("Burrow VPN", "Northwind VPN", "Quiet VPN"), 3),
        tor=_exits(registry, "tor", ("Onion Exit Relays",), 3),
        satellite=_exits(registry, "satellite", ("Skylink Satellite",), 3),
        denied=_denied(registry),
    )


_HOSTERS: Final = (
    "Cumulus Compute",
    "Basalt Servers",
    "Harbor Cloud",
    "Lattice Hosting",
    "Serverfarm One",
    "Granite Rack",
)


def _isps(registry: _Registry) -> dict[City, tuple[SimulatedNetwork, ...]]:
    """Per city the country's national ISP (one ASN everywhere) and one or two local ones."""
    national = {country: registry.asn() for country in COUNTRIES}
    found = {}
    for index, city in enumerate(CITIES):
        name = f"{COUNTRIES[city.country]} Telecom"
        everywhere = registry.network(national[city.country], name, "isp", city, v4=2)
        orgs = ("Fiber", "Cable")[: 1 + index % 2]
        local = [registry.network(registry.asn(), f"{city.name} {org}", "isp", city) for org in orgs]
        found[city] = (everywhere, *local)
    return found


def _offices(registry: _Registry) -> dict[City, SimulatedNetwork]:
    return {
        city: registry.network(registry.asn(large=True), f"{city.name} Business Net", "isp", city) for city in CITIES
    }


def _carriers(registry: _Registry, rng: Random) -> dict[City, tuple[SimulatedNetwork, ...]]:
    """One carrier a country; each city's CGNAT pools are geolocated imprecisely."""
    asns = {country: registry.asn() for country in COUNTRIES}
    found = {}
    for city in CITIES:
        org = f"{COUNTRIES[city.country]} Mobile"
        found[city] = tuple(
            registry.network(
                asns[city.country],
                org,
                "mobile",
                city,
                radius=CARRIER_RADIUS_KM,
                offset=(rng.uniform(-CARRIER_OFFSET_DEGREES, CARRIER_OFFSET_DEGREES), 0.0),
            )
            for _ in range(3)
        )
    return found


def _relays(registry: _Registry) -> dict[str, tuple[SimulatedNetwork, ...]]:
    """A relay's egress: IPv6 in every city, IPv4 in each country's first."""
    asn, seen = registry.asn(), set[str]()
    found: dict[str, tuple[SimulatedNetwork, ...]] = {}
    for city in CITIES:
        v4 = 0 if city.country in seen else 1
        seen.add(city.country)
        net = registry.network(asn, RELAY_ORG, "relay", city, v4=v4, radius=100)
        found[city.country] = (*found.get(city.country, ()), net)
    return found


def _exits(registry: _Registry, kind: str, orgs: tuple[str, ...], places: int) -> tuple[SimulatedNetwork, ...]:
    """Networks of organisations present in several countries, spread over the map."""
    open_cities = [city for city in CITIES if city.country not in EMBARGOED]
    found = []
    for which, org in enumerate(orgs):
        asn = registry.asn(large=True)
        cities = [open_cities[(which * 7 + place * 17) % len(open_cities)] for place in range(places)]
        found += [registry.network(asn, org, kind, city, radius=50) for city in cities]
    return tuple(found)


def _denied(registry: _Registry) -> tuple[SimulatedNetwork, ...]:
    """The network that strict tenants deny by its prefix, 203.0.113.0/24."""
    net = registry.network(registry.asn(large=True), "Bulletproof Broadband", "isp", CITIES[17], v4=0, v6=False)
    return (msgspec.structs.replace(net, v4=("203.0.113.",)),)


def world_version() -> str:
    """A short digest of everything the geo files hold; part of their names."""
    lines = [repr((n.asn, n.org, n.kind, n.city, n.latitude, n.longitude, n.radius_km, n.v4, n.v6)) for n in _all()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def write_geo(directory: Path) -> tuple[Path, Path]:
    """Write the city and the ASN file, unless this version of them is already there.

    Args:
        directory: created when missing.

    Returns:
        The paths of the city and the ASN database.

    Raises:
        ImportError: the extra `simulate` (mmdb-writer) is not installed.
        OSError: the directory cannot be written.
    """
    version = world_version()
    city = directory / f"simulator-city-{version}.mmdb"
    asn = directory / f"simulator-asn-{version}.mmdb"
    directory.mkdir(parents=True, exist_ok=True)
    if not city.exists():
        _write(city, "Sessionwatch-Simulator-City", _city_record)
    if not asn.exists():
        _write(asn, "Sessionwatch-Simulator-ASN", _asn_record)
    return city, asn


def _all() -> Iterable[SimulatedNetwork]:
    return internet().networks()


def _city_record(net: SimulatedNetwork) -> dict[str, Any]:
    names = {"en": COUNTRIES[net.city.country]}
    return {
        "country": {"iso_code": net.city.country, "names": names},
        "city": {"names": {"en": net.city.name}},
        "location": {
            "latitude": net.latitude,
            "longitude": net.longitude,
            "accuracy_radius": net.radius_km,
        },
    }


def _asn_record(net: SimulatedNetwork) -> dict[str, Any]:
    return {
        "autonomous_system_number": net.asn,
        "autonomous_system_organization": net.org,
        "network_kind": net.kind,
    }


def _write(path: Path, database_type: str, record: Any) -> None:
    """Render beside the target, then rename: a reader never sees half a file."""
    from mmdb_writer import MMDBWriter, TreeWriter  # noqa: PLC0415  # an optional extra
    from netaddr import IPSet  # noqa: PLC0415  # comes with it

    writer = MMDBWriter(6, database_type, ["en"], "Simulated networks on documentation ranges", ipv4_compatible=True)
    for net in _all():
        writer.insert_network(IPSet(_prefixes(net)), record(net))
    meta = {**writer._build_meta(), "build_epoch": _EPOCH}  # noqa: SLF001  # no public way to fix the date
    temporary = path.with_suffix(".tmp")
    TreeWriter(writer.tree, meta, writer.int_type, writer.float_type).write(str(temporary))
    temporary.replace(path)


def _prefixes(net: SimulatedNetwork) -> list[str]:
    return [f"{prefix}0/24" for prefix in net.v4] + ([f"{net.v6}:/48"] if net.v6 else [])
