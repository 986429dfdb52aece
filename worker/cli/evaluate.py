"""`sessionwatch evaluate`: measures the detections on labelled simulated traffic, and on ordinary lives."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from worker.apps.errors import CheckFailedError
from worker.cli.common import Json, output, print_json, say, settings_of

if TYPE_CHECKING:
    from worker.apps.evaluate import Report
    from worker.apps.lives import PolicyReport
    from worker.apps.scoring import Evaluation


def evaluate(
    context: typer.Context,
    *,
    seed: Annotated[int, typer.Option(help="The same seed gives the same traffic and the same figures.")] = 1,
    users: Annotated[int, typer.Option(min=0, help="Users of the simulated traffic; 0: skip it.")] = 8_000,
    attacks: Annotated[int, typer.Option(min=1, help="Attacks of each kind.")] = 52,
    people: Annotated[int, typer.Option(min=0, help="People of the ordinary lives; 0: skip them.")] = 300,
    days: Annotated[int, typer.Option(min=28, max=365, help="Days of the ordinary lives.")] = 56,
    thefts: Annotated[int, typer.Option(min=0, help="Stolen sessions of each kind in the ordinary lives.")] = 6,
    save: Annotated[
        Path | None, typer.Option(help="Write the false alerts of every detection to this file, as JSON.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Fail when a target is missed.")] = False,
    as_json: Json = False,
) -> None:
    """Measure recall, precision and false alerts on labelled simulated traffic and on ordinary lives."""
    from worker.apps import evaluate as program  # noqa: PLC0415  `--help` needs none of it

    size = program.EvaluationSize(seed, users, attacks, people, days, thefts)
    found = program.evaluate(settings_of(context), size)
    if save is not None:
        found.save(save)
    if as_json:
        print_json(found.as_json())
    else:
        _show(found)
    short = found.below_the_bar()
    if check and short:
        raise CheckFailedError(f"targets missed: {'; '.join(short)}")


def _show(found: Report) -> None:
    if found.definitions is not None:
        _show_definitions(found.definitions)
    for policy, report in found.lives.items():
        _show_policy(policy, report)
    if found.lives:
        _show_details(found.lives["default"])


def _show_definitions(found: Evaluation) -> None:
    output(f"{'detection':24} {'attacks':>8} {'recall':>8} {'precision':>10} {'by definition':>14} {'wrong':>6}")
    for uid, tally in sorted(found.detections.items()):
        recall, precision = _share(tally.recall), _share(tally.precision)
        output(f"{uid:24} {tally.attacks:8} {recall:>8} {precision:>10} {tally.by_definition:14} {tally.wrong:6}")
    output(f"\n{'benign class':24} {'sessions':>8} {'alerts':>8} {'per 1,000':>10}")
    for name, benign in [*sorted(found.benign.items()), ("all", found.total)]:
        output(f"{name:24} {benign.sessions:8} {benign.alerts:8} {benign.per_thousand:10.2f}")
    output(f"\nincidents per attack     {_mean(found.incidents):>8}")
    say(f"{found.events:,} events")


def _show_policy(policy: str, report: PolicyReport) -> None:
    output(f"\nordinary lives, policy {policy}: {report.sessions:,} sessions, {report.user_days:,} user-days")
    output(f"  false alerts             {report.alerts:8}")
    output(f"  per 1,000 sessions       {report.per_thousand_sessions:8.2f}")
    output(f"  per 1,000 user-days      {report.per_thousand_user_days:8.2f}")
    output(f"  user-days with an alert  {report.alerted_days / max(report.user_days, 1):8.2%}")
    output(f"  users over one a week    {report.noisy / max(report.users, 1):8.2%}")
    output(f"  recall of thefts         {_share(report.recall):>8}")
    output(f"  incidents per theft      {_mean(report.incidents):>8}")


def _show_details(report: PolicyReport) -> None:
    output(f"\n{'theft, default policy':34} {'thefts':>7} {'found':>7}")
    for kind, recall in report.thefts.items():
        output(f"{kind:34} {recall.thefts:7} {recall.found:7}")
    output(f"\n{'false alerts, default policy':34} {'alerts':>7} {'share':>7}")
    for uid, count in sorted(report.detections.items(), key=lambda each: -each[1]):
        output(f"{uid:34} {count:7} {count / report.alerts:7.1%}")
    output(f"\n{'whose, default policy':34} {'people':>7} {'alerted':>7} {'alerts':>7}")
    for name, exposure in sorted(report.exposure.items()):
        output(f"{name:34} {exposure.people:7} {exposure.alerted:7} {exposure.alerts:7}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _mean(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
