"""Traits: what happens in some people's lives on top of their persona."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from worker.simulator.agents import LAPTOPS, PHONES, device_of
from worker.simulator.config import DAY, HOUR
from worker.simulator.ordinary.person import Stay
from worker.simulator.people import Seat
from worker.simulator.world import CITIES, EMBARGOED, City, distance_km

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.simulator.geo import SimulatedNetwork
    from worker.simulator.ordinary.config import OrdinaryConfig
    from worker.simulator.ordinary.person import Person

    Apply = Callable[[Person, OrdinaryConfig], None]

FOREVER: Final = 1 << 60
STATIONARY: Final = frozenset({"kiosk", "service"})


class Trait(NamedTuple):
    """A trait.

    Attributes:
        name: as reports show it.
        share: of the people whom it suits.
        suits: whether it can be part of a person's life.
        apply: makes it part of it.
    """

    name: str
    share: float
    suits: Callable[[Person], bool]
    apply: Apply


def _human(person: Person) -> bool:
    return person.persona.name not in STATIONARY


def _has(kind: str) -> Callable[[Person], bool]:
    return lambda person: _human(person) and any(client.kind == kind for client in person.clients)


def _works(person: Person) -> bool:
    return _human(person) and person.work is not None


def _cities(person: Person, nearest: float, farthest: float, *, abroad: bool | None = None) -> list[City]:
    """Return the cities at a distance from the person's, abroad or not; the nearest other one if there is none."""
    others = [
        city
        for city in CITIES
        if city is not person.city
        and city.country not in EMBARGOED
        and (abroad is None or (city.country != person.city.country) is abroad)
    ] or [city for city in CITIES if city is not person.city and city.country not in EMBARGOED]
    found = [city for city in others if nearest <= distance_km(person.city, city) <= farthest]
    return found or [min(others, key=lambda city: distance_km(person.city, city))]


def _line(person: Person, city: City) -> Seat:
    network = person.rng.choice(person.world.isps[city])
    return Seat((network,), network.address(person.rng))


def _preferred(networks: Iterable[SimulatedNetwork], person: Person) -> SimulatedNetwork:
    """Draw a network abroad where there is one."""
    every = list(networks)
    return person.rng.choice([net for net in every if net.city.country != person.city.country] or every)


def _time(person: Person, config: OrdinaryConfig, low: float, high: float) -> int:
    return config.day(config.days * (low + (high - low) * person.rng.random()))


def _moves_house(person: Person, config: OrdinaryConfig) -> None:
    city = person.rng.choice(_cities(person, 500, 4_000))
    since = _time(person, config, 0.3, 0.6)
    line = _line(person, city)
    person.stays.append(Stay(since, FOREVER, line, Seat(person.world.carriers[city])))


def _travels(person: Person, config: OrdinaryConfig) -> None:
    """Journeys: a hotel's Wi-Fi, a phone that roams in the country or goes out through the home carrier."""
    for part in (0.2, 0.45, 0.75):
        city = person.rng.choice(_cities(person, 400, 9_000, abroad=True))
        since = _time(person, config, part, part + 0.1)
        until = since + person.draw(2, 9) * DAY
        mobile = person.carrier if person.chance(0.6) else Seat(person.world.carriers[city])
        person.stays.append(Stay(since, until, _line(person, city), mobile))


def _flies_online(person: Person, config: OrdinaryConfig) -> None:
    aboard = Seat(tuple(person.world.satellite))
    for _ in range(4):
        since = _time(person, config, 0.1, 0.95)
        person.stays.append(Stay(since, since + 8 * HOUR, aboard, aboard))


def _weekends_with_parents(person: Person, config: OrdinaryConfig) -> None:
    line = _line(person, person.rng.choice(_cities(person, 100, 900, abroad=False)))
    for week in range(config.days // 7):
        if person.chance(0.5):
            person.stays.append(Stay(config.day(7 * week + 4.7), config.day(7 * week + 6.9), line, person.carrier))


def _commutes_over_border(person: Person, config: OrdinaryConfig) -> None:
    del config
    city = min(_cities(person, 0, 30_000, abroad=True), key=lambda each: distance_km(person.city, each))
    person.work = _line(person, city)


def _carrier_elsewhere(person: Person, config: OrdinaryConfig) -> None:
    """The carrier's gateways, and so the places of its addresses, are in another city of the country."""
    del config
    person.carrier = Seat(person.world.carriers[person.rng.choice(_cities(person, 250, 5_000, abroad=False))])


def _egress_elsewhere(person: Person, config: OrdinaryConfig) -> None:
    """The laptop goes out through the employer's gateway abroad; the phone does not."""
    del config
    network = person.world.offices[person.rng.choice(_cities(person, 300, 9_000, abroad=True))]
    seat = Seat((network,), network.address(person.rng))
    for client in person.clients:
        client.seat = seat if client.kind == "laptop" else client.seat


def _cloud_proxy(person: Person, config: OrdinaryConfig) -> None:
    """A security service in the cloud carries the laptop's traffic, out of its nearest or another site."""
    del config
    operator = _preferred(person.world.hosting, person).asn
    sites = tuple(net for net in person.world.hosting if net.asn == operator)
    for client in person.clients:
        client.seat = Seat(sites[:2]) if client.kind == "laptop" else client.seat


def _evenings(person: Person, config: OrdinaryConfig, networks: tuple[SimulatedNetwork, ...]) -> None:
    """Evenings through a VPN: the laptop's exit differs, phones stay on their line."""
    exits = Seat(tuple(person.rng.sample(networks, min(3, len(networks)))))
    for day in range(config.days):
        if person.chance(0.4):
            since = config.day(day + 0.75)
            person.stays.append(Stay(since, since + 5 * HOUR, exits, person.carrier))


def _vpn_listed(person: Person, config: OrdinaryConfig) -> None:
    _evenings(person, config, person.world.vpn)


def _vpn_unlisted(person: Person, config: OrdinaryConfig) -> None:
    _evenings(person, config, person.world.hosting)


def _relay(person: Person, config: OrdinaryConfig) -> None:
    del config
    egress = person.world.relays[person.city.country]
    for client in person.clients:
        if client.kind == "phone":
            client.seat = Seat(egress, "", person.draw(0, 65_535))


def _satellite_line(person: Person, config: OrdinaryConfig) -> None:
    del config
    person.home = Seat(tuple(person.world.satellite[:2]))


def _dual_stack(person: Person, config: OrdinaryConfig) -> None:
    """One line, two families; the address database places the provider's IPv6 in another of its cities."""
    del config
    network = person.world.isps[person.city][0]
    other = person.world.isps[person.rng.choice(_cities(person, 0, 2_000, abroad=False))][0]
    person.home = Seat((network,), network.address(person.rng))
    six = Seat((other,), "", person.draw(0, 65_535))
    for client in person.clients:
        client.seat = six if client.kind == "laptop" else client.seat


def _provider_misplaced(person: Person, config: OrdinaryConfig) -> None:
    """Addresses change, and the database places them in several cities of the provider."""
    del config
    lines = [net for city in _cities(person, 0, 3_000, abroad=False)[:3] for net in person.world.isps[city][:1]]
    person.home = Seat((person.world.isps[person.city][0], *lines))


def _new_devices(person: Person, config: OrdinaryConfig) -> None:
    del config
    person.habits.add("buys-device")


def _two_browsers(person: Person, config: OrdinaryConfig) -> None:
    """A phone or tablet in desktop mode now and then; a second browser on the laptop."""
    del config
    for client in person.clients:
        models = LAPTOPS if client.kind in ("phone", "tablet") else PHONES
        client.alternate = device_of(person.rng.choice(models), person.rng)
    person.habits.add("second-agent")


def _habit(name: str) -> Apply:
    return lambda person, _config: person.habits.add(name)


TRAITS: Final[tuple[Trait, ...]] = (
    Trait("weekends-with-parents", 1.0, lambda p: "weekends-with-parents" in p.habits, _weekends_with_parents),
    Trait("moves-house", 0.02, _human, _moves_house),
    Trait("travels", 0.08, _human, _travels),
    Trait("online-in-flight", 0.01, _human, _flies_online),
    Trait("commutes-over-border", 0.03, _works, _commutes_over_border),
    Trait("carrier-elsewhere", 0.12, _has("phone"), _carrier_elsewhere),
    Trait("egress-elsewhere", 0.04, _works, _egress_elsewhere),
    Trait("cloud-proxy", 0.05, _works, _cloud_proxy),
    Trait("vpn-listed", 0.03, _has("laptop"), _vpn_listed),
    Trait("vpn-unlisted", 0.02, _has("laptop"), _vpn_unlisted),
    Trait("relay", 0.06, _has("phone"), _relay),
    Trait("satellite-line", 0.01, _human, _satellite_line),
    Trait("dual-stack-two-places", 0.03, _has("laptop"), _dual_stack),
    Trait("provider-misplaced", 0.03, _human, _provider_misplaced),
    Trait("buys-device", 0.15, _human, _new_devices),
    Trait("second-agent", 0.03, _human, _two_browsers),
    Trait("incognito", 0.02, _human, _habit("incognito")),
    Trait("step-up", 0.04, _human, _habit("step-up")),
    Trait("consent", 0.04, _human, _habit("consent")),
    Trait("empty-methods-on-refresh", 0.02, _human, _habit("empty-methods")),
    Trait("last-use-throttled", 0.03, _human, _habit("throttled")),
    Trait("many-audiences", 0.02, _works, _habit("many-audiences")),
    Trait("city-without-country", 0.02, _human, _habit("bare-city")),
)
