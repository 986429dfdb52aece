"""`sessionwatch backfill`: evaluates stored events with the current detections."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003  typer reads annotations at run time
from typing import Annotated

import typer

from worker.cli.common import Json, print_json, say, settings_of

DAY_MS = 86_400_000
FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]


def backfill(
    context: typer.Context,
    *,
    since: Annotated[datetime, typer.Option("--from", formats=FORMATS, help="Start of the range, UTC.")],
    until: Annotated[datetime, typer.Option("--to", formats=FORMATS, help="End of the range, UTC, exclusive.")],
    detection: Annotated[
        list[str] | None, typer.Option(help="Only this detection, even if policies disable it; may be repeated.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Only this tenant.")] = "",
    history_days: Annotated[
        float, typer.Option(min=0, help="Days of events before the range that build the state.")
    ] = 30,
    late: Annotated[
        bool, typer.Option("--late", help="Also evaluate events that arrived too late for the worker.")
    ] = False,
    policy: Annotated[
        Path | None,
        typer.Option(help="JSON policy with its tenant_id, or a list of them; default: the published ones."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Store nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Evaluate stored events with the current detections, and store the new findings."""
    from worker.apps import backfill as program  # noqa: PLC0415  `--help` needs none of it
    from worker.apps.stored_events import BackfillRange  # noqa: PLC0415

    if since >= until:
        raise typer.BadParameter("--from must be before --to")
    asked = BackfillRange(
        _milliseconds(since), _milliseconds(until), int(history_days * DAY_MS), tenant, tuple(detection or ()), late
    )
    done = program.backfill(settings_of(context), asked, policies=policy, dry_run=dry_run)
    if as_json:
        print_json(done._asdict())
        return
    say(f"{done.events:,} events, history included")
    say(f"{done.new:,} findings {'would be' if dry_run else 'are'} new, {done.known:,} were known")
    say(f"{done.closed:,} of an earlier backfill {'would be' if dry_run else 'are'} closed")


def _milliseconds(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp() * 1000)
