"""Ordinary lives as a stream of records, and what is true of them."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from worker.simulator.config import SimulatorConfig
from worker.simulator.geo import internet
from worker.simulator.ordinary.changes import TenantChanges
from worker.simulator.ordinary.days import DailyLife
from worker.simulator.ordinary.population import build_people
from worker.simulator.ordinary.publisher import RecordPublisher
from worker.simulator.ordinary.thefts import Thieves
from worker.simulator.scheduler import Scheduler, SimEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.simulator.ordinary.config import OrdinaryConfig


class OrdinaryLives:
    """One simulation. `events` can be iterated once; `labels` is complete when it is exhausted."""

    def __init__(self, config: OrdinaryConfig) -> None:
        world, rng = internet(), Random(config.seed)  # noqa: S311  # reproducible traffic, not a secret
        self.config = config
        self.people = build_people(config, world)
        odds = SimulatorConfig(start_ms=config.start_ms, collect_benign=False)
        self._scheduler = Scheduler(odds, Random(f"{config.seed}/producers"))  # noqa: S311  # as above
        self._publisher = RecordPublisher(config, self._scheduler)
        self._days = DailyLife(config, self._publisher)
        self._changes = TenantChanges(config, self._publisher, self.people)
        self._thieves = Thieves(config, world, self._publisher, self.people, rng)
        self._started = False

    def events(self) -> Iterator[SimEvent]:
        """Yield every record in order of arrival.

        Raises:
            RuntimeError: on a second call; a run cannot be repeated in place.
        """
        if self._started:
            raise RuntimeError("OrdinaryLives runs once; make another with the same configuration")
        self._started = True
        for person in self.people:
            life = self._days.life(person)
            first = next(life, None)
            if first is not None:
                self._scheduler.push(first, life)
        for at, task in (*self._changes.tasks(), *self._thieves.tasks()):
            self._scheduler.push(at, task)
        return self._scheduler.run()

    def labels(self) -> dict[str, Any]:
        """Return the truth so far, as JSON: what kind of person each user is, thefts, and how much took place."""
        days: dict[tuple[str, str], int] = {}
        for tenant, user, _ in self._publisher.days:
            days[tenant, user] = days.get((tenant, user), 0) + 1
        return {
            "seed": self.config.seed,
            "start_ms": self.config.start_ms,
            "end_ms": self.config.end_ms,
            "sessions": len(self._publisher.sessions),
            "users": [
                {
                    "tenant_id": person.user.tenant.id,
                    "user_id": person.user.id,
                    "persona": person.persona.name,
                    "traits": person.traits,
                    "days": days.get((person.user.tenant.id, person.user.id), 0),
                }
                for person in self.people
            ],
            "attacks": [theft.as_dict() for theft in self._thieves.thefts],
        }
