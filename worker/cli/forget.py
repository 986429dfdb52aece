"""`sessionwatch forget`: the erasure of a user from the state and the store."""

from __future__ import annotations

import asyncio
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
    """Erase a user from the workers' state and from ClickHouse, and say what stays, and for how long."""
    from worker.apps.embedded import served  # noqa: PLC0415  `--help` needs none of it
    from worker.clickhouse.erasure import erase  # noqa: PLC0415  `--help` needs none of it
    from worker.clickhouse.migrations import layout_of  # noqa: PLC0415
    from worker.stream import erasure  # noqa: PLC0415
    from worker.stream.connection import aiokafka_options  # noqa: PLC0415

    settings = settings_of(context)
    options, pseudonyms = aiokafka_options(settings.kafka), settings.privacy.pseudonyms()
    names = pseudonyms.names(tenant, user) if pseudonyms else [user]
    done = asyncio.run(erasure.forget(options, settings.topics, settings.stream.group_id, tenant, names, wait))
    with served(settings) as ready:
        counts = erase(ready.store_dsn(), ready.store_options(), tenant, names, layout_of(ready))
    topics, days = settings.topics, settings.topics.retention_days
    read = (topics.events, *topics.sources, topics.by_user, topics.starts, topics.dlq, topics.findings)
    stays = {
        ", ".join(read): f"{days} days at most",
        "changelog": "until the broker compacts it",
        "which database rows of sessions were the user's": "30 days at most",
        "who else used a session's uid, or came from a network": "8 and 30 days at most",
        "logs and backups of your own": "as you keep them",
    }
    if as_json:
        print_json({"state": "erased" if done else "asked for", "rows": counts, "stays": stays})
        return
    say("state: erased" if done else "state: no worker has got to it yet; it is erased when one does")
    say("rows: " + ", ".join(f"{count:,} of {table}" for table, count in counts.items()))
    for what, how_long in stays.items():
        say(f"stays: {what}: {how_long}")
