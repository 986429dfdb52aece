"""`sessionwatch policy`: tenant policies on their compacted topic; every worker reads them while it runs."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  typer reads annotations at run time
from typing import Annotated

import typer

from worker.apps.errors import CheckFailedError
from worker.cli.common import Json, output, print_json, say, settings_of

app = typer.Typer(help="Tenant policies.", no_args_is_help=True)
Tenant = Annotated[str, typer.Option("--tenant", help="Tenant id.")]


@app.command()
def get(context: typer.Context, *, tenant: Tenant) -> None:
    """Print a tenant's policy as JSON; fails when the tenant has none of its own."""
    from worker.apps import policy as program  # noqa: PLC0415  `--help` needs none of it

    found = program.published(settings_of(context))
    if tenant not in found:
        raise CheckFailedError(f"tenant {tenant!r} has no policy of its own; the default applies")
    output(found[tenant].decode(errors="replace"))


@app.command("set")
def set_(
    context: typer.Context,
    *,
    file: Annotated[
        Path,
        typer.Argument(help="JSON policy, or a list with a tenant_id in each; `-` is stdin.", allow_dash=True),
    ],
    tenant: Annotated[str, typer.Option("--tenant", help="Tenant id of a policy that names none.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Accept countries that do not exist.")] = False,
) -> None:
    """Publish policies. Fails and names the field when one of them is invalid; then none is published."""
    from worker.apps import policy as program  # noqa: PLC0415  `--help` needs none of it

    document = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    for name in program.publish(settings_of(context), document, tenant, force=force):
        say(f"the policy of tenant {name} is set")


@app.command()
def unset(context: typer.Context, *, tenant: Tenant) -> None:
    """Delete a tenant's policy; the default applies again."""
    from worker.apps import policy as program  # noqa: PLC0415  `--help` needs none of it

    program.unset(settings_of(context), tenant)
    say(f"the policy of tenant {tenant} is deleted")


@app.command("list")
def list_(context: typer.Context, *, as_json: Json = False) -> None:
    """List the tenants that have a policy of their own, and why workers refuse invalid ones."""
    import orjson  # noqa: PLC0415  `--help` needs none of it

    from worker.apps import policy as program  # noqa: PLC0415

    found = program.published(settings_of(context))
    refused = {tenant: why for tenant, document in found.items() if (why := program.refusal(document))}
    if as_json:
        usable = {tenant: orjson.loads(document) for tenant, document in found.items() if tenant not in refused}
        print_json({"policies": usable, **({"refused": refused} if refused else {})})
        return
    for tenant, document in found.items():
        why = f"  refused: {refused[tenant]}" if tenant in refused else ""
        output(f"{tenant:32} {len(document):6} bytes{why}")
