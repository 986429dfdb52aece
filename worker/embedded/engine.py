"""The embedded engine behind the SQL server: runs one statement of one role. Called from several threads."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from contextlib import closing, contextmanager
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from uuid import uuid4

import chdb

from worker.embedded import statements
from worker.embedded.access import CEILINGS, DATABASE, Role, configuration, limited

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ACCESS_DENIED, READONLY, UNKNOWN_SETTING, SYNTAX_ERROR, CANCELLED, UNKNOWN = 497, 164, 115, 62, 394, 1002
_NAMES = {ACCESS_DENIED: "ACCESS_DENIED", READONLY: "READONLY", UNKNOWN_SETTING: "UNKNOWN_SETTING",
          SYNTAX_ERROR: "SYNTAX_ERROR", CANCELLED: "QUERY_WAS_CANCELLED"}  # fmt: skip
_CODE = re.compile(r"Code: (\d+)")
_OUR_QUERY = re.compile(r": In scope SELECT formatQuerySingleLine\(.*\)\.", re.DOTALL)
"""The end of a syntax error: the query that asked for the normal form, not the caller's."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})
_QUOTE = "'"
_OURS = frozenset({"", "default"})
"""Names that stand for our database: none, and the default of clients."""
CONFIGURATION = "access.xml"
KILL_EVERY = 0.05


class Query(NamedTuple):
    """A statement and how to run it.

    Attributes:
        sql: the statement.
        data: the rows of an `INSERT … FORMAT …`; None when there are none.
        format: format of the answer, unless the statement names one.
        parameters: parameters by name, escaped as in TabSeparated, as ClickHouse expects them.
        settings: settings by name.
        database: `""`: the database of our tables.
    """

    sql: str
    data: bytes | None = None
    format: str = "TabSeparated"
    parameters: Mapping[str, str] = {}
    settings: Mapping[str, str] = {}
    database: str = ""


class Answer(NamedTuple):
    """The answer of the engine.

    Attributes:
        body: the answer, or the text of ClickHouse's error.
        format: format of the body; `""` when the statement returns nothing.
        code: ClickHouse's error code, 0 for success.
    """

    body: bytes
    format: str = ""
    rows: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    code: int = 0


class RefusedError(Exception):
    """The statement is not allowed; the message has the form of ClickHouse's errors."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {why}. ({_NAMES[code]})")


class Engine:
    """A chDB directory that is open while the context lasts.

    Args:
        directory: the chDB directory; one process may have it open.
        ceilings: limits of a reader's query; none for a query of the local user.
    """

    def __init__(self, directory: Path, ceilings: Mapping[str, float] = CEILINGS) -> None:
        self._directory = directory.resolve()
        self._ceilings = ceilings
        self._outside: frozenset[str] = frozenset()
        self._running: set[str] = set()
        self._cancelled: set[str] = set()
        self._lock = threading.Lock()
        # Kept open: without a connection the engine stops, and starting it takes 100 ms.
        self._held: Any = None

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / CONFIGURATION
        path.write_text(configuration(path), encoding="utf-8")
        self._held = self._connect(Role.WRITER)
        self._held.query(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
        services = "SELECT name FROM system.functions WHERE categories = 'AI'"
        self._outside = statements.outside(
            self._names("SELECT name FROM system.table_functions"), self._names(services)
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def _names(self, sql: str) -> list[str]:
        return str(self._held.query(sql, "TabSeparated").bytes().decode()).split()

    def _connect(self, role: Role) -> Any:
        path = f"{self._directory}?config-file={self._directory / CONFIGURATION}"
        connection = chdb.connect(path)  # type: ignore[no-untyped-call]
        connection.query(f"SET ROLE {role}")
        return connection

    def run(self, query: Query, role: Role, query_id: str = "") -> Answer:
        """Run one statement on a connection of its own; errors are returned as answers.

        Args:
            query: the statement.
            role: the role that runs it.
            query_id: the id for `cancel`.
        """
        with closing(self._connect(role)) as connection:
            try:
                return self._run(connection, query, role, query_id or uuid4().hex)
            except Exception as error:  # noqa: BLE001  every error of the engine is an answer
                return _failed(error)

    def begin(self, query_id: str) -> None:
        """Register a query before it runs, so that it can be cancelled."""
        with self._lock:
            self._running.add(query_id)

    def end(self, query_id: str) -> None:
        """Unregister a query that has ended, or never ran."""
        with self._lock:
            self._running.discard(query_id)
            self._cancelled.discard(query_id)

    def cancel(self, query_id: str) -> None:
        """Cancel a query and wait until it has ended; the engine checks for that between blocks of rows."""
        self._kill({query_id})

    def cancel_all(self) -> None:
        """Cancel every query and wait until they have ended."""
        self._kill(set(self._running))

    def _kill(self, query_ids: set[str]) -> None:
        with self._lock:
            self._cancelled |= query_ids & self._running
        with closing(self._connect(Role.WRITER)) as connection:
            while left := query_ids & self._running:
                listed = ", ".join(_quoted(each, _QUOTE) for each in left)
                connection.query(f"KILL QUERY WHERE Settings['log_comment'] IN ({listed})")
                time.sleep(KILL_EVERY)

    def _run(self, connection: Any, query: Query, role: Role, query_id: str) -> Answer:
        database = DATABASE if query.database in _OURS else query.database
        connection.query(f"USE {_quoted(database, '`')}")
        normal = _normal(connection, query.sql)
        statement = statements.parse(normal)
        why = statements.refusal(statement, role, self._outside)
        if why:
            raise RefusedError(READONLY if role is Role.READER else ACCESS_DENIED, f"This endpoint refuses: {why}")
        for name, value in {**self._settings(query.settings, role), "log_comment": query_id}.items():
            if name != "readonly":
                connection.query(f"SET {name} = {_quoted(value, _QUOTE)}")
        if role is Role.READER:
            connection.query("SET readonly = 1")
        if query_id in self._cancelled:
            raise RefusedError(CANCELLED, "Query was cancelled")
        if query.data is not None and statement.takes_data:
            return _insert(connection, normal, query.data)
        # The checked text is what runs, except for an insert with its rows in the statement: `normal` has no rows.
        sql = query.sql if statement.kind == "INSERT" and "SELECT" not in statement.tokens else normal
        if sql is not normal and not statements.is_one(sql):
            raise RefusedError(ACCESS_DENIED, "This endpoint refuses: more than one statement, or comments amid rows")
        result = connection.query(sql, query.format, params=dict(query.parameters))
        shape = (statement.format or query.format) if statement.answers else ""
        return Answer(result.bytes(), shape, result.rows_read(), result.bytes_read(), result.elapsed())

    def _settings(self, settings: Mapping[str, str], role: Role) -> Mapping[str, str]:
        for name in settings:
            if not _NAME.match(name):
                raise RefusedError(UNKNOWN_SETTING, f"Setting {name!r} cannot be set")
        if role is Role.WRITER:
            return settings
        try:
            return limited(settings, self._ceilings)
        except ValueError as error:
            raise RefusedError(READONLY, str(error)) from error


def _insert(connection: Any, normal: str, data: bytes) -> Answer:
    """Insert rows that are not part of the statement.

    The engine reads them from a file in memory: its streaming insert reports success even when the table refuses the
    rows (no space left, a constraint, too many partitions).
    """
    with _file_of(data) as path:
        done = connection.query(statements.from_file(normal, _quoted(path, _QUOTE)), "TabSeparated")
    return Answer(b"", rows=done.rows_written(), bytes_read=done.bytes_written(), seconds=done.elapsed())


@contextmanager
def _file_of(data: bytes) -> Iterator[str]:
    """Yield the path of a file with these bytes; on Linux it is in memory, so that it works on a full disk, too."""
    if sys.platform == "linux":
        with os.fdopen(os.memfd_create("rows"), "wb") as file:
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name


def _failed(error: Exception) -> Answer:
    text = str(error)
    found = _CODE.search(text)
    return Answer(f"{text[found.start() :] if found else text}\n".encode(), code=int(found[1]) if found else UNKNOWN)


def _quoted(text: str, mark: str) -> str:
    escaped = text.replace("\\", "\\\\").replace(mark, f"\\{mark}")
    return f"{mark}{escaped}{mark}"


def _normal(connection: Any, sql: str) -> str:
    """Return the one statement as the engine's parser writes it."""
    parameters = {"sql": sql.translate(_ESCAPES)}
    try:
        result = connection.query("SELECT formatQuerySingleLine({sql:String})", "TabSeparatedRaw", params=parameters)
    except RuntimeError as error:
        raise RuntimeError(_OUR_QUERY.sub(".", str(error))) from None
    return str(result.bytes().decode())
