"""Rows for the tests of the store, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from schemas.clickhouse.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clickhouse_connect.driver.client import Client

_encode = msgspec.msgpack.Encoder().encode
_ZERO: dict[str, Any] = {"String": "", "LowCardinality(String)": "", "Bool": False, "Float64": 0.0}


def row(table: str, **values: Any) -> bytes:
    """Return a row as the writer takes it; what is not given is empty, zero or null."""
    columns = TABLES[table].columns
    assert not values.keys() - {column.name for column in columns}
    return b"".join(_encode(values.get(column.name, _empty(column.type))) for column in columns)


def _empty(kind: str) -> Any:
    if kind.startswith("Nullable"):
        return None
    return () if kind.startswith("Array") else _ZERO.get(kind, 0)


def stored(client: Client, table: str) -> list[Mapping[str, Any]]:
    """Return the rows of a table as `FINAL` shows them, times as milliseconds."""
    columns = [
        f"toUnixTimestamp64Milli({column.name}) AS {column.name}" if "DateTime64" in column.type else column.name
        for column in TABLES[table].columns
    ]
    query = f"SELECT {', '.join(columns)} FROM {table} FINAL ORDER BY ALL"  # noqa: S608  names of our own
    return list(client.query(query).named_results())
