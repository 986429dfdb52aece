"""`sessionwatch alerts`: delivers incidents; tests, lists and repeats deliveries."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  typer reads annotations at run time
from typing import Annotated

import typer

from worker.cli.common import Json, configure_logs, output, print_json, say, settings_of, stops_with_success

app = typer.Typer(help="Deliver incidents; without a command: run until stopped.", invoke_without_command=True)


@app.callback()
def alerts(context: typer.Context) -> None:
    """Deliver incidents; without a command: run until stopped."""
    if context.invoked_subcommand is not None:
        return
    with stops_with_success():
        from worker.apps import alerts as program  # noqa: PLC0415  `--help` needs none of it

        settings = settings_of(context)
        configure_logs(context, settings)
        raise typer.Exit(program.serve(settings))


@app.command()
def test(
    context: typer.Context, *, destination: Annotated[str, typer.Argument(help="Name of the destination.")]
) -> None:
    """Send a sample incident to a destination; fails with the reason when it is not accepted."""
    from worker.apps import alerts as program  # noqa: PLC0415  as above

    say(program.send_test(settings_of(context), destination))


@app.command()
def route(
    context: typer.Context,
    *,
    file: Annotated[Path | None, typer.Argument(help="Incident (JSON); stdin unless given.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy of its tenant (JSON); the default unless given.")] = None,
    as_json: Json = False,
) -> None:
    """Show where an incident would go, and why it would not; nothing is sent."""
    from worker.apps import alerts as program  # noqa: PLC0415  as above

    document = file.read_bytes() if file else sys.stdin.buffer.read()
    try:
        incident, routes = program.routes_of(settings_of(context), document, policy.read_bytes() if policy else None)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        print_json({"incident": incident.uid, "routes": [each._asdict() for each in routes]})
        return
    for each in routes:
        output(f"{each.destination:24} {each.kind:16} {each.decision}")
    say(f"{len(routes)} destinations" if routes else "no destination is set: alerts.destinations, see docs/alerting.md")


@app.command("list")
def list_(
    context: typer.Context,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed for good.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many, the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """List deliveries that wait or failed; `deliveries` in ClickHouse has every attempt."""
    from worker.apps import alerts as program  # noqa: PLC0415  as above

    found = program.deliveries(settings_of(context), failed=failed)
    if as_json:
        print_json({"deliveries": [program.delivery_json(each) for each in found[:limit]]})
        return
    for each in found[:limit]:
        output(f"{each.key:72} {each.standing:8} {each.attempts:2} attempts  {each.error or each.reason}")
    say(f"{len(found):,} deliveries" if found else "no deliveries wait or failed")


@app.command()
def replay(
    context: typer.Context,
    *,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[DELIVERY]...", help="Keys, as `list` shows them.")
    ] = None,
    destination: Annotated[str, typer.Option(help="Failed deliveries of this destination.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All failed deliveries.")] = False,
) -> None:
    """Repeat failed deliveries, with the same ids."""
    from worker.apps import alerts as program  # noqa: PLC0415  as above

    if not (keys or destination or everything):
        raise typer.BadParameter("name deliveries, --destination, or --all")
    count = program.replay(settings_of(context), keys or (), destination)
    say(f"{count:,} deliveries will be repeated")
