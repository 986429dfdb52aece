"""Attacks on a user's account, on many users at once, and breaches of a tenant's policy."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from worker.simulator.attacks import AttackCase, attack, minutes
from worker.simulator.config import HOUR, MINUTE, SECOND
from worker.simulator.oracle import Spot
from worker.simulator.world import EMBARGOED, distance_km

if TYPE_CHECKING:
    from collections.abc import Generator

    from worker.simulator.geo import SimulatedNetwork
    from worker.simulator.people import SimulatedUser

    Acts = Generator[float, None, None]

NEIGHBOUR_LEAD = 2 * HOUR


def _strict(user: SimulatedUser) -> bool:
    return user.tenant.strict


@attack(variants=("two-sessions", "one-session", "own-country"), history=True)
def impossible_travel(case: AttackCase) -> Acts:
    """The user is at home and, minutes later, a thousand kilometres away."""
    session = yield from case.settle(case.strike)
    net = case.domestic(900) if case.variant == "own-country" else case.foreign(1_200)
    if distance_km(case.user.city, net.city) < 900:
        net = case.foreign(1_200)
    if case.variant == "one-session":
        case.act(session, case.strike, case.at(net))
    else:
        case.sign_in(case.strike, case.at(net))
    yield from case.carry_on(session, case.strike)


@attack(variants=("neighbour",), lead=NEIGHBOUR_LEAD, history=True)
def new_country(case: AttackCase) -> Acts:
    """A sign-in from a country the user was never in, with a cloned client, at an honest distance."""
    net = case.foreign(150, 1_100)
    yield case.strike
    case.sign_in(case.strike, case.at(net))


@attack(variants=("neighbour-isp",), history=True)
def new_network(case: AttackCase) -> Acts:
    """A residential proxy in the user's own city, with a cloned client."""
    yield case.strike
    case.sign_in(case.strike, case.at(case.neighbour()))


@attack(variants=("at-home",), history=True)
def new_device(case: AttackCase) -> Acts:
    """An unknown device signs in behind the user's own address."""
    yield case.strike
    case.sign_in(case.strike, case.home()._replace(device=case.stranger()))


@attack(variants=("foreign", "proxy"), lead=NEIGHBOUR_LEAD, history=True)
def unfamiliar_sign_in(case: AttackCase) -> Acts:
    """Nothing about this sign-in is known."""
    yield case.strike
    net = case.foreign(150, 1_100) if case.variant == "foreign" else case.neighbour()
    case.sign_in(case.strike, case.at(net, case.stranger()))


@attack(variants=("neighbour", "far"), history=True)
def concurrent_countries(case: AttackCase) -> Acts:
    """Two sessions of one user, used at the same time in two countries."""
    session = yield from case.settle(case.strike)
    net = case.foreign(0, 450) if case.variant == "neighbour" else case.foreign(1_500)
    other = case.sign_in(case.strike, case.at(net), max_age_minutes=120)
    yield from case.carry_on(session, case.strike, 1)
    yield case.strike + 6 * MINUTE
    case.act(other, case.strike + 6 * MINUTE)


@attack(variants=("own-device", "proxy"), history=True)
def concurrent_sessions(case: AttackCase) -> Acts:
    """Far more sessions than one person uses: a shared account, or tokens being farmed."""
    for number in range(16 + case.rng.randrange(5)):
        at = case.strike + number * 75 * SECOND
        yield at
        spot = case.home() if case.variant == "own-device" else case.at(case.neighbour())
        case.sign_in(at, spot, max_age_minutes=720)
    case.expect("concurrent-sessions")


@attack(variants=("open", "closing"), history=True)
def session_burst(case: AttackCase) -> Acts:
    """A tool signs in again and again within minutes."""
    count = 14 + case.rng.randrange(6)
    for number in range(count):
        at = case.strike + number * 240 * SECOND // count
        yield at
        session = case.sign_in(at, case.home(), max_age_minutes=120)
        if case.variant == "closing":
            yield at + 5 * SECOND
            session.delete(at + 5 * SECOND)
            case.publish(session, at + 5 * SECOND, "deleted", bad=True)
    case.expect("session-burst", *(["concurrent-sessions"] if case.variant == "open" else []))
    case.allow("concurrent-sessions")


def _unspent(user: SimulatedUser) -> bool:
    """Who was woken once sleeps no more."""
    return not user.struck


@attack(variants=("own-device", "other-device"), fits=_unspent, dormant=True, history=True, hides=False)
def dormant_account(case: AttackCase) -> Acts:
    """An account wakes after more than ninety days."""
    yield case.strike
    device = case.home().device if case.variant == "own-device" else case.stranger()
    case.sign_in(case.strike, case.home()._replace(device=device))
    case.allow(*case.label.expected)
    case.label.expected = {"dormant-account"}


@attack(variants=("second-user",), crowd=2)
def owner_change(case: AttackCase) -> Acts:
    """One session uid appears under a second user."""
    session = yield from case.settle(case.strike)
    thief = case.victims[1]
    case.sign_in(case.strike, case.home(thief), user=thief, uid=session.uid)
    case.expect("owner-change")


@attack(variants=("hosting", "residential", "ipv6"), crowd=8, history=True, hides=False)
def network_many_users(case: AttackCase) -> Acts:
    """A password spray succeeds: many users sign in from one prefix within minutes."""
    net = case.exit("hosting") if case.variant != "residential" else _foreign_to_all(case)
    prefix, subnet = case.rng.choice(net.v4), case.rng.randrange(65_536)
    device, at = case.stranger(), case.strike
    for user in case.victims:
        yield at
        ip = net.address6(subnet, case.rng) if case.variant == "ipv6" else f"{prefix}{case.rng.randint(1, 250)}"
        case.sign_in(at, Spot(net, ip, device), user=user)
        at += minutes(case, 0.5, 1.2)
    case.allow(*case.label.expected, "concurrent-countries", "impossible-travel", "new-device")
    case.label.expected = {"network-many-users"}


def _foreign_to_all(case: AttackCase) -> SimulatedNetwork:
    """A residential proxy that as few of the tenant's users as can be know, for where many do it is shared egress."""
    nets = [case.foreign(800) for _ in range(20)]
    known = Counter(asn for user in case.stage.users if user.tenant is case.user.tenant for asn in user.known_asns())
    return min(nets, key=lambda net: known[net.asn])


@attack(variants=("always", "scopes"))
def weak_authentication(case: AttackCase) -> Acts:
    """A sign-in without the second factor that the tenant's policy asks for."""
    yield case.strike
    case.label.variant = "always" if case.user.tenant.strict else "scopes"
    scopes = list(case.user.scopes) if case.user.tenant.strict else [*case.user.scopes, "admin"]
    case.sign_in(case.strike, case.home(), amr=["pwd"], scopes=scopes)
    case.expect("weak-authentication")


@attack(variants=("cidr",), fits=_strict)
def denied_network(case: AttackCase) -> Acts:
    """A sign-in from a network that the tenant denies."""
    yield case.strike
    case.sign_in(case.strike, case.at(case.user.tenant.denied))
    case.expect("denied-network")


@attack(variants=("embargoed",), fits=_strict)
def denied_country(case: AttackCase) -> Acts:
    """A sign-in from a country that the tenant denies."""
    yield case.strike
    cities = [city for city in case.world.isps if city.country in EMBARGOED]
    case.sign_in(case.strike, case.at(case.world.isps[case.rng.choice(cities)][0]))
    case.expect("denied-country")


@attack(variants=("vpn", "hosting", "tor"))
def anonymizer(case: AttackCase) -> Acts:
    """A sign-in from behind a VPN, a rented server or Tor."""
    yield case.strike
    case.sign_in(case.strike, case.at(case.exit(case.variant)))
    case.expect("anonymizer")
