"""`sessionwatch migrate`: ClickHouse migrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.apps.errors import CheckFailedError
from worker.cli.common import Json, output, print_json, say, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.apps.migrate import MigrationStep

app = typer.Typer(help="Apply and inspect ClickHouse migrations.", no_args_is_help=True)
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the statements instead of running them.")]


@app.command()
def up(context: typer.Context, *, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Apply the pending migrations, and set how long tables keep rows, as `retention.…` says.

    Creates the database first if the server lacks it; on a cluster the database must exist.
    """
    from worker.apps import migrate as program  # noqa: PLC0415  `--help` needs none of it

    done, changed = program.up(settings_of(context), dry_run=dry_run)
    _report(done, "apply", "applied", dry_run=dry_run, as_json=as_json)
    for statement in changed:
        say(f"{'would run' if dry_run else 'ran'} {statement}")


@app.command()
def down(context: typer.Context, *, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Revert the newest migration; its data is deleted."""
    from worker.apps import migrate as program  # noqa: PLC0415  `--help` needs none of it

    done = program.down(settings_of(context), dry_run=dry_run)
    _report(done, "revert", "reverted", dry_run=dry_run, as_json=as_json)


@app.command()
def status(context: typer.Context, *, as_json: Json = False) -> None:
    """Show which migrations are applied; fails when one is pending or was changed after it was applied."""
    from worker.apps import migrate as program  # noqa: PLC0415  `--help` needs none of it

    found = program.status(settings_of(context))
    if as_json:
        shown = [{"version": each.version, "name": each.short_name, "state": each.state} for each in found]
        print_json({"migrations": shown})
    else:
        for each in found:
            output(f"{each.name:40} {each.state}")
    behind = [each.name for each in found if not each.current]
    if behind:
        raise CheckFailedError(f"not current: {', '.join(behind)}; `sessionwatch migrate up` applies what is missing")


def _report(done: Sequence[MigrationStep], would: str, did: str, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({"dry_run": dry_run, "migrations": [each.name for each in done]})
        return
    if not done:
        say("nothing to do")
    for each in done:
        say(f"{f'would {would}' if dry_run else did} {each.name}")
        for statement in each.statements if dry_run else ():
            output(f"{statement};\n")
