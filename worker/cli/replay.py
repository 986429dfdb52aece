"""`sessionwatch replay`: runs a file of JSON lines through the whole pipeline, with embedded broker and store."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  typer reads annotations at run time
from typing import Annotated

import typer

from worker.cli.common import Json, configure_logs, finish, settings_of, show_progress


def replay(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(help="JSON lines of any accepted shape; `-` is stdin.", allow_dash=True)],
    data_dir: Annotated[
        Path | None, typer.Option(help="Directory of the store; default: `replay` below data_dir.")
    ] = None,
    findings: Annotated[Path | None, typer.Option(help="Write findings to this file, as JSON lines.")] = None,
    dead_letters: Annotated[
        Path | None, typer.Option(help="Write rejected lines to this file, as JSON lines, each with its reason.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="JSON policy with its tenant_id, or a list of them.")] = None,
    as_json: Json = False,
) -> None:
    """Run a file of events through the whole pipeline."""
    from worker.apps import replay as program  # noqa: PLC0415  `--help` needs none of it

    settings = settings_of(context)
    settings = settings.model_copy(update={"data_dir": data_dir or settings.data_dir / "replay"})
    configure_logs(context, settings, quiet=True)
    try:
        summary = program.replay(
            settings, file, findings=findings, dead_letters=dead_letters, policies=policy, on_progress=show_progress
        )
    finally:
        show_progress("")
    finish(summary, as_json=as_json)
