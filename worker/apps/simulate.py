"""`simulate`: labelled traffic to the configured Kafka."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from worker.apps.build import wall_clock
from worker.apps.run import producing
from worker.simulator import Simulator, profile
from worker.simulator.producer import TrafficProducer

if TYPE_CHECKING:
    from pathlib import Path

    from worker.settings import Settings


class TrafficRequest(NamedTuple):
    """The traffic to send.

    Attributes:
        rate: events per second.
        attacks: attacks per minute.
        duration: seconds; None: until interrupted.
        warmup_days: days of history that are sent first, at once.
    """

    rate: float
    tenants: int
    users: int
    attacks: float
    seed: int
    duration: float | None
    warmup_days: float


class SentTraffic(NamedTuple):
    """The traffic that was sent: the number of events, and the attacks among them."""

    sent: int
    attacks: list[dict[str, Any]]
    interrupted: bool

    def save_labels(self, path: Path) -> None:
        """Write the attacks to a file, as JSON lines."""
        path.write_bytes(b"".join(orjson.dumps(attack) + b"\n" for attack in self.attacks))


def simulate(settings: Settings, request: TrafficRequest) -> SentTraffic:
    """Send traffic until its end, or until interrupted.

    Raises:
        KafkaError: Kafka cannot be reached.
    """
    start = wall_clock()
    simulator = Simulator(
        profile(
            "demo",
            seed=request.seed,
            start_ms=start,
            tenants=request.tenants,
            users=request.users,
            rate=request.rate,
            warmup_days=request.warmup_days,
            attack_interval_ms=int(60_000 / request.attacks) if request.attacks else None,
        )
    )
    until = float("inf") if request.duration is None else start + request.duration * 1000
    traffic = TrafficProducer(
        simulator.events(), settings.topics.events, clock=_now, sleep=asyncio.sleep, until_ms=until
    )
    interrupted = _run_until_interrupted(settings, traffic)
    return SentTraffic(traffic.sent, simulator.labels()["attacks"], interrupted)


def _now() -> float:
    return time.time() * 1000


def _run_until_interrupted(settings: Settings, traffic: TrafficProducer) -> bool:
    """Send the traffic; return whether the user interrupted it."""
    try:
        asyncio.run(_run(settings, traffic))
    except KeyboardInterrupt:
        return True
    return False


async def _run(settings: Settings, traffic: TrafficProducer) -> None:
    async with producing(settings) as producer:
        await traffic.run(producer)
    if traffic.failed is not None:
        raise traffic.failed
