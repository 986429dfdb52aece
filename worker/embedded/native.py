"""ClickHouse's Native format in the form that newer clients expect.

The engine writes blocks of protocol revision 0: counts of columns and rows, then each column's name, type and values.
clickhouse-go, which Grafana's data source uses, requests a newer revision and expects its additional fields
(https://clickhouse.com/docs/native-protocol/server#block). To insert them, this module finds the end of each column.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SINCE_REVISION = 54454
"""`DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION`: the first revision with the blocks that `framed` returns."""
# Field 1: no overflow row. Field 2: bucket -1. End of fields.
_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_NO_CUSTOM_SERIALIZATION = b"\x00"
_SIZES = {
    "Bool": 1, "Nothing": 1, "Enum8": 1, "Enum16": 2, "Date": 2, "Date32": 4, "DateTime": 4, "Time": 4,
    "DateTime64": 8, "Time64": 8, "UUID": 16, "IPv4": 4, "IPv6": 16, "BFloat16": 2, "Float32": 4, "Float64": 8,
    **{f"{sign}Int{bits}": bits // 8 for sign in ("", "U") for bits in (8, 16, 32, 64, 128, 256)},
}  # fmt: skip
_TYPE = re.compile(r"(?P<name>\w+)(?:\((?P<of>.*)\))?", re.DOTALL)
# An element of a tuple may have a name before its type.
_NAMED = re.compile(r"(?:`(?:[^`\\]|\\.|``)*`|\w+) (?=\w)")
_PIECE = re.compile(r"'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.|``)*`|.", re.DOTALL)


class UnservedTypeError(Exception):
    """A column has a type whose values have no known end."""


def framed(body: bytes) -> bytes:
    """Return blocks of revision 0 as blocks of `SINCE_REVISION`.

    Raises:
        UnservedTypeError: a column is JSON, Dynamic, Variant or the state of an aggregation.
    """
    parts: list[bytes] = []
    at = 0
    while at < len(body):
        begun = at
        columns, at = _number(body, at)
        rows, at = _number(body, at)
        parts += (_BLOCK_INFO, body[begun:at])
        for _ in range(columns):
            begun, values = at, _after_head(body, at)
            kind = _text(body, _after_text(body, at))
            # Dictionaries begin with their version.
            at = _skip(body, values + 8 * kind.count("LowCardinality("), kind, rows) if rows else values
            parts += (body[begun:values], _NO_CUSTOM_SERIALIZATION, body[values:at])
    return b"".join(parts)


def _number(body: bytes, at: int) -> tuple[int, int]:
    """Return the LEB128 number at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _text(body: bytes, at: int) -> str:
    length, at = _number(body, at)
    return body[at : at + length].decode()


def _after_text(body: bytes, at: int) -> int:
    length, at = _number(body, at)
    return at + length


def _after_head(body: bytes, at: int) -> int:
    return _after_text(body, _after_text(body, at))


def _skip(body: bytes, at: int, kind: str, rows: int) -> int:
    """Return the place after `rows` values of a type.

    Raises:
        UnservedTypeError: such values have no known end.
    """
    found = _TYPE.fullmatch(kind)
    name, of = (found["name"], found["of"] or "") if found else (kind, "")
    if not rows:
        return at
    if name in _VARIABLE:
        return _VARIABLE[name](body, at, of, rows)
    return at + rows * _size(name, of)


def _skip_texts(body: bytes, at: int, _of: str, rows: int) -> int:
    for _ in range(rows):
        at = _after_text(body, at)
    return at


def _skip_arrays(body: bytes, at: int, of: str, rows: int) -> int:
    end = at + 8 * rows
    return _skip(body, end, of, _uint64(body, end - 8))


def _skip_arrays_of_tuples(body: bytes, at: int, of: str, rows: int) -> int:
    return _skip_arrays(body, at, f"Tuple({of})", rows)


def _skip_tuples(body: bytes, at: int, of: str, rows: int) -> int:
    for element in _elements(of):
        at = _skip(body, at, _NAMED.sub("", element, count=1), rows)
    return at


def _skip_nullable(body: bytes, at: int, of: str, rows: int) -> int:
    return _skip(body, at + rows, of, rows)


def _skip_dictionary(body: bytes, at: int, of: str, _rows: int) -> int:
    """Return the place after the distinct values and the index of each row's value."""
    width = 1 << (_uint64(body, at) & 0xFF)
    at = _skip(body, at + 16, _bare(of), _uint64(body, at + 8))
    return at + 8 + width * _uint64(body, at)


def _skip_aggregates(body: bytes, at: int, of: str, rows: int) -> int:
    return _skip(body, at, list(_elements(of))[-1], rows)


_VARIABLE: dict[str, Callable[[bytes, int, str, int], int]] = {
    "String": _skip_texts,
    "Array": _skip_arrays,
    "Map": _skip_arrays_of_tuples,
    "Nested": _skip_arrays_of_tuples,
    "Tuple": _skip_tuples,
    "Nullable": _skip_nullable,
    "LowCardinality": _skip_dictionary,
    "SimpleAggregateFunction": _skip_aggregates,
}


def _bare(kind: str) -> str:
    """Return a type without `Nullable`; in a dictionary, null is a value."""
    return kind[len("Nullable(") : -1] if kind.startswith("Nullable(") else kind


def _uint64(body: bytes, at: int) -> int:
    return int.from_bytes(body[at : at + 8], "little")


def _size(name: str, of: str) -> int:
    """Return the size in bytes of a value of a type of fixed size.

    Raises:
        UnservedTypeError: the type has no fixed size.
    """
    if name == "FixedString":
        return int(of)
    if name == "Decimal":
        precision = int(of.partition(",")[0])
        return next(size for digits, size in ((9, 4), (18, 8), (38, 16), (76, 32)) if precision <= digits)
    if name.startswith("Interval"):
        return 8
    if name not in _SIZES:
        raise UnservedTypeError(f"{name} is not served in Native, cast it")
    return _SIZES[name]


def _elements(of: str) -> Iterator[str]:
    """Iterate over the arguments of a type.

    >>> list(_elements("UInt8, Map(String, `a,b` Enum8('(' = 1))"))
    ['UInt8', "Map(String, `a,b` Enum8('(' = 1))"]
    """
    depth, element = 0, ""
    for part in _PIECE.findall(of):
        depth += {"(": 1, ")": -1}.get(part, 0)
        if part == "," and not depth:
            yield element.strip()
            element = ""
        else:
            element += part
    if element.strip():
        yield element.strip()
