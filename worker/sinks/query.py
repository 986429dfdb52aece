"""SQL against the store, answered in one of ClickHouse's output formats."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from worker.sinks.clickhouse import connect

if TYPE_CHECKING:
    from collections.abc import Mapping


def run_query(dsn: str, sql: str, form: str, options: Mapping[str, Any]) -> bytes:
    """Run one statement.

    Args:
        dsn: the store.
        sql: the statement; a `FORMAT` of its own wins over `form`.
        form: name of a ClickHouse output format, e.g. `JSONEachRow`.
        options: of the connection.

    Raises:
        StoreUnreachableError: the store does not answer.
        ClickHouseError: the store does not understand the statement.
    """
    with closing(connect(dsn, **options)) as client:
        return bytes(client.raw_query(sql.rstrip().rstrip(";"), fmt=form))
