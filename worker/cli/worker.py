"""`sessionwatch worker`: the production worker."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli.common import configure_logs, settings_of, stops_with_success


def worker(
    context: typer.Context,
    *,
    embedded: Annotated[
        bool,
        typer.Option("--embedded", help="Keep rows in an embedded store below data_dir; clickhouse.dsn must be unset."),
    ] = False,
) -> None:
    """Run the production worker until it is stopped."""
    with stops_with_success():
        from worker.apps import worker as program  # noqa: PLC0415  `--help` needs none of it

        settings = settings_of(context)
        if embedded:
            settings = settings.with_embedded_store("worker")
        configure_logs(context, settings)
        raise typer.Exit(program.serve(settings))
