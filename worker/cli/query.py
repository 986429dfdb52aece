"""`sessionwatch query`: SQL against the store."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  typer reads annotations at run time
from typing import Annotated

import typer

from worker.cli.common import settings_of


def query(
    context: typer.Context,
    *,
    sql: Annotated[str, typer.Argument(help="The statement; `-` reads it from stdin.")],
    data_dir: Annotated[Path | None, typer.Option(help="Where `demo` or `replay` kept the store.")] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="ClickHouse output format, e.g. JSONEachRow, CSV, Vertical.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Allow the statement to change data.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Do not escape formulas in CSV, and control characters on a terminal.")
    ] = False,
) -> None:
    """Run SQL against the store; read-only unless --write is given."""
    from worker.apps import query as program  # noqa: PLC0415  `--help` needs none of it

    chosen = form or ("PrettyCompact" if sys.stdout.isatty() else "TabSeparatedWithNames")
    text = sys.stdin.read() if sql == "-" else sql
    answer = program.run(settings_of(context), data_dir, text, chosen, write=write)
    sys.stdout.buffer.write(answer.body if raw else program.without_commands(answer, terminal=sys.stdout.isatty()))
