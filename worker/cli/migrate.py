"""`sessionwatch migrate`: ClickHouse migrations."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.common import Json, output, print_json, say, settings_of
from worker.cli.errors import CheckFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickhouse_connect.driver.client import Client

    from worker.clickhouse.migrations import Migration, MigrationState
    from worker.settings import Settings

app = typer.Typer(help="Apply and inspect ClickHouse migrations.", no_args_is_help=True)
DEDUPLICATED = "skipped: about users, for a ClickHouse server with clickhouse.manage_access"
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the statements instead of running them.")]


@app.command()
def up(context: typer.Context, *, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Apply what is not applied yet, and have the tables keep rows as `retention.…` says.

    Creates the database first, where the server lacks it; on a cluster it has to be there.
    """
    from worker.clickhouse import migrations  # noqa: PLC0415  `--help` needs none of it
    from worker.clickhouse.writer import create_database  # noqa: PLC0415  the same

    settings = settings_of(context)
    layout = migrations.layout_of(settings)
    if not dry_run and not layout.cluster:
        create_database(settings.store_dsn(), **settings.store_options())
    with _store(settings) as (ready, client):
        done = migrations.up(client, dry_run=dry_run, layout=layout, access=ready.manages_access())
        changed = migrations.retain(client, layout, dry_run=dry_run)
    _report([(each, each.up) for each in done], "apply", "applied", dry_run=dry_run, as_json=as_json)
    for statement in changed:
        say(f"{'would run' if dry_run else 'ran'} {statement}")


@app.command()
def down(context: typer.Context, *, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Take the newest migration back; its data is gone."""
    from worker.clickhouse import migrations  # noqa: PLC0415  `--help` needs none of it

    settings = settings_of(context)
    with _store(settings) as (ready, client):
        done = migrations.down(client, dry_run=dry_run, layout=migrations.layout_of(ready))
    undone = [] if done is None else [(done, done.down)]
    _report(undone, "take back", "took back", dry_run=dry_run, as_json=as_json)


@app.command()
def status(context: typer.Context, *, as_json: Json = False) -> None:
    """Show which migrations are applied; fails when one is not, or was changed since."""
    from worker.clickhouse import migrations  # noqa: PLC0415  `--help` needs none of it

    settings = settings_of(context)
    with _store(settings) as (ready, client):
        states = migrations.status(client, access=ready.manages_access())
    if as_json:
        print_json({"migrations": [_shown(each) for each in states]})
    else:
        for each in states:
            output(f"{_name(each.migration):40} {_state(each)}")
    behind = [_name(each.migration) for each in states if each.problem or each.pending]
    if behind:
        raise CheckFailedError(f"not current: {', '.join(behind)}; `sessionwatch migrate up` applies what is missing")


@contextmanager
def _store(settings: Settings) -> Iterator[tuple[Settings, Client]]:
    from worker.apps.embedded import served  # noqa: PLC0415  `--help` needs none of it
    from worker.clickhouse.writer import connect  # noqa: PLC0415

    with served(settings) as ready, closing(connect(ready.store_dsn(), **ready.store_options())) as client:
        yield ready, client


def _name(migration: Migration) -> str:
    return f"{migration.version:04d}_{migration.name}"


def _state(state: MigrationState) -> str:
    if state.problem or state.applied:
        return state.problem or "applied"
    return "pending" if state.pending else DEDUPLICATED


def _shown(state: MigrationState) -> dict[str, Any]:
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
            output(f"{statement};\n")
