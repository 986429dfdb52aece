"""Runs SQL against the store; answers are in one of ClickHouse's output formats."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from clickhouse_connect.driver.exceptions import DatabaseError

from worker.clickhouse.writer import connect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clickhouse_connect.driver.client import Client

READ_ONLY = "2"
"""ClickHouse's `readonly`: nothing is written; settings may be changed, but not this one."""
_ANSWERS = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "EXPLAIN", "EXISTS", "CHECK"})
_OWN_FORMAT = re.compile(r" FORMAT (\w+)$")
_CSV_TEXT = re.compile(rb'"((?:[^"]|"")*)"')
_FORMULA = (b"=", b"+", b"-", b"@", b"\t", b"\r")


class QueryAnswer(NamedTuple):
    """The answer to a statement, and its format; `""` when the statement returns nothing."""

    body: bytes
    format: str


def run_query(dsn: str, sql: str, form: str, options: Mapping[str, Any], *, write: bool = False) -> QueryAnswer:
    """Run one statement on a server.

    Args:
        dsn: the store.
        sql: the statement; its own `FORMAT` takes precedence over `form`.
        form: name of a ClickHouse output format, e.g. `JSONEachRow`.
        options: of the connection.
        write: the statement may change something.

    Raises:
        StoreUnreachableError: the store does not answer.
        ClickHouseError: the store does not understand the statement, or refuses it.
    """
    statement = sql.rstrip().rstrip(";")
    with closing(connect(dsn, **options)) as client:
        settings = {} if write or _only_reads(client) else {"readonly": READ_ONLY}
        own, answers = _format_of(client, statement)
        asked = form if answers and not own else None
        body = bytes(client.raw_query(statement, fmt=asked, settings=settings))
        return QueryAnswer(body, own or form if answers else "")


def spreadsheet_safe(csv: bytes) -> bytes:
    r"""Return CSV as ClickHouse writes it, with no text that a spreadsheet takes for a formula.

    Text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets an apostrophe before it. ClickHouse puts
    all text in quotes, and no number.

    >>> spreadsheet_safe(b'"=1+1",-5,"a"\n')
    b'"\'=1+1",-5,"a"\n'
    """
    return _CSV_TEXT.sub(lambda found: b"\"'" + found[0][1:] if found[1].startswith(_FORMULA) else found[0], csv)


def _only_reads(client: Client) -> bool:
    """Return whether the user is read-only; such a user cannot set `readonly`."""
    setting = client.server_settings.get("readonly")
    return setting is not None and str(setting.value) != "0"


def _format_of(client: Client, statement: str) -> tuple[str, bool]:
    """Return the format that a statement names, and whether it returns rows, as the store parses it."""
    try:
        read = client.query("SELECT formatQuerySingleLine({sql:String})", parameters={"sql": statement})
    except DatabaseError:
        # Not a single statement. The store reports the error when the statement is run.
        return "", False
    normal = str(read.result_rows[0][0]).rstrip()
    found = _OWN_FORMAT.search(normal)
    return found[1] if found else "", normal.lstrip("(").partition(" ")[0] in _ANSWERS
