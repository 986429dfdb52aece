"""`sessionwatch topics`: create and check the topics."""

from __future__ import annotations

import typer

from worker.apps.errors import CheckFailedError
from worker.cli.common import Json, output, print_json, say, settings_of

app = typer.Typer(help="Create and check the topics.", no_args_is_help=True)


@app.command()
def create(context: typer.Context, *, as_json: Json = False) -> None:
    """Create the topics that do not exist."""
    from worker.apps import topics as program  # noqa: PLC0415  `--help` needs none of it

    created = program.create(settings_of(context))
    if as_json:
        print_json({"created": created})
    else:
        say("\n".join(f"created {name}" for name in created) or "nothing to do")


@app.command()
def check(context: typer.Context, *, as_json: Json = False) -> None:
    """Compare the topics with their required configuration; fails when one differs."""
    from worker.apps import topics as program  # noqa: PLC0415  `--help` needs none of it

    problems = program.check(settings_of(context))
    if as_json:
        print_json({"ok": not problems, "problems": [each._asdict() for each in problems]})
    else:
        for each in problems:
            output(f"{each.topic} {each.what}\n  -> {each.advice}")
    if problems:
        raise CheckFailedError(f"{len(problems)} problems with {len({each.topic for each in problems})} topics")
