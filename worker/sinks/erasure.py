"""The erasure of a user from ClickHouse."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from worker.sinks.clickhouse import connect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WHOSE = "tenant_id = {tenant:String} AND user_id IN {names:Array(String)}"
# Verdicts go first: they know their user by the finding alone.
_WHICH = {
    "feedback": f"finding_uid IN (SELECT finding_uid FROM findings WHERE {_WHOSE})",  # noqa: S608  no value in it
    "findings": _WHOSE,
    "sessions": _WHOSE,
    "session_events": _WHOSE,
}


def erase(dsn: str, options: Mapping[str, Any], tenant_id: str, names: Sequence[str]) -> dict[str, int]:
    """Delete a user's rows, under all the user's names, on all replicas; return how many there were, by table.

    Raises:
        StoreUnreachableError: ClickHouse does not answer.
        ClickHouseError: it refuses.
    """
    who = {"tenant": tenant_id, "names": list(names)}
    counts = {}
    with closing(connect(dsn, **options)) as client:
        for table, where in _WHICH.items():
            found = client.query(f"SELECT count() FROM {table} FINAL WHERE {where}", parameters=who)  # noqa: S608  as above
            counts[table] = int(found.result_rows[0][0])
            client.command(f"ALTER TABLE {table} DELETE WHERE {where} SETTINGS mutations_sync = 2", parameters=who)
    return counts
