"""The population: tenants by kind, and people with personas and traits."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from worker.simulator.agents import (
    IPHONE,
    LAPTOPS,
    PHONES,
    SERVICE_CLIENTS,
    Model,
    SimulatedDevice,
    device_of,
)
from worker.simulator.ordinary.person import Client, Person
from worker.simulator.ordinary.personas import CALL_CENTRE, PERSONAS, TENANTS, Persona
from worker.simulator.ordinary.traits import TRAITS
from worker.simulator.people import BASE_SCOPES, STRONG_AMR, WEAK_AMR, Office, Seat, SimulatedTenant, SimulatedUser
from worker.simulator.timestamps import iso_z
from worker.simulator.world import CITIES, EMBARGOED, City

if TYPE_CHECKING:
    from worker.simulator.geo import Internet
    from worker.simulator.ordinary.config import OrdinaryConfig

NATIVE: Final = Model("Acme", "", "", "Acme/5.{v}.0 (Android 14; Pixel 8) okhttp/4.12.0", (1, 9))
"""A tenant's own application, which goes on with the session that the browser began."""
OFFICE_CITIES, ABROAD_SHARE = 3, 0.15


def build_people(config: OrdinaryConfig, world: Internet) -> list[Person]:
    """Make everybody, each with random draws of their own: another person more changes nobody else's life."""
    rng = _random(config.seed, "population")
    tenants = {kind: _tenant(rng, world, number, kind) for number, kind in enumerate(TENANTS)}
    people = [
        _person(config, world, tenants[persona.tenant], persona, f"{persona.name}-{number}")
        for persona in PERSONAS
        for number in range(max(2, round(persona.share * config.people)))
    ]
    _give_traits(config, people, rng)
    return people + _call_centre(config, world, tenants["office"])


def _random(seed: int, name: str) -> Random:
    return Random(f"{seed}/{name}")  # noqa: S311  # reproducible traffic, not a secret


def _tenant(rng: Random, world: Internet, number: int, kind: str) -> SimulatedTenant:
    cities = rng.sample([city for city in CITIES if city.country not in EMBARGOED], OFFICE_CITIES)
    offices = tuple(Office(city, world.offices[city], world.offices[city].address(rng)) for city in cities)
    return SimulatedTenant(
        id=kind,
        offices=offices,
        places="city" if kind == "university" else "none",
        stamp=iso_z,
        aud=None if kind in ("shop", "machines") else f"https://{kind}.example.com",
        workspaces=(f"{kind}-main",) if number % 2 else (),
        session_type=None,
        extras=False,
        strict=False,
        mfa_scopes=(),
        denied=world.denied[0],
    )


def _person(config: OrdinaryConfig, world: Internet, tenant: SimulatedTenant, persona: Persona, name: str) -> Person:
    rng = _random(config.seed, name)
    office = rng.choice(tenant.offices)
    user = SimulatedUser(tenant, name, _home(rng, tenant, office), "service" if persona.name == "service" else "person")
    line = rng.choice(world.isps[user.city])
    user.home = Seat((line,), line.address(rng))
    user.scopes = rng.choice(BASE_SCOPES)
    user.lifetime = persona.lifetime
    person = Person(persona, user, rng, world)
    person.begins = config.start_ms
    if persona.tenant == "office":
        person.work = Seat((office.network,), office.ip)
    person.clients = [_client(person, kind) for kind in persona.clients]
    user.devices = [client.device for client in person.clients]
    return person


def _home(rng: Random, tenant: SimulatedTenant, office: Office) -> City:
    """Employees live where their office is, customers and students anywhere in its country."""
    if tenant.id in ("office", "developers"):
        return office.city
    return rng.choice([city for city in CITIES if city.country == office.city.country])


def _client(person: Person, kind: str) -> Client:
    rng, persona = person.rng, person.persona
    strong = rng.random() < (0.6 if persona.tenant != "shop" else 0.1)
    amr = list(rng.choice(STRONG_AMR if strong else WEAK_AMR))
    client = Client(kind, _device(kind, rng), None if kind == "server" else amr)
    if "method-by-client" in persona.habits:
        client.amr = ["hwk"] if kind == "phone" else ["pwd", "otp"]
    if kind == "server":
        operator = rng.choice(person.world.hosting)
        client.seat = Seat(tuple(net for net in person.world.hosting if net.asn == operator.asn))
    elif kind == "terminal":
        client.alternate = device_of(rng.choice(SERVICE_CLIENTS), rng)
    elif kind == "phone" and persona.name == "consumer" and rng.random() < 0.3:
        client.alternate = device_of(NATIVE, rng)
        person.habits.add("native-application")
    return client


def _device(kind: str, rng: Random) -> SimulatedDevice:
    models = {
        "laptop": LAPTOPS,
        "terminal": LAPTOPS,
        "phone": PHONES,
        "tablet": (IPHONE,),
        "server": SERVICE_CLIENTS,
    }
    return device_of(rng.choice(models[kind]), rng)


def _give_traits(config: OrdinaryConfig, people: list[Person], rng: Random) -> None:
    """Give every trait to its share of those whom it suits; each has at least two people where there are as many."""
    for trait in TRAITS:
        suited = [person for person in people if trait.suits(person)]
        for person in rng.sample(suited, min(len(suited), max(2, round(trait.share * len(suited))))):
            person.traits.append(trait.name)
            trait.apply(person, config)


def _call_centre(config: OrdinaryConfig, world: Internet, tenant: SimulatedTenant) -> list[Person]:
    """Make the agents of a new site: another city of the tenant's, from a day in the second half on."""
    rng = _random(config.seed, "call-centre")
    city = rng.choice([each for each in CITIES if each.country == tenant.offices[0].city.country])
    network = world.isps[city][0]
    site = Seat((network,), network.address(rng))
    people = []
    for number in range(config.people // 4):
        person = _person(config, world, tenant, CALL_CENTRE, f"call-centre-{number}")
        person.begins = config.share(0.6)
        person.home = person.work = person.carrier = site
        people.append(person)
    return people
