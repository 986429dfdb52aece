"""All commands as one program, and how it ends."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path  # noqa: TC003  typer reads annotations at run time
from typing import Annotated

import typer

from worker.apps.errors import USAGE, error_line, exit_status
from worker.cli import (
    alerts,
    backfill,
    demo,
    detections,
    dlq,
    doctor,
    evaluate,
    feedback,
    forget,
    incidents,
    migrate,
    policy,
    pseudonym,
    query,
    replay,
    rollups,
    simulate,
    topics,
    worker,
)
from worker.cli import map as mapping
from worker.cli.common import GlobalOptions, say

app = typer.Typer(
    name="sessionwatch",
    help="Real-time security analytics for authentication sessions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would more than double the time `--help` takes
)
for _command in (
    demo.demo,
    replay.replay,
    query.query,
    worker.worker,
    simulate.simulate,
    evaluate.evaluate,
    backfill.backfill,
    feedback.feedback,
    forget.forget,
    pseudonym.pseudonym,
    doctor.doctor,
):
    app.command()(_command)
app.add_typer(incidents.app, name="incidents")
app.add_typer(migrate.app, name="migrate")
app.add_typer(rollups.app, name="rollups")
app.add_typer(topics.app, name="topics")
app.add_typer(detections.app, name="detections")
app.add_typer(policy.app, name="policy")
app.add_typer(dlq.app, name="dlq")
app.add_typer(alerts.app, name="alerts")
app.add_typer(mapping.app, name="map")
# The base class of typer's errors about the command line; typer exports only its subclasses.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def _print_version(wanted: bool) -> None:  # noqa: FBT001  typer calls it so
    if wanted:
        typer.echo(f"sessionwatch {version('sessionwatch')}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    *,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.", exists=True, dir_okay=False)] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Log everything; show tracebacks.")] = False,
    version: Annotated[  # noqa: ARG001  its callback does the work
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    context.obj.config = config
    context.obj.debug = debug


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code; expected errors become one line on stderr."""
    state = GlobalOptions()
    try:
        code = app(args=arguments, prog_name="sessionwatch", standalone_mode=False, obj=state)
    except _UsageError as error:
        error.show()  # type: ignore[attr-defined]  # see above
        return USAGE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  unexpected errors are shown with a traceback
        status = exit_status(error)
        if state.debug or not status.expected:
            sys.excepthook(type(error), error, error.__traceback__)
        say(f"error: {error_line(error)}")
        return status.code
    return code if isinstance(code, int) else 0
