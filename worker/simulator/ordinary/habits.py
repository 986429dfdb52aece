"""Habits: what a user, or the system behind the account, writes into a session besides time and address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.simulator.agents import LAPTOPS, PHONES, device_of
from worker.simulator.config import HOUR

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.simulator.ordinary.person import Client, Person
    from worker.simulator.session import SimulatedSession

    Habit = Callable[[Person, SimulatedSession, int], None]

CONSENTS: Final = ("calendar:read", "files:read", "contacts:read", "offline_access")
APPLICATIONS: Final = tuple(f"https://app-{number}.example.com" for number in range(12))
THROTTLE_MS: Final = HOUR


def _step_up(person: Person, session: SimulatedSession, _t: int) -> None:
    """A second factor for one step; the next refresh shows the first factor alone again."""
    session.doc["amr"] = ["pwd", "otp"] if person.chance(0.1) else ["pwd"]


def _consent(person: Person, session: SimulatedSession, _t: int) -> None:
    """An application asks for one more scope when a feature is first used."""
    granted = list(session.doc["scopes"])
    missing = [scope for scope in CONSENTS if scope not in granted]
    if missing and person.chance(0.08):
        person.user.scopes = (*granted, missing[0])
        session.doc["scopes"] = person.user.scopes


def _empty_methods(_person: Person, session: SimulatedSession, _t: int) -> None:
    session.doc["amr"] = []


def _many_audiences(person: Person, session: SimulatedSession, _t: int) -> None:
    """Single sign-on: one session serves one application after the other."""
    session.doc["aud"] = person.rng.choice(APPLICATIONS)


ON_USE: Final[dict[str, Habit]] = {
    "step-up": _step_up,
    "consent": _consent,
    "empty-methods": _empty_methods,
    "many-audiences": _many_audiences,
}
"""What a habit does to a session at each refresh."""


def dress(person: Person, session: SimulatedSession, t: int, *, fresh: bool) -> None:
    """Apply a person's habits to a session at a use."""
    if "bare-city" in person.habits:
        session.doc["location"] = session.network.city.name
    if fresh:
        return
    for name, habit in ON_USE.items():
        if name in person.habits:
            habit(person, session, t)


def stamp_use(person: Person, session: SimulatedSession, t: int) -> None:
    """Record activity; systems that throttle write `last_used_at` at most once an hour."""
    written = session.doc.get("last_used_at")
    recent = t - session.used < THROTTLE_MS
    session.use(t)
    if "throttled" in person.habits and recent:
        session.doc["last_used_at"] = written


def maintain(person: Person, client: Client) -> None:
    """Let a browser update itself, or replace the device, before a visit."""
    if client.kind != "server" and person.chance(0.02):
        client.device = client.device.upgraded()
    if "buys-device" in person.habits and client.kind in ("phone", "laptop") and person.chance(0.015):
        models = PHONES if client.kind == "phone" else LAPTOPS
        client.device, client.session = device_of(person.rng.choice(models), person.rng), None


def agent(person: Person, client: Client, *, fresh: bool) -> str:
    """Return the user agent that a client shows at a use."""
    other = client.alternate
    if other is None:
        return client.device.user_agent
    if client.kind == "terminal" or "native-application" in person.habits:
        return client.device.user_agent if fresh else other.user_agent
    return (other if person.chance(0.2) else client.device).user_agent
