"""`sessionwatch evaluate`: the catalogue on labelled simulated traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.common import Json, output, print_json, say, settings_of
from worker.cli.errors import CheckFailedError

if TYPE_CHECKING:
    from worker.apps.scoring import Evaluation


def evaluate(
    context: typer.Context,
    *,
    seed: Annotated[int, typer.Option(help="The same seed gives the same traffic and the same figures.")] = 1,
    users: Annotated[int, typer.Option(min=200)] = 8_000,
    attacks: Annotated[int, typer.Option(min=1, help="Attacks of every kind.")] = 52,
    check: Annotated[bool, typer.Option("--check", help="Fail when the bar is not reached.")] = False,
    as_json: Json = False,
) -> None:
    """Measure recall, precision and false alarms on labelled simulated traffic."""
    from worker.apps import evaluate as program  # noqa: PLC0415  `--help` needs none of it

    found = program.evaluate(settings_of(context), seed=seed, users=users, attacks_per_kind=attacks)
    if as_json:
        print_json(found.as_json())
    else:
        _show(found)
    short = found.below_the_bar()
    if check and short:
        raise CheckFailedError(f"below the bar: {'; '.join(short)}")


def _show(found: Evaluation) -> None:
    output(f"{'detection':24} {'attacks':>8} {'recall':>8} {'precision':>10} {'by definition':>14} {'wrong':>6}")
    for uid, tally in sorted(found.detections.items()):
        recall, precision = _share(tally.recall), _share(tally.precision)
        output(f"{uid:24} {tally.attacks:8} {recall:>8} {precision:>10} {tally.by_definition:14} {tally.wrong:6}")
    output(f"\n{'benign class':24} {'sessions':>8} {'alerts':>8} {'per 1,000':>10}")
    for name, benign in [*sorted(found.benign.items()), ("all", found.total)]:
        output(f"{name:24} {benign.sessions:8} {benign.alerts:8} {benign.per_thousand:10.2f}")
    say(f"{found.events:,} events")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
