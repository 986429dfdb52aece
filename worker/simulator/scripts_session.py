"""Attacks on one session: a cookie or token in the wrong hands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.simulator.agents import SCRIPTS, device_of
from worker.simulator.attacks import AttackCase, attack, hours_to_cover, minutes
from worker.simulator.config import HOUR, MINUTE
from worker.simulator.people import WEAK_AMR, SimulatedUser
from worker.simulator.world import distance_km

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from worker.simulator.agents import SimulatedDevice
    from worker.simulator.oracle import Spot

    Acts = Generator[float, None, None]

MINUTES_30: Final = 30 * MINUTE


def _two_prefixes(user: SimulatedUser) -> bool:
    return len(user.home.networks[0].v4) > 1


def _strong(user: SimulatedUser) -> bool:
    return user.amr not in WEAK_AMR


def _laptop_at_home(user: SimulatedUser) -> bool:
    """Whose home device shows versions that can be older."""
    return any(seat is user.home and desk.device == 0 for desk, seat in user.seats())


@attack(variants=("other-place", "hosting", "tor", "same-city"))
def ip_change(case: AttackCase) -> Acts:
    """The session moves to another AS; the client is cloned."""
    session = yield from case.settle(case.strike)
    choose = {
        "other-place": case.domestic,
        "hosting": lambda: case.exit("hosting"),
        "tor": lambda: case.exit("tor"),
        "same-city": case.neighbour,
    }
    case.act(session, case.strike, case.at(choose[case.variant]()))
    yield from case.carry_on(session, case.strike, 1)


@attack("ip-change/service", variants=("other-as", "same-as"), service=True)
def service_moves(case: AttackCase) -> Acts:
    """A service's token is used from elsewhere: another AS, or another prefix of its own."""
    session = yield from case.settle(case.strike)
    own = case.home()
    if case.variant == "other-as":
        others = [net for net in case.world.hosting if net.asn != own.network.asn]
        spot = case.at(case.rng.choice(others), own.device)
    else:
        same = [n for n in case.world.hosting if n.asn == own.network.asn and n is not own.network]
        spot = case.at(case.rng.choice(same), own.device)
    case.act(session, case.strike, spot)


@attack(variants=("neighbour-country", "own-country", "family-flip"), lead=2 * HOUR)
def location_change(case: AttackCase) -> Acts:
    """The session shows up in another place, slowly enough for an honest journey."""
    net = case.domestic() if case.variant == "own-country" else case.foreign(150, 1_000)
    km = distance_km(case.user.city, net.city)
    quiet = min(hours_to_cover(km, 600), 100 * MINUTE)
    session = yield from case.settle(case.strike - quiet, 2, max_age_minutes=720)
    yield case.strike
    spot = case.at(net)
    if case.variant == "family-flip":
        spot = spot._replace(ip=net.address6(case.rng.randrange(65_536), case.rng))
    case.act(session, case.strike, spot)


@attack(variants=("other-browser", "downgrade", "script"), fits=_laptop_at_home)
def device_change(case: AttackCase) -> Acts:
    """The cookie is used on another client behind the same address."""
    session = yield from case.settle(case.strike)
    home = case.home()
    draw: dict[str, Callable[[], SimulatedDevice]] = {
        "other-browser": case.stranger,
        "downgrade": home.device.downgraded,
        "script": lambda: device_of(case.rng.choice(SCRIPTS), case.rng),
    }
    case.act(session, case.strike, home._replace(device=draw[case.variant]()))


@attack(variants=("foreign", "script", "cloned", "same-as", "proxy", "script-cloud"), fits=_two_prefixes)
def session_hijack(case: AttackCase) -> Acts:
    """A stolen cookie from another network and device; the hard variants hide one of the two."""
    session = yield from case.settle(case.strike)
    case.act(session, case.strike, _thief(case))
    yield from case.carry_on(session, case.strike, 1)


def _thief(case: AttackCase) -> Spot:
    script = device_of(case.rng.choice(SCRIPTS), case.rng)
    if case.variant == "cloned":
        return case.at(case.foreign(800))
    if case.variant == "same-as":
        return case.same_asn(case.stranger())
    network, device = {
        "foreign": lambda: (case.foreign(800), case.stranger()),
        "script": lambda: (case.foreign(800), script),
        "script-cloud": lambda: (case.exit("hosting"), script),
        "proxy": lambda: (case.domestic(0), case.stranger()),
    }[case.variant]()
    return case.at(network, device)


@attack(variants=("foreign", "other-device", "hosting", "same-area"))
def session_interleaving(case: AttackCase) -> Acts:
    """Two holders of one session take turns: A, B, A, B, A."""
    session = yield from case.settle(case.strike, max_age_minutes=120)
    thief = {
        "foreign": lambda: case.at(case.foreign(800)),
        "other-device": lambda: case.home()._replace(device=case.stranger()),
        "hosting": lambda: case.at(case.exit("hosting")),
        "same-area": lambda: case.at(case.neighbour()),
    }[case.variant]()
    for turn in range(5):
        at = case.strike + turn * 4 * MINUTE
        yield at
        case.act(session, at, case.home() if turn % 2 else thief, bad=turn % 2 == 0)
    case.expect("session-interleaving")


@attack(variants=("same-client", "other-network"), lead=HOUR)
def use_after_expiry(case: AttackCase) -> Acts:
    """A session is used after its sliding expiry: the server did not enforce it, or the token was forged."""
    quiet = MINUTES_30 + minutes(case, 3, 20)
    session = yield from case.settle(case.strike - quiet, 1, max_age_minutes=30)
    yield case.strike
    spot = case.home() if case.variant == "same-client" else case.at(case.neighbour())
    case.act(session, case.strike, spot)
    case.expect("use-after-expiry")


@attack(variants=("refresh", "undelete", "late-revocation", "other-network"), lead=20 * MINUTE)
def use_after_revocation(case: AttackCase) -> Acts:
    """A revoked session lives on."""
    revoked = case.strike - minutes(case, 1.5, 9)
    session = yield from case.settle(revoked, max_age_minutes=120)
    session.delete(revoked)
    late = case.variant == "late-revocation"
    case.deliver(session, revoked, "deleted", minutes(case, 12, 60) if late else 0)
    yield case.strike
    session.doc["is_deleted"] = False
    if case.variant == "undelete":
        session.change(case.strike)
        case.publish(session, case.strike, "changed", bad=True)
    else:
        case.act(session, case.strike, case.at(case.neighbour()) if case.variant == "other-network" else None)
    case.expect("use-after-revocation")


@attack(variants=("sensitive", "ordinary"))
def scope_escalation(case: AttackCase) -> Acts:
    """Scopes grow within a session, without signing in again."""
    session = yield from case.settle(case.strike)
    more = "users:write" if case.variant == "sensitive" else "reports:read"
    case.act(session, case.strike, scopes=[*session.doc["scopes"], more])
    case.expect("scope-escalation")


@attack(variants=("in-session", "below-usual"), fits=_strong, history=True)
def auth_downgrade(case: AttackCase) -> Acts:
    """A weaker method takes the place of the strong one."""
    if case.variant == "below-usual":
        yield case.strike
        case.sign_in(case.strike, case.home(), amr=["pwd"])
    else:
        session = yield from case.settle(case.strike)
        case.act(session, case.strike, amr=["pwd"])
        case.allow("weak-authentication")
    case.expect("auth-downgrade")


@attack()
def audience_change(case: AttackCase) -> Acts:
    """A token minted for one application is used for another."""
    session = yield from case.settle(case.strike, aud="https://app.example.com")
    case.act(session, case.strike, aud="https://admin.example.com")
    case.expect("audience-change")


@attack(variants=("grows", "beyond-policy"))
def lifetime_extension(case: AttackCase) -> Acts:
    """The session's lifetime grows, or starts beyond the tenant's maximum."""
    if case.variant == "beyond-policy" and case.user.tenant.strict:
        yield case.strike
        case.sign_in(case.strike, case.home(), max_age_minutes=10_080)
    else:
        session = yield from case.settle(case.strike, max_age_minutes=60)
        case.act(session, case.strike, max_age_minutes=1_200)
    case.expect("lifetime-extension")


@attack(variants=("used-before-created", "future"), hides=False)
def clock_anomaly(case: AttackCase) -> Acts:
    """Timestamps that cannot be."""
    session = yield from case.settle(case.strike, max_age_minutes=120)
    stamp = case.user.tenant.stamp
    if case.variant == "future":
        ahead = stamp(case.strike + minutes(case, 5, 600))
        case.act(session, case.strike, last_used_at=ahead, updated_at=ahead)
    else:
        case.act(session, case.strike, last_used_at=stamp(case.begin - minutes(case, 10, 90)))
    case.expect("clock-anomaly")


@attack(variants=("foreign", "hosting"), fits=_laptop_at_home)
def session_at_risk(case: AttackCase) -> Acts:
    """A stolen session is used to the full: script, new scopes, another audience, a longer life."""
    session = yield from case.settle(case.strike, aud="https://app.example.com", max_age_minutes=60)
    network = case.foreign(800) if case.variant == "foreign" else case.exit("hosting")
    case.act(session, case.strike, case.at(network, device_of(SCRIPTS[0], case.rng)))
    yield case.strike + MINUTE
    case.act(session, case.strike + MINUTE, scopes=[*session.doc["scopes"], "admin"], max_age_minutes=10_000)
    case.expect("session-at-risk", "scope-escalation", "lifetime-extension")
    case.allow("weak-authentication", "audience-change")
