"""Shared by all commands: settings, logging and output."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from schemas.text import printable_json, printable_lines
from worker.apps.errors import INTERRUPTED, OK, CheckFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from worker.observe.snapshot import Summary
    from worker.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@dataclass(slots=True)
class GlobalOptions:
    """The options before the name of the command."""

    config: Path | None = None
    debug: bool = False


def settings_of(context: typer.Context) -> Settings:
    """Return the settings in force.

    Raises:
        SettingsError: they are invalid.
    """
    from worker.settings import load  # noqa: PLC0415  pydantic-settings costs 0.3 s, `--help` needs none of it

    state: GlobalOptions = context.find_root().obj
    if not state.debug:
        # Drops what libraries log before logging is configured; errors are raised as exceptions, too.
        logging.getLogger().addHandler(logging.NullHandler())
    return load(state.config)


def configure_logs(
    context: typer.Context, settings: Settings, stream: TextIO | None = None, *, quiet: bool = False
) -> None:
    """Configure logging (to stderr, or a stream) by the settings; `--debug` lowers the level.

    A quiet command logs warnings and errors only, unless the settings ask for more than `info`.
    """
    from worker.observe.logs import configure  # noqa: PLC0415  as above

    state: GlobalOptions = context.find_root().obj
    level = "warning" if quiet and settings.log.level == "info" else settings.log.level
    configure("debug" if state.debug else level, settings.log.format, stream)


@contextmanager
def stops_with_success() -> Iterator[None]:
    """Give a program that serves until it is told to stop the exit code 0 also when that happens while it starts."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(OK) from None


def say(line: str) -> None:
    """Print a line on stderr, with control characters replaced."""
    typer.echo(printable_lines(line), err=True)


def output(text: str) -> None:
    """Print lines on stdout, with control characters replaced: values of records come from their senders."""
    typer.echo(printable_lines(text))


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    import orjson  # noqa: PLC0415  as above

    typer.echo(printable_json(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()))


def finish(summary: Summary, *, as_json: bool) -> None:
    """Print the summary of a run; exit with 130 when it was interrupted, and with 1 when every record was rejected.

    Raises:
        typer.Exit: it was interrupted.
        CheckFailedError: every record was rejected, apart from ignored ones.
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
    """Replace the line of progress on stderr, if that is a terminal; `""` clears it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
