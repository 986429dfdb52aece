"""`sessionwatch incidents`: findings of a user that belong together."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.common import Json, output, print_json, say, settings_of

app = typer.Typer(help="Incidents: findings of a user that belong together.", no_args_is_help=True)
DataDir = Annotated[Path | None, typer.Option(help="Where `demo` or `replay` kept the store.")]


class Least(enum.StrEnum):
    """The lowest severity to show."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@app.command("list")
def list_(
    context: typer.Context,
    *,
    tenant: Annotated[str, typer.Option(help="Only of this tenant.")] = "",
    user: Annotated[str, typer.Option(help="Only of this user.")] = "",
    severity: Annotated[Least, typer.Option(help="Only of this severity and above.")] = Least.LOW,
    everything: Annotated[bool, typer.Option("--all", help="Include resolved incidents.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Show at most this many, the newest.")] = 50,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List incidents, one per line, the newest first."""
    from worker.apps.incident_text import as_line  # noqa: PLC0415  `--help` needs none of it
    from worker.apps.incidents import list_incidents  # noqa: PLC0415

    found = list_incidents(
        settings_of(context), data_dir, tenant=tenant, user=user, severity=severity.value, resolved=everything,
        limit=limit,
    )  # fmt: skip
    if as_json:
        print_json({"incidents": [incident.ocsf() for incident in found]})
        return
    for incident in found:
        output(as_line(incident))
    say(f"{len(found):,} incident{'' if len(found) == 1 else 's'}" if found else "no incidents")


@app.command()
def show(
    context: typer.Context,
    *,
    incident: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show one incident in full: user, timeline, findings, what was suppressed, and what to do."""
    from worker.apps.incident_text import as_text  # noqa: PLC0415  `--help` needs none of it
    from worker.apps.incidents import find_incident  # noqa: PLC0415

    found = find_incident(settings_of(context), data_dir, incident)
    if as_json:
        print_json(found.ocsf())
    else:
        output(as_text(found))
