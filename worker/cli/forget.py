"""`sessionwatch forget`: erase a user from the state and the store."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli.common import Json, print_json, say, settings_of


def forget(
    context: typer.Context,
    *,
    tenant: Annotated[str, typer.Option("--tenant", help="Tenant id.")],
    user: Annotated[str, typer.Option("--user", help="User id, or the user's pseudonym.")],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the workers.")] = 30,
    as_json: Json = False,
) -> None:
    """Erase a user from the workers' state and from ClickHouse; print what stays, and for how long."""
    from worker.apps import forget as program  # noqa: PLC0415  `--help` needs none of it

    done = program.forget(settings_of(context), tenant, user, wait)
    if as_json:
        print_json({"state": "erased" if done.state_erased else "asked for", "rows": done.rows, "stays": done.stays})
        return
    say("state: erased" if done.state_erased else "state: requested; a worker erases it when it reads the request")
    say("rows: " + ", ".join(f"{count:,} of {table}" for table, count in done.rows.items()))
    for what, how_long in done.stays.items():
        say(f"stays: {what}: {how_long}")
