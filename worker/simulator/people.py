"""Tenants, their offices and people: who signs in, from where, on what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from worker.simulator.agents import APP, IPHONE, LAPTOPS, PHONES, SERVICE_CLIENTS, SimulatedDevice, device_of
from worker.simulator.geo import UNLISTED_V4, Internet, SimulatedNetwork
from worker.simulator.timestamps import STYLES, Stamp
from worker.simulator.world import CITIES, EMBARGOED, City, distance_km

if TYPE_CHECKING:
    from random import Random

    from worker.simulator.config import SimulatorConfig

SENSITIVE_SCOPES: Final = ("admin", "billing:write", "users:write")
BASE_SCOPES: Final = (
    ("openid", "profile", "email"),
    ("openid", "profile"),
    ("openid", "documents:read", "documents:write"),
)
AUDIENCES: Final = ("https://app.example.com", "https://portal.example.com", "https://api.example.com")
LIFETIMES: Final = (30, 60, 120, 480, 720)  # minutes of sliding expiry
STRONG_AMR: Final = (["pwd", "otp"], ["hwk"], ["pwd", "swk", "mfa"], ["fido", "user"])
WEAK_AMR: Final = (["pwd"],)
STRICT_LIFETIME: Final = 1_440
"""The maximum of `max_age_minutes` in strict tenants' policy."""


class Office(NamedTuple):
    """A site with one shared egress address."""

    city: City
    network: SimulatedNetwork
    ip: str


class SimulatedTenant(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A customer, and how its system writes sessions.

    Attributes:
        places: how `location` is filled: `city`, `coordinates` or `none`.
        stamp: renders milliseconds as its timestamps.
        strict: its policy asks for MFA always, and denies networks, countries and long lifetimes.
        mfa_scopes: scopes that ask for MFA in tenants that are not strict.
    """

    id: str
    offices: tuple[Office, ...]
    places: str
    stamp: Stamp
    aud: str | None
    workspaces: tuple[str, ...]
    session_type: str | None
    extras: bool
    strict: bool
    mfa_scopes: tuple[str, ...]
    denied: SimulatedNetwork

    def policy(self) -> dict[str, Any]:
        """Its policy: a document of `schemas.policy.TenantPolicy`."""
        strict = self.strict
        return {
            "mfa": "always" if strict else "scopes",
            "mfa_scopes": [] if strict else list(self.mfa_scopes),
            "sensitive_scopes": list(SENSITIVE_SCOPES),
            "denied_networks": [f"{p}0/24" for p in self.denied.v4] if strict else [],
            "denied_countries": list(EMBARGOED) if strict else [],
            "max_lifetime_minutes": STRICT_LIFETIME if strict else None,
            "max_sessions": 10,
        }


class Seat:
    """Somewhere a user works: a way onto the internet."""

    __slots__ = ("fixed", "networks", "subnet")

    def __init__(self, networks: tuple[SimulatedNetwork, ...], fixed: str = "", subnet: int = -1) -> None:
        self.networks = networks
        self.fixed = fixed
        self.subnet = subnet

    def draw(self, rng: Random) -> tuple[SimulatedNetwork, str]:
        """Draw the network and address of the next request from here."""
        if self.fixed:
            return self.networks[0], self.fixed
        net = self.networks[int(rng.random() * len(self.networks))]
        return net, net.address6(self.subnet, rng) if self.subnet >= 0 else net.address(rng)


class Desk(NamedTuple):
    """A device (an index into the user's) and the seats it is used from; `hop` is the chance to move a refresh."""

    device: int
    seats: tuple[Seat, ...]
    hop: float


class SimulatedUser:
    """A person or a service, and what the simulator keeps of them."""

    __slots__ = (
        "abroad",
        "amr",
        "away",
        "benign",
        "city",
        "desks",
        "devices",
        "dormant",
        "first_seen",
        "home",
        "id",
        "key",
        "landed",
        "last_at",
        "last_network",
        "lifetime",
        "open",
        "scopes",
        "sessions",
        "stay",
        "struck",
        "taken_until",
        "tenant",
    )

    def __init__(self, tenant: SimulatedTenant, user_id: str, city: City, benign: str) -> None:
        self.tenant = tenant
        self.id = user_id
        self.key = f"{_quote(tenant.id)}/{_quote(user_id)}".encode()
        self.city = city
        self.benign = benign
        self.devices: list[SimulatedDevice] = []
        self.desks: tuple[Desk, ...] = ()
        self.home = Seat(())
        self.abroad: Seat | None = None
        self.stay: Seat | None = None
        self.away = False
        self.landed = False
        self.dormant = False
        self.struck = False
        self.amr: list[str] | None = ["pwd"]
        self.scopes: tuple[str, ...] = BASE_SCOPES[0]
        self.lifetime = 60
        self.open: list[Any] = []
        self.sessions = 0
        self.first_seen = 0
        self.taken_until: float = 0
        self.last_at = 0
        self.last_network: SimulatedNetwork | None = None

    @property
    def service(self) -> bool:
        """Whether no human acts."""
        return self.benign == "service"

    def seats(self) -> list[tuple[Desk, Seat]]:
        """Every (desk, seat) the user works from at home."""
        return [(desk, seat) for desk in self.desks for seat in desk.seats]

    def seat(self, number: int) -> tuple[Desk, Seat]:
        """One of `seats`, by its index."""
        for desk in self.desks:
            if number < len(desk.seats):
                return desk, desk.seats[number]
            number -= len(desk.seats)
        raise IndexError(number)

    def known_asns(self) -> set[int]:
        """AS numbers the user appears from without an attacker."""
        nets = {net.asn for _, seat in self.seats() for net in seat.networks}
        return nets | ({self.abroad.networks[0].asn} if self.abroad else set())


def _quote(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F")


def build_tenants(rng: Random, world: Internet, config: SimulatorConfig) -> tuple[SimulatedTenant, ...]:
    """Make the tenants: offices in one to three cities, each with its own habits of writing sessions."""
    cities = [city for city in CITIES if city.country not in EMBARGOED]
    return tuple(_tenant(rng, world, index, cities) for index in range(config.tenants))


def _tenant(rng: Random, world: Internet, index: int, cities: list[City]) -> SimulatedTenant:
    home = rng.choice(cities)
    sites = [home, *rng.sample(cities, rng.randrange(3))]
    strict = index % 2 == 1
    return SimulatedTenant(
        id=f"emea/t-{index:04d}" if index % 10 == 7 else f"t-{index:04d}",  # some ids need escaping in keys
        offices=tuple(_office(rng, world, city) for city in dict.fromkeys(sites)),
        places=("none", "city", "none", "coordinates", "city")[index % 5],
        stamp=STYLES[(0, 0, 0, 1, 0, 2, 0, 3)[index % 8]],
        aud=AUDIENCES[index % 3] if index % 4 else None,
        workspaces=tuple(f"ws-{index}-{i}" for i in range(index % 3)),
        session_type=("user", "user", None, "User")[index % 4],
        extras=index % 3 == 0,
        strict=strict,
        mfa_scopes=("admin",),
        denied=world.denied[0],
    )


def _office(rng: Random, world: Internet, city: City) -> Office:
    net = world.offices[city]
    return Office(city, net, net.address(rng))


def build_users(
    rng: Random, world: Internet, config: SimulatorConfig, tenants: tuple[SimulatedTenant, ...]
) -> list[SimulatedUser]:
    """Make the users, evenly over the tenants; user i belongs to tenant i modulo their number."""
    classes, weights = list(config.benign_shares), list(config.benign_shares.values())
    chosen = rng.choices(classes, weights, k=config.users)
    return [_user(rng, world, tenants[i % len(tenants)], i, benign) for i, benign in enumerate(chosen)]


def _user(rng: Random, world: Internet, tenant: SimulatedTenant, index: int, benign: str) -> SimulatedUser:
    office = tenant.offices[int(rng.random() * len(tenant.offices))]
    name = f"svc-{index}" if benign == "service" else f"u{index}"
    user = SimulatedUser(tenant, name if index % 13 else f"{name}@example.com", office.city, benign)
    strong = tenant.strict or rng.random() < 0.5
    user.amr = STRONG_AMR[int(rng.random() * 4)] if strong else WEAK_AMR[0]
    user.scopes = BASE_SCOPES[int(rng.random() * 3)]
    user.lifetime = LIFETIMES[int(rng.random() * 5)]
    isps = world.isps[office.city]
    isp = isps[int(rng.random() * len(isps))]
    user.home = Seat((isp,), isp.address(rng))
    user.devices = [device_of(LAPTOPS[int(rng.random() * 6)], rng), device_of(PHONES[int(rng.random() * 2)], rng)]
    _LIVES[benign](user, world, rng, office)
    return user


def _seat6(user: SimulatedUser, rng: Random) -> Seat:
    return Seat(user.home.networks, "", int(rng.random() * 65536))


def _work(office: Office) -> Seat:
    return Seat((office.network,), office.ip)


def _ordinary(user: SimulatedUser, world: Internet, rng: Random, office: Office) -> None:
    carrier = Seat(world.carriers[office.city])
    if rng.random() < 0.2:
        user.devices[1] = device_of(APP, rng)
    user.desks = (Desk(0, (user.home, _work(office)), 0.0), Desk(1, (carrier,), 0.0))


def _roaming(user: SimulatedUser, world: Internet, rng: Random, office: Office) -> None:
    del rng
    seats = (user.home, _work(office), Seat(world.carriers[office.city]))
    user.desks = (Desk(1, seats, 0.35),)


def _corporate(user: SimulatedUser, world: Internet, rng: Random, office: Office) -> None:
    del world, rng
    user.desks = (Desk(0, (_work(office), user.home), 0.15),)


def _dual_stack(user: SimulatedUser, world: Internet, rng: Random, office: Office) -> None:
    del world, office
    user.desks = (Desk(0, (user.home, _seat6(user, rng)), 0.5),)


def _upgrading(user: SimulatedUser, world: Internet, rng: Random, office: Office) -> None:
    del world, rng
    user.desks = (Desk(0, (user.home,), 0.0), Desk(1, (user.home, _work(office)), 0.0))


def _cgnat(user: SimulatedUser, world: Internet, rng: Random, office: Office) -> None:
    del rng
    user.desks = (Desk(0, (Seat(world.carriers[office.city]),), 0.5),)


def _churning(user: SimulatedUser, world: Internet, rng: Random, office: Office) -> None:
    pools = world.carriers[office.city]
    user.desks = (Desk(1, (Seat(pools), Seat(pools, "", int(rng.random() * 65536))), 0.8),)


def _relayed(user: SimulatedUser, world: Internet, rng: Random, office: Office) -> None:
    egress = world.relays[office.city.country]
    user.devices[1] = device_of(IPHONE, rng)
    seats = (Seat(egress, "", int(rng.random() * 65536)), Seat(tuple(n for n in egress if n.v4)))
    user.desks = (Desk(1, seats, 0.6),)


def _flying(user: SimulatedUser, world: Internet, rng: Random, office: Office) -> None:
    del office
    near = [c for c in CITIES if 700 < distance_km(user.city, c) < 8_000 and c.country != user.city.country]
    there = rng.choice([city for city in near if city.country not in EMBARGOED])
    net = world.isps[there][0]
    user.abroad = Seat((net,), net.address(rng))
    user.desks = (Desk(0, (user.home,), 0.0),)
    user.lifetime = 720


def _private(user: SimulatedUser, world: Internet, rng: Random, office: Office) -> None:
    del world
    ips = [f"10.{int(rng.random() * 256)}.{int(rng.random() * 256)}.{1 + int(rng.random() * 250)}" for _ in range(3)]
    nets = (nowhere(office.city, "private"),)
    user.desks = (Desk(0, tuple(Seat(nets, ip) for ip in (*ips, "192.168.1.20")), 0.3),)


def _unlisted(user: SimulatedUser, world: Internet, rng: Random, office: Office) -> None:
    del world
    seats = tuple(Seat((nowhere(office.city, ""),), f"{prefix}{1 + int(rng.random() * 250)}") for prefix in UNLISTED_V4)
    user.desks = (Desk(0, seats, 0.3),)


def _placeholder(user: SimulatedUser, world: Internet, rng: Random, office: Office) -> None:
    del world, rng, office
    user.desks = (Desk(0, (user.home,), 0.0),)


def _service(user: SimulatedUser, world: Internet, rng: Random, office: Office) -> None:
    del office
    net = rng.choice(world.hosting)
    user.home = Seat((net,), net.address(rng))
    user.devices = [device_of(rng.choice(SERVICE_CLIENTS), rng)]
    user.amr = None  # no authentication event of a person: the field is omitted
    user.desks = (Desk(0, (user.home,), 0.0),)
    user.lifetime = 720


_LIVES: Final = {
    "ordinary": _ordinary,
    "roaming": _roaming,
    "corporate-egress": _corporate,
    "dual-stack": _dual_stack,
    "browser-upgrade": _upgrading,
    "cgnat": _cgnat,
    "carrier-churn": _churning,
    "relay": _relayed,
    "service": _service,
    "flight": _flying,
    "private-address": _private,
    "unknown-geo": _unlisted,
    "placeholder": _placeholder,
}


def nowhere(city: City, kind: str) -> SimulatedNetwork:
    """A network that no geo file knows: private (RFC 1918) or unlisted."""
    return SimulatedNetwork(0, "", kind, city, 0.0, 0.0, 0, (), "")
