"""The ClickHouse writer: rows in, durable when it returns. One thread of its own, off the event loop."""

from __future__ import annotations

import asyncio
import random
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from schemas.tables import TABLES
from worker.sinks.errors import StoreRefusedError, StoreUnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from clickhouse_connect.driver.client import Client


FORMAT = "MsgPack"
"""Rows come encoded; decoding them is the store's work, in its own threads."""
_COLUMNS = {name: [column.name for column in table.columns] for name, table in TABLES.items()}

REFUSED = frozenset({6, 16, 27, 38, 41, 43, 44, 47, 53, 60, 62, 70, 81, 117})
"""ClickHouse error codes that waiting does not cure: wrong types, unknown columns, tables or databases
(https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp)."""
_CODE = re.compile(r"[Cc]ode:? (\d+)")

INSERT_SETTINGS = {
    # A deduplicated retry, durable when answered; old events may span any number of months.
    "async_insert": 0,
    "throw_on_max_partitions_per_insert_block": 0,
}


class Observer(Protocol):
    """Who is told how the store does."""

    def on_insert(self, table: str, rows: int, seconds: float) -> None:
        """Rows of a table became durable."""

    def on_retry(self, error: str) -> None:
        """A write failed and will be tried again."""


def masked(dsn: str) -> str:
    """Return a DSN without its password.

    >>> masked("clickhouse://me:secret@host:8123/db")
    'clickhouse://me:***@host:8123/db'
    """
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", dsn)


def connect(dsn: str, **options: Any) -> Client:
    """Connect to a store.

    Args:
        dsn: `chdb:///directory` (the embedded engine) or `clickhouse://user:password@host:8123/database`.
        options: passed on to clickhouse-connect (TLS, timeouts, …).

    Raises:
        StoreUnreachableError: nobody answers there, or the user is refused.
    """
    try:
        return clickhouse_connect.get_client(dsn=dsn, **options)
    except (ClickHouseError, OSError) as error:
        raise StoreUnreachableError(f"no ClickHouse at {masked(dsn)}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def error_code(error: BaseException) -> int:
    """Return ClickHouse's code of an error, 0 when it has none."""
    found = _CODE.search(str(error))
    return int(found.group(1)) if found else 0


class ClickHouseWriter:
    """Writes batches of rows, trying until they are durable.

    `insert` may wait for as long as the store is away; that is the back-pressure. It raises `StoreRefusedError` for
    what waiting does not cure. Writing the same rows again is harmless: the tables collapse them.

    Args:
        connector: makes a client; called in the writer's own thread, and again after a failure.
        observer: told of inserts and retries.
        sleep: waits between tries, seconds.
        first_wait, longest_wait: bounds of the exponential wait, seconds.
    """

    def __init__(
        self,
        connector: Callable[[], Client],
        *,
        observer: Observer | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float],
        first_wait: float = 0.1,
        longest_wait: float = 5.0,
    ) -> None:
        self._connector = connector
        self._observer = observer
        self._sleep = sleep
        self._clock = clock
        self._first_wait, self._longest_wait = first_wait, longest_wait
        self._client: Client | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clickhouse")
        self.failing_since: float | None = None

    async def insert(self, batch: Mapping[str, Sequence[bytes]]) -> None:
        """Make the rows of every table durable.

        Raises:
            StoreRefusedError: the store refuses them for good.
        """
        for table, rows in batch.items():
            if rows:
                await self._insert(table, rows)

    async def close(self) -> None:
        """Let the client go."""
        self._thread.shutdown(wait=True)
        if self._client is not None:
            self._client.close()

    async def _insert(self, table: str, rows: Sequence[bytes]) -> None:
        wait = self._first_wait
        while True:
            try:
                seconds = await asyncio.get_running_loop().run_in_executor(self._thread, self._write, table, rows)
            except StoreRefusedError:
                raise
            except Exception as error:  # noqa: BLE001  whatever the driver throws: only waiting helps
                self._failed(error)
                await self._sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311  jitter, not a secret
                wait = min(wait * 2, self._longest_wait)
            else:
                self.failing_since = None
                if self._observer is not None:
                    self._observer.on_insert(table, len(rows), seconds)
                return

    def _write(self, table: str, rows: Sequence[bytes]) -> float:
        begun = self._clock()
        if self._client is None:
            self._client = self._connector()
        try:
            self._client.raw_insert(
                table, _COLUMNS[table], b"".join(rows), settings=INSERT_SETTINGS, fmt=FORMAT, compression=None
            )
        except DatabaseError as error:
            if error_code(error) in REFUSED:
                raise StoreRefusedError(f"table {table}: {_first_line(error)}") from error
            raise
        return self._clock() - begun

    def _failed(self, error: Exception) -> None:
        if self.failing_since is None:
            self.failing_since = self._clock()
        if self._observer is not None:
            code = error_code(error)
            self._observer.on_retry(f"code-{code}" if code else type(error).__name__)
