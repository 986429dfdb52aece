"""`sessionwatch migrate`: ClickHouse migrations."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.common import Json, print_json, say, settings_of
from worker.cli.errors import CheckFailedError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from clickhouse_connect.driver.client import Client

    from worker.sinks.migrations import Migration, State

app = typer.Typer(help="Apply and inspect ClickHouse migrations.", no_args_is_help=True)
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the statements instead of running them.")]


@app.command()
def up(context: typer.Context, *, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Apply what is not applied yet, and how long rows are to be kept."""
    from worker.sinks import migrations  # noqa: PLC0415  `--help` needs none of it

    layout = migrations.layout_of(settings_of(context))
    with _store(context) as client:
        done = migrations.up(client, dry_run=dry_run, layout=layout)
        kept = migrations.retain(client, layout, dry_run=dry_run)
    _report([(each, each.up) for each in done], "apply", "applied", dry_run=dry_run, as_json=as_json)
    for statement in kept:
        say(f"{'would change' if dry_run else 'changed'} how long rows are kept: {statement}")


@app.command()
def down(context: typer.Context, *, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Take the newest migration back; its data is gone."""
    from worker.sinks import migrations  # noqa: PLC0415  `--help` needs none of it

    with _store(context) as client:
        done = migrations.down(client, dry_run=dry_run, layout=migrations.layout_of(settings_of(context)))
    undone = [] if done is None else [(done, done.down)]
    _report(undone, "take back", "took back", dry_run=dry_run, as_json=as_json)


@app.command()
def status(context: typer.Context, *, as_json: Json = False) -> None:
    """Show which migrations are applied; fails when one is not, or was changed since."""
    from worker.sinks import migrations  # noqa: PLC0415  `--help` needs none of it

    with _store(context) as client:
        states = migrations.status(client)
    if as_json:
        print_json({"migrations": [_shown(each) for each in states]})
    else:
        for each in states:
            typer.echo(f"{_name(each.migration):40} {_state(each)}")
    behind = [_name(each.migration) for each in states if each.problem or not each.applied]
    if behind:
        raise CheckFailedError(f"not current: {', '.join(behind)}; `sessionwatch migrate up` applies what is missing")


def _store(context: typer.Context) -> AbstractContextManager[Client]:
    from worker.sinks.clickhouse import connect  # noqa: PLC0415  `--help` needs none of it

    settings = settings_of(context)
    return closing(connect(settings.store_dsn(), **settings.store_options()))


def _name(migration: Migration) -> str:
    return f"{migration.version:04d}_{migration.name}"


def _state(state: State) -> str:
    return state.problem or ("applied" if state.applied else "pending")


def _shown(state: State) -> dict[str, Any]:
    return {"version": state.migration.version, "name": state.migration.name, "state": _state(state)}


def _report(done: list[tuple[Migration, Any]], would: str, did: str, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({"dry_run": dry_run, "migrations": [_name(migration) for migration, _ in done]})
        return
    if not done:
        say("nothing to do")
    for migration, statements in done:
        say(f"{f'would {would}' if dry_run else did} {_name(migration)}")
        for statement in statements if dry_run else ():
            typer.echo(f"{statement};\n")
