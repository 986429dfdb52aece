"""The simulator: people, attackers, and the scheduler between them and Kafka."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from worker.simulator.benign import BenignTraffic
from worker.simulator.campaigns import CampaignScheduler
from worker.simulator.geo import internet
from worker.simulator.people import build_tenants, build_users
from worker.simulator.scheduler import Scheduler, SimEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.simulator.config import SimulatorConfig

__all__ = ["SimEvent", "Simulator"]


class Simulator:
    """One run of a simulation. `events` can be iterated once; `labels` is complete when it is exhausted."""

    def __init__(self, config: SimulatorConfig) -> None:
        rng, world = Random(config.seed), internet()  # noqa: S311  # reproducible traffic, not a secret
        self.config = config
        self.tenants = build_tenants(rng, world, config)
        self.users = build_users(rng, world, config, self.tenants)
        self._scheduler = Scheduler(config, rng)
        self._lives = BenignTraffic(config, rng, world, self._scheduler)
        self._director = CampaignScheduler(config, rng, world, self._scheduler, self.users)
        self._started = False

    def events(self) -> Iterator[SimEvent]:
        """Yield every record in order of arrival.

        Raises:
            RuntimeError: on a second call; a run cannot be repeated in place.
        """
        if self._started:
            raise RuntimeError("a Simulator runs once; make another with the same configuration")
        self._started = True
        self._populate()
        return self._limited()

    def _populate(self) -> None:
        self._director.settle_dormant()
        for user in self.users:
            life = self._lives.early_life(user) if user.dormant else self._lives.life(user)
            first = next(life, None)
            if first is not None:
                self._scheduler.push(first, life)
        self._director.start()

    def _limited(self) -> Iterator[SimEvent]:
        limit = self.config.max_events
        for sent, event in enumerate(self._scheduler.run(), 1):
            yield event
            if sent == limit:
                return

    def labels(self) -> dict[str, Any]:
        """Ground truth so far, as JSON: attacks, benign sessions, and the tenants' policies."""
        return {
            "seed": self.config.seed,
            "start_ms": self.config.start_ms,
            "attacks": [label.as_dict() for label in self._director.attacks],
            "benign": [label.as_dict() for label in self._lives.benign],
            "tenants": {tenant.id: tenant.policy() for tenant in self.tenants},
        }
