"""ClickHouse's HTTP interface over the embedded engine, on loopback, in a thread of its own.

One process may open a chDB directory, so the worker serves it: curl, clickhouse-connect and Grafana's ClickHouse
data source query while it runs. https://clickhouse.com/docs/interfaces/http
"""

from __future__ import annotations

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import chdb
import lz4.frame
import orjson
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LARGEST_BODY = 1 << 30
QUERIES_AT_ONCE = 4
READ_ONLY = 2
"""ClickHouse's `readonly`: 2 lets a query choose its settings, and nothing else."""
_NOT_SETTINGS = frozenset(
    [
        "query",
        "database",
        "default_format",
        "session_id",
        "session_check",
        "session_timeout",
        "query_id",
        "user",
        "password",
        "compress",
        "decompress",
        "quota_key",
        "role",
        "client_protocol_version",
        "wait_end_of_query",
        "buffer_size",
        "enable_http_compression",
        "http_zlib_compression_level",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
        "cancel_http_readonly_queries_on_client_close",
        "readonly",
        "async_insert",
        "wait_for_async_insert",
    ]
)
_SETTING = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_CODE = re.compile(r"Code: (\d+)")
_STATUS = {47: 404, 60: 404, 81: 404, 62: 400, 164: 403, 516: 403, 192: 403, 497: 403, 241: 500, 159: 408}
_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
}
_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)


class Asked(NamedTuple):
    """A query as the interface was asked it."""

    sql: bytes
    format: str
    parameters: Mapping[str, str]
    settings: Mapping[str, str]
    database: str


class Answer(NamedTuple):
    """What the engine said. `code`: ClickHouse's error code, 0 when all went well."""

    body: bytes
    rows: int
    bytes_read: int
    seconds: float
    code: int


class HttpEndpoint:
    """Serves a chDB directory over HTTP until the context is left.

    Args:
        directory: the chDB directory; this process must be the one that has it open.
        port: loopback port; 0 takes a free one.
        read_only: refuse whatever changes something.
    """

    def __init__(self, directory: Path, port: int = 0, *, read_only: bool = True) -> None:
        self._directory = str(directory.resolve())
        self._read_only = read_only
        self._queries = ThreadPoolExecutor(QUERIES_AT_ONCE, thread_name_prefix="sql")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sql-http", daemon=True)
        self._runner: web.AppRunner | None = None
        self.port = port

    @property
    def url(self) -> str:
        """Where it is served."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._queries.shutdown(wait=True)

    async def _start(self) -> None:
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_get("/ping", _ok)
        app.router.add_get("/replicas_status", _ok)
        app.router.add_route("*", "/", self._serve)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        asked = await _read(request)
        if not asked.sql.strip():
            return await _ok(request)
        answer = await asyncio.get_running_loop().run_in_executor(self._queries, self._run, asked)
        return _respond(asked, answer)

    def _run(self, asked: Asked) -> Answer:
        opened = chdb.connect(self._directory)  # type: ignore[no-untyped-call]
        with closing(opened) as connection:
            try:
                return self._query(connection, asked)
            except Exception as error:  # noqa: BLE001  every error of the engine is an answer
                found = _CODE.search(str(error))
                return Answer(str(error).encode() + b"\n", 0, 0, 0.0, int(found[1]) if found else 1002)

    def _query(self, connection: Any, asked: Asked) -> Answer:
        if asked.database and asked.database != "default":
            connection.query(f"USE `{asked.database.replace('`', '')}`")
        for name, value in asked.settings.items():
            if _SETTING.match(name):
                escaped = value.replace("\\", "\\\\").replace("'", "\\'")
                connection.query(f"SET {name} = '{escaped}'")
        if self._read_only:
            connection.query(f"SET readonly = {READ_ONLY}")
        result = connection.query(asked.sql, asked.format, params=dict(asked.parameters))
        return Answer(result.bytes(), result.rows_read(), result.bytes_read(), result.elapsed(), 0)


async def _ok(_request: web.Request) -> web.Response:
    return web.Response(text="Ok.\n", content_type="text/html")


async def _read(request: web.Request) -> Asked:
    arguments = request.query
    body = await request.read()
    if request.headers.get("Content-Encoding") == "lz4":
        body = lz4.frame.decompress(body)
    query = arguments.get("query", "").encode()
    given = request.headers.get("X-ClickHouse-Format") or arguments.get("default_format") or "TabSeparated"
    parameters = {name[6:]: value for name, value in arguments.items() if name.startswith("param_")}
    settings = {
        name: value
        for name, value in arguments.items()
        if name not in _NOT_SETTINGS and not name.startswith("param_")
    }
    database = request.headers.get("X-ClickHouse-Database") or arguments.get("database", "")
    sql = query + b"\n" + body if query and body else query or body
    return Asked(sql, given, parameters, settings, database)


def _respond(asked: Asked, answer: Answer) -> web.Response:
    named = _FORMAT.search(asked.sql)
    shape = named[1].decode() if named else asked.format
    headers = {
        "X-ClickHouse-Server-Display-Name": "sessionwatch-embedded",
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Format": shape,
        "X-ClickHouse-Summary": orjson.dumps(
            {
                "read_rows": str(answer.rows),
                "read_bytes": str(answer.bytes_read),
                "elapsed_ns": str(int(answer.seconds * 1e9)),
            }
        ).decode(),
        "Content-Type": _TYPES.get(shape, "application/octet-stream"),
    }
    if not answer.code:
        return web.Response(body=answer.body, headers=headers)
    headers |= {"X-ClickHouse-Exception-Code": str(answer.code), "Content-Type": "text/plain; charset=UTF-8"}
    status = _STATUS.get(answer.code, 400 if answer.code < 100 else 500)
    return web.Response(body=answer.body, headers=headers, status=status)
