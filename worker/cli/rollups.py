"""`sessionwatch rollups`: compare the rollups with the stored events, and fill them."""

from __future__ import annotations

import typer

from worker.apps.errors import CheckFailedError
from worker.cli.common import Json, output, print_json, say, settings_of

app = typer.Typer(help="Check and fill the rollups.", no_args_is_help=True)


@app.command()
def check(context: typer.Context, *, as_json: Json = False) -> None:
    """Compare the rollups with all stored events; fails when one differs."""
    from worker.apps import rollups as program  # noqa: PLC0415  `--help` needs none of it

    found = program.differences(settings_of(context))
    if as_json:
        print_json({"differing": found})
    else:
        for name, count in found.items():
            output(f"{name:20} {count:,} rows differ")
    wrong = [name for name, count in found.items() if count]
    if wrong:
        raise CheckFailedError(
            f"rollups differ from the stored events: {', '.join(wrong)}; `sessionwatch rollups fill` adds missing rows"
        )


@app.command()
def fill(context: typer.Context) -> None:
    """Add events to the rollups that were stored before the rollups existed; running it again changes nothing."""
    from worker.apps import rollups as program  # noqa: PLC0415  `--help` needs none of it

    for name in program.fill(settings_of(context)):
        say(f"filled {name}")
