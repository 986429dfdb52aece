"""`sessionwatch worker`: the production worker."""

from __future__ import annotations

import typer

from worker.cli.common import configure_logs, settings_of


def worker(context: typer.Context) -> None:
    """Consume, judge and store until told to stop."""
    from worker.apps import worker as program  # noqa: PLC0415  `--help` needs none of it

    settings = settings_of(context)
    configure_logs(context, settings)
    raise typer.Exit(program.serve(settings))
