"""`sessionwatch pseudonym`: what a user or an address is called in ClickHouse, findings and state."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli.common import Json, output, print_json, settings_of
from worker.cli.errors import UsageError


def pseudonym(
    context: typer.Context,
    *,
    tenant: Annotated[str, typer.Option("--tenant", help="Tenant id, with --user.")] = "",
    user: Annotated[str, typer.Option("--user", help="User id.")] = "",
    ip: Annotated[str, typer.Option("--ip", help="Address.")] = "",
    as_json: Json = False,
) -> None:
    """Tell the pseudonym of a user (--tenant, --user) or an address (--ip), by `privacy.key`."""
    from worker.enrich.networks import network_of  # noqa: PLC0415  `--help` needs none of it

    if not (user and tenant) and not ip:
        raise typer.BadParameter("name --tenant and --user, or --ip")
    pseudonyms = settings_of(context).privacy.pseudonyms()
    if pseudonyms is None:
        raise UsageError("there are no pseudonyms: privacy.users and privacy.addresses are off")
    found = {}
    if user:
        found["user"] = pseudonyms.user(tenant, user)
    if ip:
        try:
            address, prefix = network_of(ip)
        except ValueError as error:
            raise UsageError(f"--ip {error}") from None
        found |= {"ip": pseudonyms.address(address), "prefix": pseudonyms.prefix(prefix)}
    if as_json:
        print_json(found)
        return
    output("\n".join(found.values()))
