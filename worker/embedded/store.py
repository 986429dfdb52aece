"""The embedded engine as its SQL endpoint needs it: one statement in, bytes out, read-only unless told otherwise."""

from __future__ import annotations

import re
from contextlib import closing
from itertools import pairwise
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import chdb

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

READ_ONLY = 1
"""ClickHouse's `readonly`: nothing is written, no setting changed, nothing read from outside the store. 2, which lets a
statement change settings, lets it read and write files of the machine as well (`INSERT INTO FUNCTION file(…)`)."""
LIMITS = {"max_execution_time": "60", "max_memory_usage": str(2 << 30)}
"""Seconds and bytes a query may take of the worker's process; a query may ask for others."""
READ_ACCESS_DENIED, SYNTAX_ERROR, UNKNOWN = 164, 62, 1002
_READS = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "EXPLAIN", "EXISTS"})
# What `readonly = 1` lets through and what nevertheless reaches beyond the store.
_OUTSIDE = frozenset({"file", "python"})
_HIDDEN = frozenset({"dialect", "readonly"})
_TOKEN = re.compile(r"'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.|``)*`|\"(?:[^\"\\]|\\.|\"\")*\"|\w+|\S", re.DOTALL)
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})
_QUOTE = "'"
_CODE = re.compile(r"Code: (\d+)")
_INSERT = re.compile(
    rb"(?P<into>\s*INSERT\s.*?)\s(?P<rest>(?:SETTINGS\s.*?\s)?FORMAT\s+\w+)\s*\Z", re.IGNORECASE | re.DOTALL
)
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*\Z")


class Asked(NamedTuple):
    """A statement and how to run it.

    Attributes:
        sql: the statement.
        data: what an `INSERT … FORMAT …` inserts.
        format: of the answer, unless the statement names one.
        parameters: by name, escaped as in TabSeparated, as ClickHouse takes them.
        settings: by name.
        database: `""` is the default one.
    """

    sql: bytes
    data: bytes
    format: str
    parameters: Mapping[str, str]
    settings: Mapping[str, str]
    database: str


class Answer(NamedTuple):
    """What the engine said. `code`: ClickHouse's error code, 0 when all went well."""

    body: bytes
    rows: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    code: int = 0


class RefusedError(Exception):
    """The statement is none that may run here; the text is as ClickHouse words its errors."""


class EmbeddedStore:
    """An open chDB directory, until the context is left. `run` may be called from several threads at once.

    Args:
        directory: the chDB directory; one process may have it open, which may open it often.
        read_only: refuse whatever changes something.
    """

    def __init__(self, directory: Path, *, read_only: bool = True) -> None:
        self._directory = str(directory.resolve())
        self._read_only = read_only
        # Held: with no connection left the engine stops, and starting it takes 40 ms.
        self._held: Any = None

    def __enter__(self) -> Self:
        self._held = self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def _connect(self) -> Any:
        return chdb.connect(self._directory)  # type: ignore[no-untyped-call]

    def run(self, asked: Asked) -> Answer:
        """Run one statement on a connection of its own; an error is an answer."""
        with closing(self._connect()) as connection:
            try:
                return self._run(connection, asked)
            except Exception as error:  # noqa: BLE001  every error of the engine is an answer
                found = _CODE.search(str(error))
                return Answer(str(error).encode() + b"\n", code=int(found[1]) if found else UNKNOWN)

    def _run(self, connection: Any, asked: Asked) -> Answer:
        if asked.database:
            connection.query(f"USE {_quoted(asked.database, '`')}")
        for name, value in {**LIMITS, **asked.settings}.items():
            if not _NAME.match(name) or (self._read_only and name in _HIDDEN):
                raise RefusedError(f"Code: 115. DB::Exception: Setting {name!r} cannot be set. (UNKNOWN_SETTING)")
            connection.query(f"SET {name} = {_quoted(value, _QUOTE)}")
        if self._read_only:
            _check_reads(_normal(connection, asked.sql))
            connection.query(f"SET readonly = {READ_ONLY}")
        with NamedTemporaryFile(suffix=".data") as file:
            file.write(asked.data)
            file.flush()
            sql = _reading(asked.sql, file.name) if asked.data else asked.sql
            result = connection.query(sql, asked.format, params=dict(asked.parameters))
            return Answer(result.bytes(), result.rows_read(), result.bytes_read(), result.elapsed())


def _reading(sql: bytes, file: str) -> bytes:
    """Return an insert that reads a file; in the statement itself the engine ends data at the first empty line.

    Raises:
        RefusedError: it is no insert that names a format.
    """
    found = _INSERT.match(sql)
    if found is None:
        raise RefusedError(f"Code: {SYNTAX_ERROR}. DB::Exception: Data need INSERT INTO … FORMAT …. (SYNTAX_ERROR)")
    return b"%s FROM INFILE %s COMPRESSION 'none' %s" % (found["into"], _quoted(file, _QUOTE).encode(), found["rest"])


def _quoted(text: str, mark: str) -> str:
    escaped = text.replace("\\", "\\\\").replace(mark, f"\\{mark}")
    return f"{mark}{escaped}{mark}"


def _normal(connection: Any, sql: bytes) -> str:
    """Return the one statement in ClickHouse's own spelling: no comments, no escapes in names."""
    result = connection.query(
        "SELECT formatQuerySingleLine({sql:String})",
        "TabSeparatedRaw",
        params={"sql": sql.decode().translate(_ESCAPES)},
    )
    return str(result.bytes().decode())


def _check_reads(normal: str) -> None:
    """Refuse a statement that does not only read the store.

    Raises:
        RefusedError: it writes, or reaches for files or the interpreter.
    """
    tokens = _TOKEN.findall(normal)
    verb = next((token for token in tokens if token != "("), "")  # noqa: S105  a token of SQL
    if verb not in _READS or "OUTFILE" in tokens or any(name in _OUTSIDE for name in _called(tokens)):
        raise RefusedError(f"Code: {READ_ACCESS_DENIED}. DB::Exception: This endpoint only reads. (READONLY)")


def _called(tokens: list[str]) -> Iterator[str]:
    """Iterate over the names of the functions that are called."""
    return (name.strip('`"') for name, after in pairwise(tokens) if after == "(")
