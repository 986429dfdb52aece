"""What the commands share: where settings come from, and how results are shown."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from schemas.text import printable_json, printable_lines
from worker.apps.errors import INTERRUPTED, CheckFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from worker.observe.snapshot import Summary
    from worker.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@dataclass(slots=True)
class GlobalOptions:
    """What was given before the command's name."""

    config: Path | None = None
    debug: bool = False


def settings_of(context: typer.Context) -> Settings:
    """Return the settings in force.

    Raises:
        SettingsError: they cannot be used.
    """
    from worker.settings import load  # noqa: PLC0415  pydantic-settings costs 0.3 s, `--help` needs none of it

    state: GlobalOptions = context.find_root().obj
    if not state.debug:
        # What libraries log before logging is configured; what matters of it comes as an exception.
        logging.getLogger().addHandler(logging.NullHandler())
    return load(state.config)


def configure_logs(
    context: typer.Context, settings: Settings, stream: TextIO | None = None, *, quiet: bool = False
) -> None:
    """Start logging (to stderr, or a stream) as the settings say; `--debug` lowers the level.

    A quiet command does not tell how its parts are getting on.
    """
    from worker.observe.logs import configure  # noqa: PLC0415  as above

    state: GlobalOptions = context.find_root().obj
    level = "warning" if quiet and settings.log.level == "info" else settings.log.level
    configure("debug" if state.debug else level, settings.log.format, stream)


def say(line: str) -> None:
    """Print a line on stderr, with what could steer a terminal replaced."""
    typer.echo(printable_lines(line), err=True)


def output(text: str) -> None:
    """Print lines on stdout, with what could steer a terminal replaced: records hold what their senders wrote."""
    typer.echo(printable_lines(text))


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    import orjson  # noqa: PLC0415  as above

    typer.echo(printable_json(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()))


def finish(summary: Summary, *, as_json: bool) -> None:
    """Show what a run did; end with 130 when the user ended it, and with 1 when no record could be read.

    Raises:
        typer.Exit: it was interrupted.
        CheckFailedError: every record that says something was rejected.
    """
    if as_json:
        print_json(summary.as_json())
    else:
        typer.echo(summary.as_line())
    if summary.interrupted:
        raise typer.Exit(INTERRUPTED)
    if summary.rejected and not summary.accepted:
        why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(summary.reasons.items()))
        raise CheckFailedError(f"no record could be read: {why}; `sessionwatch map check FILE` shows what is missing")


def show_progress(text: str) -> None:
    """Show how far things are on stderr, in place of what was shown last; only on a terminal. `""` clears it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
