"""`sessionwatch pseudonym`: the pseudonym of a user or an address in ClickHouse, findings and state."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli.common import Json, output, print_json, settings_of


def pseudonym(
    context: typer.Context,
    *,
    tenant: Annotated[str, typer.Option("--tenant", help="Tenant id, with --user.")] = "",
    user: Annotated[str, typer.Option("--user", help="User id.")] = "",
    ip: Annotated[str, typer.Option("--ip", help="Address.")] = "",
    as_json: Json = False,
) -> None:
    """Print the pseudonym of a user (--tenant, --user) or an address (--ip), by `privacy.key`."""
    from worker.apps import pseudonym as program  # noqa: PLC0415  `--help` needs none of it

    if not (user and tenant) and not ip:
        raise typer.BadParameter("name --tenant and --user, or --ip")
    found = program.pseudonyms_of(settings_of(context), tenant, user, ip)
    if as_json:
        print_json(found)
        return
    output("\n".join(found.values()))
