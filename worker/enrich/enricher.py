"""Looks up network, place and device of an event, with bounded caches."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from worker.enrich.gazetteer import gazetteer
from worker.enrich.geoip import GeoFile, GeoFileError, place_of, system_of
from worker.enrich.known_networks import KnownNetworks
from worker.enrich.model import UNKNOWN_NETWORK, UNKNOWN_PLACE, Enrichment, Network, NetworkKind, Place
from worker.enrich.networks import PublishedRanges, is_private, kind_of, prefix_of
from worker.enrich.threat_lists import ThreatLists
from worker.enrich.useragent import device_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

K = TypeVar("K")
V = TypeVar("V")


class Resolver(Protocol):
    """Turns a location text into a place."""

    def resolve(self, text: str) -> Place:
        """Return the place, `UNKNOWN_PLACE` when the text names none."""


class GeoSource(NamedTuple):
    """A data source. `built`: its build time, seconds since the epoch, 0 when unknown."""

    name: str
    origin: str
    built: int


class Cache(Generic[K, V]):
    """A bounded cache of two generations: a hit costs one look-up, no bookkeeping.

    When the young generation is full, it replaces the old one; values that are not used again are dropped with it.
    """

    def __init__(self, make: Callable[[K], V], size: int) -> None:
        self._make = make
        self._half = max(size // 2, 1)
        self.young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V:
        """Return the value of a key; it is computed on first use."""
        found = self.young.get(key)
        return self._promote(key) if found is None else found

    def _promote(self, key: K) -> V:
        value = self._old.get(key)
        if value is None:
            value = self._make(key)
        if len(self.young) >= self._half:
            self._old, self.young = self.young, {}
        self.young[key] = value
        return value

    def clear(self) -> None:
        """Remove all values."""
        self.young, self._old = {}, {}


class Enricher:
    """Network, place and device of an event.

    Args:
        city, asn: geo files; without one, its fields are unknown.
        known: networks with a known kind.
        resolver: resolves location texts.
        cache_size: most addresses, locations and user agents in the caches, each.
        threats: lists of networks known for attacks.
    """

    def __init__(
        self,
        city: GeoFile | None,
        asn: GeoFile | None,
        resolver: Resolver,
        known: KnownNetworks,
        cache_size: int = 1 << 17,
        threats: ThreatLists | None = None,
    ) -> None:
        self._threats = threats or ThreatLists()
        self._city, self._asn, self._ranges, self._known = city, asn, PublishedRanges(), known
        self._addresses = Cache(self._look_up, cache_size)
        self._locations = Cache(resolver.resolve, cache_size)
        self._devices = Cache(device_of, cache_size)

    def enrich(self, ip: str, location: str | None, user_agent: str) -> Enrichment:
        """Return network, place and device. A resolved location is the place, unless the address contradicts it.

        An attacker can send the victim's location as easily as the victim's user agent, but not from the victim's
        address. If location and address have different countries, the place is that of the address, and keeps the
        stated country.

        Args:
            ip: canonical address text.
            location: the event's location.
            user_agent: the event's user agent.
        """
        network, place = self._addresses.get(ip)
        if location:
            named = self._locations.get(location)
            if named is not UNKNOWN_PLACE:
                place = _reconciled(named, place)
        return Enrichment(network, place, self._devices.get(user_agent))

    def warm(self) -> None:
        """Load data that is otherwise loaded on first use, so that the first events do not wait over a second."""
        self._locations.get("Paris, FR")
        self._devices.get("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/141.0.0.0 Safari/537.36")
        self._ranges.kind("192.0.2.1")

    def reload(self) -> bool:
        """Reload geo files and threat lists that were replaced; return whether any was.

        Raises:
            worker.enrich.geoip.GeoFileError: one is missing or broken; its last content stays in use.
        """
        changed, failed = False, None
        for file in (self._city, self._asn, *self._threats.lists):
            try:
                changed |= file is not None and file.reload()
            except GeoFileError as error:
                failed = error
        if changed:
            self._addresses.clear()
        if failed is not None:
            raise failed
        return changed

    def sources(self) -> list[GeoSource]:
        """Return the data sources, for checks and metrics."""
        files = [("geo.city_db", self._city), ("geo.asn_db", self._asn)]
        known = [GeoSource(name, str(file.path), file.built) for name, file in files if file is not None]
        lists = [GeoSource("geo.threat_lists", str(each.path), each.built) for each in self._threats.lists]
        return [*known, GeoSource("networks", "iporigin", self._ranges.built), *lists]

    def _look_up(self, ip: str) -> tuple[Network, Place]:
        if not ip:
            return UNKNOWN_NETWORK, UNKNOWN_PLACE
        address = ipaddress.ip_address(ip)
        if is_private(address):
            return Network(ip, address.version, "", 0, "", NetworkKind.PRIVATE.value), UNKNOWN_PLACE
        system = system_of(self._asn.find(ip) if self._asn else {})
        kind = system.kind or kind_of(self._known, address, system, self._ranges.kind(ip)).value
        threats = self._threats.find(ip, system.number)
        network = Network(ip, address.version, prefix_of(address), system.number, system.organisation, kind, threats)
        return network, place_of(self._city.find(ip)) if self._city else UNKNOWN_PLACE


def _reconciled(stated: Place, located: Place) -> Place:
    """Return the stated place, or the address's place when it is in another country."""
    if not stated.country or not located.country or stated.country == located.country:
        return stated
    return msgspec.structs.replace(located, stated_country=stated.country)


def build_enricher(
    city_db: Path | None,
    asn_db: Path | None,
    networks: Path | None = None,
    cache_size: int = 1 << 17,
    threat_lists: Sequence[Path] = (),
) -> Enricher:
    """Return an enricher over geo files, a file of known networks in front of the shipped one, and threat lists.

    Raises:
        worker.enrich.geoip.GeoFileError: a file is given and cannot be read.
    """
    city = GeoFile(city_db) if city_db else None
    asn = GeoFile(asn_db) if asn_db else None
    return Enricher(city, asn, gazetteer(), KnownNetworks(networks), cache_size, ThreatLists(threat_lists))
