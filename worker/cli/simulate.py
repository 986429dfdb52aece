"""`sessionwatch simulate`: labelled traffic to the configured Kafka."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path  # noqa: TC003  typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.common import Json, configure_logs, print_json, say, settings_of
from worker.cli.errors import INTERRUPTED, OK

if TYPE_CHECKING:
    from worker.settings import KafkaSettings
    from worker.simulator import Simulator
    from worker.simulator.producer import TrafficProducer


def simulate(
    context: typer.Context,
    *,
    rate: Annotated[float, typer.Option(min=0.1, help="Events per second.")] = 200,
    tenants: Annotated[int, typer.Option(min=1)] = 6,
    users: Annotated[int, typer.Option(min=1)] = 1_200,
    attacks: Annotated[float, typer.Option(min=0, help="Attacks per minute.")] = 15,
    seed: Annotated[int, typer.Option(help="The same seed gives the same people, networks and attacks.")] = 1,
    duration: Annotated[float | None, typer.Option(min=0.1, help="Seconds; without it until Ctrl-C.")] = None,
    warmup_days: Annotated[float, typer.Option(min=0, help="Days of history sent ahead, at once.")] = 21,
    labels: Annotated[Path | None, typer.Option(help="Write the attacks there, as JSON lines.")] = None,
    as_json: Json = False,
) -> None:
    """Send labelled traffic to the configured Kafka."""
    from worker.simulator import Simulator, profile  # noqa: PLC0415
    from worker.simulator.producer import TrafficProducer  # noqa: PLC0415  `--help` needs none of it

    settings = settings_of(context)
    configure_logs(context, settings)
    start = int(time.time() * 1000)
    every = int(60_000 / attacks) if attacks else None
    asked = profile("demo", seed=seed, start_ms=start, tenants=tenants, users=users, rate=rate,
                    warmup_days=warmup_days, attack_interval_ms=every)  # fmt: skip
    simulator = Simulator(asked)
    until = float("inf") if duration is None else start + duration * 1000
    feed = TrafficProducer(simulator.events(), settings.topics.events, clock=_now, sleep=asyncio.sleep, until_ms=until)
    code = _until_interrupted(feed, settings.kafka)
    _report(feed, simulator, labels, as_json=as_json)
    raise typer.Exit(code)


def _now() -> float:
    return time.time() * 1000


def _until_interrupted(feed: TrafficProducer, kafka: KafkaSettings) -> int:
    try:
        asyncio.run(_run(feed, kafka))
    except KeyboardInterrupt:
        return INTERRUPTED
    return OK


async def _run(feed: TrafficProducer, kafka: KafkaSettings) -> None:
    from aiokafka import AIOKafkaProducer  # noqa: PLC0415  `--help` needs none of it

    from worker.stream.connection import aiokafka_options  # noqa: PLC0415

    async with AIOKafkaProducer(**aiokafka_options(kafka), acks="all", linger_ms=5) as producer:
        await feed.run(producer)
    if feed.failed is not None:
        raise feed.failed


def _report(feed: TrafficProducer, simulator: Simulator, labels: Path | None, *, as_json: bool) -> None:
    import orjson  # noqa: PLC0415  `--help` needs none of it

    attacks = simulator.labels()["attacks"]
    if labels is not None:
        labels.write_bytes(b"".join(orjson.dumps(attack) + b"\n" for attack in attacks))
    if as_json:
        print_json({"sent": feed.sent, "attacks": len(attacks)})
    else:
        say(f"sent {feed.sent:,} events, {len(attacks):,} attacks among them")
