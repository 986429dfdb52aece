"""Attacks: the stage they are played on, and the register of their kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from worker.simulator import oracle
from worker.simulator.agents import SimulatedDevice, stranger
from worker.simulator.config import DAY, HOUR, MINUTE, SimulatorConfig
from worker.simulator.labels import Label
from worker.simulator.oracle import Spot, TrailPoint
from worker.simulator.session import SimulatedSession, open_session
from worker.simulator.world import EMBARGOED, distance_km

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from random import Random

    from worker.simulator.geo import Internet, SimulatedNetwork
    from worker.simulator.people import SimulatedUser
    from worker.simulator.scheduler import Scheduler

    Script = Callable[["AttackCase"], Generator[float, None, None]]

PLAIN: Final = frozenset({"ordinary", "roaming", "corporate-egress", "dual-stack", "browser-upgrade"})
"""Classes whose users have one home, known and trusted: what an attacker does to them is clear-cut."""
LEARNT_SESSIONS, LEARNT_MS = 11, 15 * DAY
LATEST_HIDE_MS: Final = 105 * MINUTE


class AttackKind(NamedTuple):
    """One kind of attack.

    Attributes:
        id: of the detection it is meant to trigger.
        variants: the ways it is done, in turn.
        lead_ms: how long before the strike its legitimate prelude begins.
        suits: whether a user can be its victim at a time.
        history: needs users with a history.
        hides: may arrive late.
        crowd: how many users it takes, of one tenant.
        dormant: takes accounts that sleep.
        service: takes services, not people.
        script: plays it.
    """

    id: str
    variants: tuple[str, ...]
    lead_ms: int
    fits: Callable[[SimulatedUser], bool]
    history: bool
    hides: bool
    crowd: int
    dormant: bool
    service: bool
    script: Script

    def suits(self, user: SimulatedUser, t: int) -> bool:
        """Return whether the user can be the (first) victim now."""
        if user.dormant is not self.dormant or user.service is not self.service:
            return False
        if not (self.service or user.benign in PLAIN):
            return False
        return self.fits(user) and (experienced(user, t) or not self.history)

    def joins(self, first: SimulatedUser, user: SimulatedUser, t: int) -> bool:
        """Return whether the user can be a further victim beside the first."""
        return user.tenant is first.tenant and self.suits(user, t)


def experienced(user: SimulatedUser, t: int) -> bool:
    """Whether the learning period (10 sessions or 14 days) is surely over."""
    return user.sessions >= LEARNT_SESSIONS and user.first_seen > 0 and t - user.first_seen >= LEARNT_MS


KINDS: Final[dict[str, AttackKind]] = {}
"""Every kind of attack by the detection it is meant to trigger."""


def attack(
    script_id: str = "",
    *,
    variants: tuple[str, ...] = ("plain",),
    lead: int = 15 * MINUTE,
    fits: Callable[[SimulatedUser], bool] = lambda _: True,
    history: bool = False,
    hides: bool = True,
    crowd: int = 1,
    dormant: bool = False,
    service: bool = False,
) -> Callable[[Script], Script]:
    """Register a script as a kind of attack.

    Its detection's id is the function's name in kebab case, unless `script_id` says `detection/suffix`: then it is
    another kind of attack on the same detection.
    """

    def register(script: Script) -> Script:
        name = script_id or script.__name__.replace("_", "-")
        KINDS[name] = AttackKind(
            name.split("/")[0], variants, lead, fits, history, hides, crowd, dormant, service, script
        )
        return script

    return register


class Stage(Protocol):
    """Where attacks take place: the simulated world, its users and the scheduler that sends their events."""

    config: SimulatorConfig
    rng: Random
    world: Internet
    scheduler: Scheduler
    attacks: list[Label]
    users: list[SimulatedUser]

    def release(self, user: SimulatedUser, t: int) -> None:
        """Let a user go on with ordinary life after an attack that ended at `t`."""


class AttackCase:
    """One attack as it is played: the victims, the label, and the moves a script can make."""

    def __init__(self, stage: Stage, kind: AttackKind, name: str, victims: list[SimulatedUser], strike: int) -> None:
        self.stage = stage
        self.kind = kind
        self.rng: Random = stage.rng
        self.world: Internet = stage.world
        self.victims = victims
        self.user = victims[0]
        self.begin = strike - kind.lead_ms
        self.strike = strike
        number = int(name.rsplit("-", 1)[1])
        self.variant = kind.variants[number % len(kind.variants)]
        self.label = Label(kind.id, self.variant, name, self.user.tenant.id)
        self.label.users = [(user.tenant.id, user.id) for user in victims]
        self.label.allowed.add("session-at-risk")
        self.label.hidden_ms = self._hide(number)
        self.trails: dict[SimulatedSession, list[TrailPoint]] = {}

    def _hide(self, number: int) -> int:
        share = self.stage.config.attack_late_share
        if not self.kind.hides or int((number + 1) * share) == int(number * share):
            return 0
        return int(self.rng.uniform(5 * MINUTE, LATEST_HIDE_MS))

    def run(self) -> Generator[float, None, None]:
        """Play the script, then let the victims rest."""
        last = self.begin
        for wake in self.kind.script(self):
            last = int(wake)
            yield wake
        self.label.ended = True
        for user in self.victims:
            self.stage.release(user, last)

    # --- places and devices ---------------------------------------------------------------------------------

    def home(self, user: SimulatedUser | None = None) -> Spot:
        """The user at home, on the device they use there."""
        user = user or self.user
        device = next((desk.device for desk, seat in user.seats() if seat is user.home), 0)
        return Spot(user.home.networks[0], user.home.fixed, user.devices[device])

    def at(self, network: SimulatedNetwork, device: SimulatedDevice | None = None) -> Spot:
        """Somebody on a network; a cloned user agent unless a device is given."""
        return Spot(network, network.address(self.rng), device or self.home().device)

    def stranger(self) -> SimulatedDevice:
        """A device unlike the user's."""
        return stranger(tuple(self.user.devices), self.rng)

    def foreign(self, nearest_km: float = 0, farthest_km: float = 30_000) -> SimulatedNetwork:
        """An ISP in another country, at a distance if there is one; a residential proxy, say."""
        here = self.user.city
        cities = [c for c in self.world.isps if c.country not in (here.country, *EMBARGOED)]
        near = [c for c in cities if nearest_km < distance_km(here, c) < farthest_km]
        city = self.rng.choice(near) if near else min(cities, key=lambda c: distance_km(here, c))
        return self.rng.choice(self.world.isps[city])

    def domestic(self, nearest_km: float = 200) -> SimulatedNetwork:
        """An ISP of the user's own country but another AS and city; abroad where there is none."""
        here = self.user.city
        known = self.user.known_asns()
        nets = [
            net
            for city, group in self.world.isps.items()
            if city.country == here.country and distance_km(here, city) > nearest_km
            for net in group
            if net.asn not in known
        ]
        return self.rng.choice(nets) if nets else self.foreign()

    def neighbour(self) -> SimulatedNetwork:
        """Another ISP of the user's own city."""
        known = self.user.known_asns()
        return self.rng.choice([net for net in self.world.isps[self.user.city] if net.asn not in known])

    def same_asn(self, device: SimulatedDevice) -> Spot:
        """The user's own ISP, another prefix where it has one."""
        net = self.user.home.networks[0]
        mine = self.user.home.fixed.rsplit(".", 1)[0] + "."
        prefix = next((p for p in net.v4 if p != mine), net.v4[0])
        return Spot(net, f"{prefix}{self.rng.randint(1, 250)}", device)

    def exit(self, kind: str) -> SimulatedNetwork:
        """An anonymiser's exit, in the user's own country where it has one."""
        nets: tuple[SimulatedNetwork, ...] = getattr(self.world, kind)
        own = [net for net in nets if net.city.country == self.user.city.country]
        return self.rng.choice(own or list(nets))

    # --- moves ----------------------------------------------------------------------------------------------

    def sign_in(
        self, t: int, spot: Spot, *, bad: bool = True, user: SimulatedUser | None = None, **fields: Any
    ) -> SimulatedSession:
        """Open a session; `fields` replace what the tenant's system would write."""
        user = user or self.user
        moment = t - self.rng.randint(5, 200)
        session = open_session(self.rng, user, moment, spot.device, spot.network, spot.ip)
        session.doc.update(fields)
        session.uid = session.doc["uid"]
        now = TrailPoint(moment, spot)
        if bad:
            self._judge_start(user, session, now)
        if session.uid not in self.label.sessions:
            self.label.sessions.append(session.uid)
        self.trails[session] = [now]
        self.publish(session, t, "created", bad=bad)
        return session

    def _judge_start(self, user: SimulatedUser, session: SimulatedSession, now: TrailPoint) -> None:
        ready = experienced(user, now.at) and not user.struck
        others = [trail[-1] for other, trail in self.trails.items() if other.user is user]
        self._file(oracle.judge_start(user, [*others, *self._before(user)], now, experienced=ready))
        self._file(oracle.judge_sign_in(user, session.doc, experienced=ready))
        self._file(oracle.judge_travel(user.tenant, self._sights(user), now))

    def _before(self, user: SimulatedUser) -> list[TrailPoint]:
        """Where the user was last seen before this case."""
        if user.last_network is None:
            return []
        return [TrailPoint(user.last_at, Spot(user.last_network, "0.0.0.0", user.devices[0]))]  # noqa: S104  # no address matters here

    def _sights(self, user: SimulatedUser) -> list[TrailPoint]:
        own = [trail for session, trail in self.trails.items() if session.user is user]
        return [*self._before(user), *(seen for trail in own for seen in trail)]

    def act(
        self, session: SimulatedSession, t: int, spot: Spot | None = None, *, bad: bool = True, **fields: Any
    ) -> None:
        """Use a session, from another spot and with other fields if given."""
        moment = t - self.rng.randint(5, 200)
        trail = self.trails[session]
        spot = spot or trail[-1].spot
        now = TrailPoint(moment, spot)
        self._judge_act(session, trail, now, bad=bad)
        session.move(spot.network, spot.ip)
        session.doc["user_agent"] = spot.device.user_agent
        session.use(moment)
        session.doc.update(fields)
        trail.append(now)
        self.publish(session, t, "refreshed", bad=bad)

    def _judge_act(self, session: SimulatedSession, trail: list[TrailPoint], now: TrailPoint, *, bad: bool) -> None:
        """What the victim does after an attack is judged too, but only allowed."""
        move = oracle.judge_move(session.user, trail, now)
        travel = oracle.judge_travel(session.user.tenant, self._sights(session.user), now)
        for verdict in (move, travel):
            self._file(verdict, sure=bad)

    def _file(self, verdict: oracle.OracleVerdict, *, sure: bool = True) -> None:
        (self.label.expected if sure else self.label.allowed).update(verdict.expected)
        self.label.allowed.update(verdict.allowed)

    def publish(self, session: SimulatedSession, t: int, kind: str, *, bad: bool) -> None:
        """Send the session's snapshot; malicious ones late if this attack hides."""
        if bad:
            self.label.strike(t)
        delay = self.label.hidden_ms if bad else 0
        self.deliver(session, t, kind, delay, self.label if bad else None)

    def deliver(self, session: SimulatedSession, t: int, kind: str, delay: int, label: Label | None = None) -> None:
        """Send the snapshot so that it arrives with a delay."""
        value = self.stage.scheduler.render(session, t, kind)
        self.stage.scheduler.send(session.user, value, t + delay, label)

    def expect(self, *detections: str) -> None:
        """Add what the script as a whole must trigger."""
        self.label.expected.update(detections)

    def allow(self, *detections: str) -> None:
        """Add what it may trigger besides."""
        self.label.allowed.update(detections)

    def settle(self, until: int, refreshes: int = 3, **fields: Any) -> Generator[float, None, SimulatedSession]:
        """The victim's own session: signs in at the beginning and works at home until then."""
        session = self.sign_in(self.begin, self.home(), bad=False, **fields)
        step = (until - self.begin) // (refreshes + 1)
        for number in range(1, refreshes + 1):
            yield self.begin + number * step
            self.act(session, self.begin + number * step, bad=False)
        yield until
        return session

    def carry_on(self, session: SimulatedSession, t: int, times: int = 2) -> Generator[float, None, None]:
        """The victim goes on working at home in the same session."""
        for number in range(1, times + 1):
            at = t + number * 4 * MINUTE
            yield at
            self.act(session, at, self.home(), bad=False)


def minutes(case: AttackCase, low: float, high: float) -> int:
    """Draw a time span, in milliseconds."""
    return int(case.rng.uniform(low, high) * MINUTE)


def hours_to_cover(km: float, kmh: float) -> int:
    """Time to cover a distance, in milliseconds."""
    return int(km / kmh * HOUR)
