"""`sessionwatch policy`: tenant policies on their compacted topic, in force within a second on every worker."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path  # noqa: TC003  typer reads annotations at run time
from typing import Annotated

import typer

from worker.cli.common import Json, output, print_json, say, settings_of
from worker.cli.errors import CheckFailedError

app = typer.Typer(help="Tenant policies.", no_args_is_help=True)
Tenant = Annotated[str, typer.Option("--tenant", help="Tenant id.")]


@app.command()
def get(context: typer.Context, *, tenant: Tenant) -> None:
    """Print a tenant's policy as JSON; fails when it has none of its own."""
    from worker.stream import policies  # noqa: PLC0415  `--help` needs none of it

    settings = settings_of(context)
    found = asyncio.run(policies.read_all(settings.kafka, settings.topics.policies))
    if tenant not in found:
        raise CheckFailedError(f"tenant {tenant!r} has no policy of its own: the default is in force")
    output(found[tenant].decode(errors="replace"))


@app.command("set")
def set_(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(help="JSON document; `-` is stdin.", allow_dash=True)],
    tenant: Tenant,
) -> None:
    """Put a tenant's policy in force; a document that cannot be used is refused with the field named."""
    from worker.detections.policies import check_policy  # noqa: PLC0415  `--help` needs none of it
    from worker.stream.produce import produce  # noqa: PLC0415

    document = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    check_policy(document)
    settings = settings_of(context)
    asyncio.run(produce(settings.kafka, settings.topics.policies, tenant, document))
    say(f"policy of {tenant} is set")


@app.command()
def unset(context: typer.Context, *, tenant: Tenant) -> None:
    """Take a tenant's policy back: the default is in force again."""
    from worker.stream.produce import produce  # noqa: PLC0415  `--help` needs none of it

    settings = settings_of(context)
    asyncio.run(produce(settings.kafka, settings.topics.policies, tenant, None))
    say(f"policy of {tenant} is taken back")


@app.command("list")
def list_(context: typer.Context, *, as_json: Json = False) -> None:
    """List the tenants that have a policy of their own, and what is wrong with those that cannot be used."""
    import orjson  # noqa: PLC0415  `--help` needs none of it

    from worker.stream import policies  # noqa: PLC0415

    settings = settings_of(context)
    found = sorted(asyncio.run(policies.read_all(settings.kafka, settings.topics.policies)).items())
    refused = {tenant: why for tenant, document in found if (why := _problem(document))}
    if as_json:
        usable = {tenant: orjson.loads(document) for tenant, document in found if tenant not in refused}
        print_json({"policies": usable, **({"refused": refused} if refused else {})})
        return
    for tenant, document in found:
        why = f"  refused: {refused[tenant]}" if tenant in refused else ""
        output(f"{tenant:32} {len(document):6} bytes{why}")


def _problem(document: bytes) -> str:
    """Return why workers refuse a document; empty when they do not."""
    from worker.detections.policies import BadPolicyError, check_policy  # noqa: PLC0415  as above

    try:
        check_policy(document)
    except BadPolicyError as error:
        return str(error)
    return ""
