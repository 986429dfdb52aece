"""SQL against the store, answered in one of ClickHouse's output formats."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

from clickhouse_connect.driver.exceptions import DatabaseError

from worker.clickhouse.writer import connect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clickhouse_connect.driver.client import Client

_ANSWERS = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "EXPLAIN", "EXISTS", "CHECK"})
_OWN_FORMAT = re.compile(r" FORMAT \w+$")


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
    statement = sql.rstrip().rstrip(";")
    with closing(connect(dsn, **options)) as client:
        return bytes(client.raw_query(statement, fmt=form if _takes_format(client, statement) else None))


def _takes_format(client: Client, statement: str) -> bool:
    """Tell whether the statement gives an answer and names no format for it, as the store itself reads it."""
    try:
        read = client.query("SELECT formatQuerySingleLine({sql:String})", parameters={"sql": statement})
    except DatabaseError:
        # Not one statement. Whoever runs it as it stands is told what is wrong with it.
        return False
    normal = str(read.result_rows[0][0]).rstrip()
    return normal.lstrip("(").partition(" ")[0] in _ANSWERS and not _OWN_FORMAT.search(normal)
