"""Thefts laid over ordinary lives: who was attacked, how, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from worker.simulator.agents import SCRIPTS, SimulatedDevice, device_of, stranger
from worker.simulator.config import DAY, HOUR, MINUTE
from worker.simulator.session import open_session
from worker.simulator.world import EMBARGOED

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from random import Random

    from worker.simulator.geo import Internet, SimulatedNetwork
    from worker.simulator.ordinary.config import OrdinaryConfig
    from worker.simulator.ordinary.person import Client, Person
    from worker.simulator.ordinary.publisher import RecordPublisher
    from worker.simulator.session import SimulatedSession

SPARED: Final = frozenset({"kiosk", "monthly-visitor", "call-centre"})
"""Personas whose users are no victims: they are too seldom there, or too many behind one name."""
PATIENCE_DAYS: Final = 12
USES: Final = (3, 6)


class Theft(msgspec.Struct):
    """A theft that took place; `until` is its last use."""

    attack: str
    tenant_id: str
    user_id: str
    session_uid: str
    since: int
    until: int

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


class TheftKind(NamedTuple):
    """A kind of theft.

    Attributes:
        name: as reports show it.
        network: where the thief is.
        device: what the thief shows, drawn from the client that was robbed.
        session: how the thief comes by a session: `live`, `ended` or `new`.
        machine: the victim is a service.
    """

    name: str
    network: Callable[[Person], SimulatedNetwork]
    device: Callable[[Person, Client], SimulatedDevice]
    session: str = "live"
    machine: bool = False


def _abroad(person: Person) -> SimulatedNetwork:
    cities = [city for city in person.world.isps if city.country not in (person.city.country, *EMBARGOED)]
    return person.rng.choice(person.world.isps[person.rng.choice(cities)])


def _nearby(person: Person) -> SimulatedNetwork:
    own = {network.asn for network in person.home.networks}
    return person.rng.choice([net for net in person.world.isps[person.city] if net.asn not in own])


def _hosting(person: Person) -> SimulatedNetwork:
    return person.rng.choice(person.world.hosting)


def _vpn(person: Person) -> SimulatedNetwork:
    return person.rng.choice(person.world.vpn)


def _cloned(_person: Person, client: Client) -> SimulatedDevice:
    return client.device


def _other(person: Person, _client: Client) -> SimulatedDevice:
    return stranger(tuple(client.device for client in person.clients), person.rng)


def _script(person: Person, _client: Client) -> SimulatedDevice:
    return device_of(person.rng.choice(SCRIPTS), person.rng)


KINDS: Final[tuple[TheftKind, ...]] = (
    TheftKind("replayed-abroad", _abroad, _other),
    TheftKind("cloned-abroad", _abroad, _cloned),
    TheftKind("cloned-on-hosting", _hosting, _cloned),
    TheftKind("cloned-behind-vpn", _vpn, _cloned),
    TheftKind("replayed-nearby", _nearby, _other),
    TheftKind("cloned-nearby", _nearby, _cloned),
    TheftKind("script-on-hosting", _hosting, _script),
    TheftKind("after-sign-out", _abroad, _cloned, "ended"),
    TheftKind("password-abroad", _abroad, _other, "new"),
    TheftKind("machine-token-elsewhere", _abroad, _cloned, "live", machine=True),
)


class Thieves:
    """Thefts, each a task of the scheduler."""

    def __init__(
        self, config: OrdinaryConfig, world: Internet, publisher: RecordPublisher, people: list[Person], rng: Random
    ) -> None:
        self.thefts: list[Theft] = []
        self._config = config
        self._world = world
        self._publisher = publisher
        self._people = people
        self._rng = rng
        self._robbed: set[str] = set()

    def tasks(self) -> Iterator[tuple[float, Generator[float, None, None]]]:
        """Return every theft and when its thief begins to look for a victim."""
        for kind in KINDS:
            for _ in range(self._config.thefts_per_kind):
                begin = self._config.share(0.5 + 0.4 * self._rng.random()) + int(self._rng.random() * DAY)
                yield begin, self._theft(kind, begin)

    def _theft(self, kind: TheftKind, begin: int) -> Generator[float, None, None]:
        t = begin
        while t < min(begin + PATIENCE_DAYS * DAY, self._config.end_ms - DAY):
            yield t
            victim = self._victim(kind, t)
            if victim is not None:
                yield from self._steal(kind, *victim, t)
                return
            t += HOUR

    def _victim(self, kind: TheftKind, t: int) -> tuple[Person, Client, SimulatedSession] | None:
        """Reserve somebody who used a session within the last hours and was never robbed."""
        found = [
            (person, client, client.session)
            for person in self._people
            if self._suits(person, kind, t)
            for client in person.clients
            if client.session is not None and _stolen(client, client.session, kind, t)
        ]
        if not found:
            return None
        chosen = self._rng.choice(found)
        self._robbed.add(chosen[0].user.id)
        return chosen

    def _suits(self, person: Person, kind: TheftKind, t: int) -> bool:
        if person.user.service is not kind.machine or person.persona.name in SPARED:
            return False
        return t - person.begins > 20 * DAY and (kind.machine or person.user.id not in self._robbed)

    def _steal(
        self, kind: TheftKind, person: Person, client: Client, session: SimulatedSession, t: int
    ) -> Generator[float, None, None]:
        network, device = kind.network(person), kind.device(person, client)
        ip = network.address(person.rng)
        if kind.session == "new":
            session = open_session(person.rng, person.user, t, device, network, ip)
            session.doc["amr"] = ["pwd"]
        theft = Theft(kind.name, person.user.tenant.id, person.user.id, session.uid, t, t)
        self.thefts.append(theft)
        for number in range(person.draw(*USES)):
            self._use(session, network, ip, device, t)
            kind_of_event = "created" if kind.session == "new" and number == 0 else "refreshed"
            self._publisher.publish(session, t, kind_of_event)
            theft.until = t
            t += person.draw(10, 200) * MINUTE
            yield t
            if session.open_until() <= t or (session.deleted and kind.session == "live"):
                return

    def _use(
        self, session: SimulatedSession, network: SimulatedNetwork, ip: str, device: SimulatedDevice, t: int
    ) -> None:
        session.move(network, ip)
        session.doc["user_agent"] = device.user_agent
        session.use(t)


def _stolen(client: Client, session: SimulatedSession, kind: TheftKind, t: int) -> bool:
    """Whether the client's session is one that a thief of this kind can use now."""
    if t - session.used > 5 * HOUR or session.open_until() <= t + 5 * MINUTE:
        return False
    return session.deleted if kind.session == "ended" else not session.deleted and client.kind != "terminal"
