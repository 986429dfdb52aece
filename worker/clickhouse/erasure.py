"""Erases a user from ClickHouse."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from worker.clickhouse.migrations import SINGLE
from worker.clickhouse.writer import connect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.clickhouse.migrations import Layout

_WHOSE = "tenant_id = {tenant:String} AND user_id IN {names:Array(String)}"
# Feedback is deleted first: only its finding names the user.
_WHICH = {
    "feedback": f"finding_uid IN (SELECT finding_uid FROM {{within}}findings WHERE {_WHOSE})",  # noqa: S608  no value in it
    "findings": _WHOSE,
    "incidents": _WHOSE,
    "sessions": _WHOSE,
    "session_events": _WHOSE,
    "users_by_day_states": _WHOSE,
}


def erase(
    dsn: str, options: Mapping[str, Any], tenant_id: str, names: Sequence[str], layout: Layout = SINGLE
) -> dict[str, int]:
    """Delete a user's rows, under all names, on all shards and replicas; return how many there were, by table.

    Raises:
        StoreUnreachableError: ClickHouse does not answer.
        ClickHouseError: ClickHouse refuses.
    """
    who = {"tenant": tenant_id, "names": list(names)}
    within = f"{layout.shards}." if layout.shards else ""
    on_cluster = layout.fill("{on_cluster}")
    counts = {}
    with closing(connect(dsn, **options)) as client:
        for table, which in _WHICH.items():
            where = which.replace("{within}", within)
            found = client.query(f"SELECT count() FROM {table} FINAL WHERE {where}", parameters=who)  # noqa: S608  as above
            counts[table] = int(found.result_rows[0][0])
            delete = f"ALTER TABLE {within}{table}{on_cluster} DELETE WHERE {where}"
            client.command(f"{delete} SETTINGS mutations_sync = 2", parameters=who)
    return counts
