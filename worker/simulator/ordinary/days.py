"""A person's days: sign in, use, leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from worker.simulator.config import DAY, HOUR, MINUTE, SECOND
from worker.simulator.ordinary.habits import agent, dress, maintain, stamp_use
from worker.simulator.session import open_session

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from worker.simulator.geo import SimulatedNetwork
    from worker.simulator.ordinary.config import OrdinaryConfig
    from worker.simulator.ordinary.person import Client, Person
    from worker.simulator.ordinary.publisher import RecordPublisher
    from worker.simulator.session import SimulatedSession

SATURDAY = 5
KEPT_SESSIONS = 40
"""Sessions of one client that are remembered: all that a change of the tenant's can concern."""


class Use(NamedTuple):
    """A moment at which a client is used; the first and the last of a visit are marked."""

    t: int
    client: Client
    first: bool
    last: bool


class DailyLife:
    """Lives of people, each a task of the scheduler."""

    def __init__(self, config: OrdinaryConfig, publisher: RecordPublisher) -> None:
        self._config = config
        self._publisher = publisher

    def life(self, person: Person) -> Generator[float, None, None]:
        """Live from the person's first day to the end of the simulation."""
        t = person.begins
        for day in range(self._config.days):
            midnight = self._config.day(day) - person.city.utc_offset * MINUTE
            if midnight >= person.begins:
                for use in sorted(self._uses(person, midnight)):
                    t = max(use.t, t)  # a night shift's day ends in the next
                    if t < self._config.end_ms:
                        yield t
                        self._use(person, use._replace(t=t))

    def _uses(self, person: Person, midnight: int) -> Iterator[Use]:
        persona, rng = person.persona, person.rng
        weekend = person.local(midnight)[0] >= SATURDAY
        if not person.chance(persona.weekend if weekend else persona.workday):
            return
        low, high = persona.hours
        t = midnight + int((low + (high - low) * rng.random()) * HOUR)
        for _ in range(person.draw(*persona.visits)):
            client = self._client(person)
            count = person.draw(*persona.uses)
            for number in range(count):
                yield Use(t, client, number == 0, number == count - 1)
                t += int(persona.gap * (0.4 + 1.2 * rng.random()) * MINUTE) + SECOND

    def _client(self, person: Person) -> Client:
        """The first client is preferred; each of the others takes what is left in the same way."""
        for client in person.clients[:-1]:
            if person.chance(0.6):
                return client
        return person.clients[-1]

    def _use(self, person: Person, use: Use) -> None:
        if use.first:
            maintain(person, use.client)
        session = use.client.live(use.t)
        if session is None or (use.first and "incognito" in person.habits):
            session = self._sign_in(person, use.client, use.t)
            if "many-applications" in person.habits:
                self._open_applications(person, use.client, use.t)
        else:
            self._refresh(person, use.client, session, use.t)
        if use.last and person.chance(person.persona.signs_out):
            self._sign_out(session, use.t + 20 * SECOND)

    def _sign_in(self, person: Person, client: Client, t: int, aud: str | None = None) -> SimulatedSession:
        user = person.user
        network, ip = person.seat(client, t).draw(person.rng)
        user.amr = client.amr
        moment = t - person.draw(5, 250)
        offset = self._publisher.offset(user.tenant.id, t)
        session = open_session(person.rng, user, moment, client.device, network, ip, offset)
        session.doc["user_agent"] = agent(person, client, fresh=True)
        client.session = session
        client.sessions = [*client.sessions[1 - KEPT_SESSIONS :], session]
        if aud is not None:
            session.doc["aud"] = aud
        dress(person, session, t, fresh=True)
        self._publisher.publish(session, t, "created", ahead=aud is not None)
        return session

    def _open_applications(self, person: Person, client: Client, t: int) -> None:
        """A portal signs its user in to many applications within seconds, each a session of its own."""
        portal = client.session
        for number in range(person.draw(5, 9)):
            self._sign_in(person, client, t + (number + 1) * 400, f"https://app-{number}.example.com")
        client.session = portal

    def _refresh(self, person: Person, client: Client, session: SimulatedSession, t: int) -> None:
        session.offset = self._publisher.offset(person.user.tenant.id, t)
        if "keeps-first-address" not in person.habits:
            session.move(*self._whence(person, client, t))
        session.doc["user_agent"] = agent(person, client, fresh=False)
        if "refreshed-by-server" in person.habits:
            session.doc["user_agent"] = "node-fetch/3.3.2"
        stamp_use(person, session, t - person.draw(5, 250))
        dress(person, session, t, fresh=False)
        self._publisher.publish(session, t, "refreshed")

    def _whence(self, person: Person, client: Client, t: int) -> tuple[SimulatedNetwork, str]:
        """Where the refresh comes from: the application's own server, if that holds the token."""
        if "refreshed-by-server" in person.habits:
            network = person.world.hosting[0]
            return network, f"{network.v4[0]}{20 + t // DAY % 3}"
        return person.seat(client, t).draw(person.rng)

    def _sign_out(self, session: SimulatedSession, t: int) -> None:
        session.delete(t)
        self._publisher.publish(session, t, "deleted", ahead=True)
