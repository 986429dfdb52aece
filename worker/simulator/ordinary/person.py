"""One user of ordinary life: clients, whereabouts, and the sessions that are open."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from worker.simulator.config import DAY, HOUR, MINUTE
from worker.simulator.people import Seat, SimulatedUser

if TYPE_CHECKING:
    from random import Random

    from worker.simulator.agents import SimulatedDevice
    from worker.simulator.geo import Internet
    from worker.simulator.ordinary.personas import Persona
    from worker.simulator.session import SimulatedSession
    from worker.simulator.world import City

WORK_HOURS = (8 * HOUR, 17 * HOUR)
FRIDAY = 4


class Stay(NamedTuple):
    """A time spent elsewhere; `mobile` is where phones are seen, `fixed` everything else."""

    since: int
    until: int
    fixed: Seat
    mobile: Seat


class Client:
    """A device or program with which a person uses the account.

    Attributes:
        kind: laptop, phone, tablet, terminal or server.
        seat: the way onto the internet that this client always takes, in place of the person's.
        alternate: the user agent it shows now and then, or that goes on with what it began.
    """

    __slots__ = ("alternate", "amr", "device", "kind", "seat", "session", "sessions")

    def __init__(self, kind: str, device: SimulatedDevice, amr: list[str] | None) -> None:
        self.kind = kind
        self.device = device
        self.amr = amr
        self.seat: Seat | None = None
        self.alternate: SimulatedDevice | None = None
        self.session: SimulatedSession | None = None
        self.sessions: list[SimulatedSession] = []

    def live(self, t: int) -> SimulatedSession | None:
        """Return the session this client goes on with, if it has not ended."""
        session = self.session
        return session if session and not session.deleted and session.open_until() > t else None


class Person:
    """A user, what is typical of the life behind it, and where it is at a time."""

    __slots__ = ("begins", "carrier", "clients", "habits", "home", "persona", "rng", "stays", "traits", "user", "work",
                 "world")  # fmt: skip

    def __init__(self, persona: Persona, user: SimulatedUser, rng: Random, world: Internet) -> None:
        self.persona = persona
        self.user = user
        self.rng = rng
        self.world = world
        self.traits: list[str] = []
        self.habits: set[str] = set(persona.habits)
        self.clients: list[Client] = []
        self.stays: list[Stay] = []
        self.home = user.home
        self.carrier = Seat(world.carriers[user.city])
        self.work: Seat | None = None
        self.begins = 0

    @property
    def city(self) -> City:
        """Where the user lives at first."""
        return self.user.city

    def local(self, t: int) -> tuple[int, int]:
        """Return the day of the week (0 is Monday) and the milliseconds since midnight, local."""
        days, rest = divmod(t + self.city.utc_offset * MINUTE, DAY)
        return (days + 3) % 7, rest

    def seat(self, client: Client, t: int) -> Seat:
        """Return where a client is used at a time."""
        if client.seat is not None:
            return client.seat
        stay = next((each for each in reversed(self.stays) if each.since <= t < each.until), None)
        if stay is not None:
            return stay.mobile if client.kind == "phone" and self.rng.random() < 0.6 else stay.fixed
        return self._usual(client, t)

    def _usual(self, client: Client, t: int) -> Seat:
        day, clock = self.local(t)
        at_work = day <= FRIDAY and WORK_HOURS[0] <= clock < WORK_HOURS[1]
        if client.kind == "phone" and self.rng.random() < (0.7 if at_work else 0.35):
            return self.carrier
        return self.work if self.work is not None and at_work else self.home

    def draw(self, low: int, high: int) -> int:
        """Draw a number between two, both included."""
        return low + int(self.rng.random() * (high - low + 1))

    def chance(self, share: float) -> bool:
        """Draw whether something with this probability happens."""
        return self.rng.random() < share
