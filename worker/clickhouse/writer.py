"""Writes rows to ClickHouse, in a thread outside the event loop. Rows are durable when a write returns."""

from __future__ import annotations

import asyncio
import random
import re
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

import clickhouse_connect
import structlog
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, ProgrammingError

from schemas.clickhouse.tables import TABLES
from worker.clickhouse.errors import BadDsnError, StoreRefusedError, StoreUnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from clickhouse_connect.driver.client import Client


log = structlog.get_logger(__name__)

WARN_EVERY_SECONDS = 60.0
"""Seconds between two warnings about the same outage."""
FORMAT = "MsgPack"
"""Rows are encoded by the pipeline; ClickHouse decodes them in its own threads."""
_COLUMNS = {name: [column.name for column in table.columns] for name, table in TABLES.items()}

REFUSED = frozenset({6, 16, 27, 38, 41, 43, 44, 47, 53, 60, 62, 70, 73, 81, 115, 117, 349})
"""ClickHouse error codes that a retry does not fix: wrong types, broken bytes, unknown columns, tables, databases,
formats or settings (https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp). All others pass,
or can be fixed at the server: no memory (241), too many parts (252), read-only (164, 242), quota (201), …"""
UNKNOWN_DATABASE, ACCESS_DENIED = 81, 497
_CODE = re.compile(r"\bcode:? (\d+)", re.IGNORECASE)

INSERT_SETTINGS = {
    # Durable when answered.
    "async_insert": 0,
    # … on the shards, where the tables are Distributed.
    "distributed_foreground_insert": 1,
    # Late events may span any number of months; the partitions are bounded by the tables.
    "throw_on_max_partitions_per_insert_block": 0,
    # The tables collapse rows that are written twice. The server's own deduplication would skip the materialized views
    # of a block whose first attempt reached the table but not the views.
    "insert_deduplicate": 0,
}
SECURE_SCHEMES = frozenset({"clickhouses", "https"})
SCHEMES = SECURE_SCHEMES | {"clickhouse", "http"}
_PLAIN_TO_TLS = "it closed the connection; if it speaks TLS, use clickhouses:// (port 8443) or set clickhouse.secure"
_HINTS = {
    "WRONG_VERSION_NUMBER": "the port does not speak TLS: use clickhouse:// (port 8123), or unset clickhouse.secure",
    "RECORD_LAYER_FAILURE": "the port does not speak TLS: use clickhouse:// (port 8123), or unset clickhouse.secure",
    "Remote end closed connection without response": _PLAIN_TO_TLS,
    "BadStatusLine": _PLAIN_TO_TLS,
    "Connection aborted": _PLAIN_TO_TLS,
    "sent to the https port": _PLAIN_TO_TLS,
    "sent to an SSL-enabled server port": _PLAIN_TO_TLS,
    "CERTIFICATE_VERIFY_FAILED": "its certificate was rejected: set clickhouse.ca_cert to the CA that signed it",
    "timed out": "no answer in time",
    "NameResolutionError": "the host name is not known",
}
"""Text of a library's error -> what it means, and what to do."""
_SYSTEM_ERROR = re.compile(r"\[Errno \d+\] ([\w ]+)")
_EXCEPTION = re.compile(r"Code: \d+\..*", re.DOTALL)
_FOR_URL = re.compile(r" \(for url [^)]*\)")
_ADVICE = {
    "NOT_ENOUGH_SPACE": "free space on the store's disk",
    "No space left on device": "free space on the store's disk",
    "Too many open files": "raise the store's limit of open files (ulimit -n)",
}
"""What ClickHouse says -> what to do about it."""
_PASSWORD = re.compile(r"(://[^:/@]*):.*@")
_SECRET_OPTION = re.compile(r"([?&](?:password|access_token)=)[^&]*")


class WriterObserver(Protocol):
    """Callbacks about inserts."""

    def on_insert(self, table: str, rows: int, seconds: float) -> None:
        """Called when rows of a table are durable."""

    def on_retry(self, error: str) -> None:
        """Called when a write failed and will be retried."""


def masked(dsn: str) -> str:
    """Return a DSN without its password.

    >>> masked("clickhouse://me:s@cret@host:8123/db")
    'clickhouse://me:***@host:8123/db'
    """
    return _SECRET_OPTION.sub(r"\1***", _PASSWORD.sub(r"\1:***@", dsn))


def connect(dsn: str, **options: Any) -> Client:
    """Connect to a store. A client is for one thread at a time.

    Args:
        dsn: `chdb:///directory` (the embedded engine) or `clickhouse://user:password@host:8123/database`;
            `clickhouses://` or `?secure=true` mean TLS.
        options: passed on to clickhouse-connect (TLS, timeouts, …).

    Raises:
        BadDsnError: the DSN or an option is invalid.
        StoreUnreachableError: the server does not answer, or refuses the user.
    """
    embedded = dsn.startswith("chdb:")
    try:
        if embedded:
            return clickhouse_connect.get_client(dsn=dsn, **options)
        plain, secure = _plain(dsn)
        # No session: an insert that outlives its caller must not make the next one an error.
        given = {"autogenerate_session_id": False, **options, "secure": secure or options.get("secure", False)}
        return clickhouse_connect.get_client(dsn=plain, **given)
    except (TypeError, ValueError) as error:
        raise BadDsnError(f"{masked(dsn)}: {first_line(error)}") from error
    except (ClickHouseError, OSError) as error:
        if isinstance(error, ProgrammingError) and not embedded:
            raise BadDsnError(f"{masked(dsn)}: {first_line(error)}") from error
        raise StoreUnreachableError(f"cannot reach ClickHouse at {masked(dsn)}: {_why(error)}") from error


def create_database(dsn: str, **options: Any) -> None:
    """Create the database that the DSN names, unless the server has it.

    Args:
        dsn: as for `connect`; an embedded store has its database from the start.
        options: as for `connect`.

    Raises:
        StoreUnreachableError: the server does not answer, or the user may not create databases.
    """
    name = "" if dsn.startswith("chdb:") else urlsplit(dsn).path.strip("/")
    if not name:
        return
    try:
        connect(dsn, **options).close()
    except StoreUnreachableError as error:
        if error_code(error) != UNKNOWN_DATABASE:
            raise
        _create_database(urlsplit(dsn)._replace(path="/default").geturl(), name, options)


def _create_database(dsn: str, name: str, options: Mapping[str, Any]) -> None:
    with closing(connect(dsn, **options)) as client:
        try:
            client.command("CREATE DATABASE IF NOT EXISTS {name:Identifier}", parameters={"name": name})
        except ClickHouseError as error:
            raise StoreUnreachableError(f"database {name} at {masked(dsn)} cannot be created: {_why(error)}") from error


def _plain(dsn: str) -> tuple[str, bool]:
    """Return the DSN in the form that clickhouse-connect accepts, and whether it asks for TLS."""
    parts = urlsplit(dsn)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ValueError("expected chdb:///directory or clickhouse://user:password@host:8123/database")
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError("percent-encode the password: / is %2F, ? is %3F, # is %23")
    options = dict(parse_qsl(parts.query))
    secure = options.pop("secure", "").lower() in ("1", "true") or parts.scheme in SECURE_SCHEMES
    return parts._replace(scheme="clickhouse", query=urlencode(options)).geturl(), secure


def _why(error: BaseException) -> str:
    text = str(error)
    if "already initialized with path" in text:
        return "this process has another embedded store open; one process can open only one"
    if "EmbeddedServer" in text:
        return "another process has it open (use its SQL endpoint), or it cannot be written"
    return first_line(error)


def first_line(error: BaseException) -> str:
    """Return one line of an error: the message of ClickHouse or of the operating system, not of a library between."""
    text = str(error)
    for sign, hint in _HINTS.items():
        if sign in text:
            return hint
    if found := _SYSTEM_ERROR.search(text):
        return found[1].lower()
    if found := _EXCEPTION.search(text):
        return advised(_FOR_URL.sub("", found[0].strip().splitlines()[0])[:300])
    return (text.strip().splitlines() or [type(error).__name__])[0][:300]


def advised(text: str) -> str:
    """Return what the store says, with what to do about it where that is known.

    >>> advised("Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)")
    "Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE); free space on the store's disk"
    """
    return "; ".join([text, *(advice for sign, advice in _ADVICE.items() if sign in text)])


def write_rows(client: Client, table: str, rows: Sequence[bytes]) -> None:
    """Insert rows, encoded as `ClickHouseWriter.insert` takes them, once.

    Raises:
        ClickHouseError: they may not be durable.
    """
    client.raw_insert(table, _COLUMNS[table], b"".join(rows), settings=INSERT_SETTINGS, fmt=FORMAT, compression=None)


def error_code(error: BaseException) -> int:
    """Return ClickHouse's code of an error, 0 when it has none."""
    code = getattr(error, "code", None)
    if isinstance(code, int):
        return code
    found = _CODE.search(str(error))
    return int(found.group(1)) if found else 0


class _Thread:
    """Runs calls one after the other. Unlike an executor, a call that hangs does not delay the end of the process."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        Thread(target=self._run, name="clickhouse", daemon=True).start()

    def run_there(self, call: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Return a future for the result of a call."""
        future: Future[Any] = Future()
        self._calls.put((future, partial(call, *args)))
        return asyncio.wrap_future(future)

    def end(self) -> None:
        """End the thread after the calls so far."""
        self._calls.put(None)

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001  the caller gets it
                future.set_exception(error)


class ClickHouseWriter:
    """Writes batches of rows and retries until they are durable.

    `insert` waits while the store is unavailable; that is the back-pressure. It raises `StoreRefusedError` for errors
    that a retry does not fix. Writing the same rows again is harmless: the tables collapse them. The first failure of
    an outage is a warning with ClickHouse's message, and so is one failure a minute; its end is logged.

    Args:
        connector: returns a client; called in the writer's own thread until it succeeds once.
        observer: its methods are called for inserts and retries.
        sleep: waits between attempts, seconds.
        clock: monotonic, seconds.
        first_wait, longest_wait: bounds of the exponential wait, seconds.
        patience: seconds of an outage after which `insert` raises; None: it retries without limit.

    Attributes:
        failing_since: clock at the first failure of an outage; None while inserts succeed.
    """

    def __init__(
        self,
        connector: Callable[[], Client],
        *,
        observer: WriterObserver | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float],
        first_wait: float = 0.1,
        longest_wait: float = 5.0,
        patience: float | None = None,
    ) -> None:
        self._connector = connector
        self._observer = observer
        self._sleep = sleep
        self._clock = clock
        self._first_wait, self._longest_wait = first_wait, longest_wait
        self._patience = patience
        self._warned_at = 0.0
        self._client: Client | None = None
        self._thread = _Thread()
        self.failing_since: float | None = None

    async def insert(self, batch: Mapping[str, Sequence[bytes]]) -> None:
        """Make the rows of every table durable.

        Args:
            batch: rows by table, in `FORMAT`, columns in the order of `schemas.clickhouse.tables`.

        Raises:
            StoreRefusedError: the store refuses the rows, or has failed for `patience` seconds.
            KeyError: there is no such table.
        """
        for table, rows in batch.items():
            if rows:
                await self._insert(table, rows)

    async def close(self) -> None:
        """Close the client after the insert in progress."""
        await self._thread.run_there(self._release)
        self._thread.end()

    def _release(self) -> None:
        if self._client is not None:
            self._client.close()

    async def _insert(self, table: str, rows: Sequence[bytes]) -> None:
        wait = self._first_wait
        while True:
            try:
                seconds = await self._thread.run_there(self._write, table, rows)
            except (ClickHouseError, StoreUnreachableError, OSError) as error:
                self._failed(table, error)
                await self._sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311  jitter, not a secret
                wait = min(wait * 2, self._longest_wait)
            else:
                self._succeeded()
                if self._observer is not None:
                    self._observer.on_insert(table, len(rows), seconds)
                return

    def _write(self, table: str, rows: Sequence[bytes]) -> float:
        begun = self._clock()
        if self._client is None:
            self._client = self._connector()
        try:
            write_rows(self._client, table, rows)
        except DatabaseError as error:
            if error_code(error) in REFUSED:
                raise StoreRefusedError(f"table {table}: {first_line(error)}") from error
            raise
        return self._clock() - begun

    def _failed(self, table: str, error: Exception) -> None:
        """Count and log a failure.

        Raises:
            StoreRefusedError: inserts have failed for `patience` seconds.
        """
        now = self._clock()
        if self.failing_since is None:
            self.failing_since, self._warned_at = now, now - WARN_EVERY_SECONDS
        seconds = now - self.failing_since
        if self._patience is not None and seconds >= self._patience:
            raise StoreRefusedError(f"table {table}: gave up after {seconds:.0f} s: {first_line(error)}") from error
        if now - self._warned_at >= WARN_EVERY_SECONDS:
            self._warned_at = now
            log.warning("insert failed, retrying", table=table, failing_for_s=round(seconds), error=first_line(error))
        if self._observer is not None:
            code = error_code(error)
            self._observer.on_retry(f"code-{code}" if code else type(error).__name__)

    def _succeeded(self) -> None:
        if self.failing_since is not None:
            log.info("inserts succeed again", failed_for_s=round(self._clock() - self.failing_since))
            self.failing_since = None
