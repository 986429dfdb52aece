"""`sessionwatch simulate`: labelled traffic to the configured Kafka."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  typer reads annotations at run time
from typing import Annotated

import typer

from worker.apps.errors import INTERRUPTED, OK
from worker.cli.common import Json, configure_logs, print_json, say, settings_of


def simulate(
    context: typer.Context,
    *,
    rate: Annotated[float, typer.Option(min=0.1, help="Events per second.")] = 200,
    tenants: Annotated[int, typer.Option(min=1)] = 6,
    users: Annotated[int, typer.Option(min=1)] = 1_200,
    attacks: Annotated[float, typer.Option(min=0, help="Attacks per minute.")] = 15,
    seed: Annotated[int, typer.Option(help="The same seed gives the same people, networks and attacks.")] = 1,
    duration: Annotated[float | None, typer.Option(min=0.1, help="Seconds; without it until Ctrl-C.")] = None,
    warmup_days: Annotated[float, typer.Option(min=0, help="Days of history that are sent first, at once.")] = 21,
    labels: Annotated[Path | None, typer.Option(help="Write the attacks to this file, as JSON lines.")] = None,
    as_json: Json = False,
) -> None:
    """Send labelled traffic to the configured Kafka."""
    from worker.apps import simulate as program  # noqa: PLC0415  `--help` needs none of it

    settings = settings_of(context)
    configure_logs(context, settings)
    request = program.TrafficRequest(rate, tenants, users, attacks, seed, duration, warmup_days)
    done = program.simulate(settings, request)
    if labels is not None:
        done.save_labels(labels)
    if as_json:
        print_json({"sent": done.sent, "attacks": len(done.attacks)})
    else:
        say(f"sent {done.sent:,} events, {len(done.attacks):,} attacks among them")
    raise typer.Exit(INTERRUPTED if done.interrupted else OK)
