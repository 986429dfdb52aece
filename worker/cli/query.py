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
) -> None:
    """Run SQL against the store."""
    from worker.clickhouse.query import run_query  # noqa: PLC0415  `--help` needs none of it

    settings = settings_of(context)
    if data_dir is not None:
        clickhouse = settings.clickhouse.model_copy(update={"dsn": None})
        settings = settings.model_copy(update={"data_dir": data_dir, "clickhouse": clickhouse})
    chosen = form or ("PrettyCompact" if sys.stdout.isatty() else "TabSeparatedWithNames")
    text = sys.stdin.read() if sql == "-" else sql
    sys.stdout.buffer.write(run_query(settings.store_dsn(), text, chosen, settings.store_options()))
