"""ClickHouse's HTTP interface over the embedded engine, on loopback, in a thread of its own.

One process may open a chDB directory, so the worker serves it: curl, clickhouse-connect and Grafana's ClickHouse
data source query while it runs. https://clickhouse.com/docs/interfaces/http
"""

from __future__ import annotations

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Self
from uuid import uuid4

import lz4.frame
import orjson
from aiohttp import web

from worker.embedded.native import SINCE_REVISION, UnservedTypeError, framed
from worker.embedded.store import Answer, Asked, EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

LARGEST_BODY = 1 << 30
QUERIES_AT_ONCE = 4
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "host.docker.internal"})
"""Names a request may call this host by: a page of the web that has its own name lead here is refused."""
# What the interface itself takes, or what means nothing to an engine in the process.
_NOT_SETTINGS = frozenset([
    "query", "database", "default_format", "session_id", "session_check", "session_timeout", "query_id", "user",
    "password", "compress", "decompress", "quota_key", "role", "client_protocol_version", "wait_end_of_query",
    "buffer_size", "enable_http_compression", "http_zlib_compression_level", "send_progress_in_http_headers",
    "http_headers_progress_interval_ms", "cancel_http_readonly_queries_on_client_close", "readonly", "async_insert",
    "wait_for_async_insert",
])  # fmt: skip
# Of `StatusCode` in ClickHouse's HTTPHandler, for the codes that come up.
_STATUS = {60: 404, 81: 404, 47: 404, 36: 400, 62: 400, 115: 400, 164: 403, 192: 403, 497: 403, 516: 403, 48: 501}
_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TabSeparatedWithNames": "text/tab-separated-values; charset=UTF-8; header=present",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
}
_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
# Of `INSERT … FORMAT Values` and `INSERT … VALUES` the data are SQL.
_INSERTS = re.compile(rb"\s*INSERT\s.*\sFORMAT\s+(?!VALUES\b)\w+\s*", re.IGNORECASE | re.DOTALL)
_INSERTS_LINE = re.compile(rb"\s*INSERT\s[^;]*?\sFORMAT\s+(?!VALUES\b)\w+[ \t]*\r?\n", re.IGNORECASE)
_WRITES = re.compile(
    rb"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:INSERT|CREATE|DROP|ALTER|TRUNCATE|RENAME|EXCHANGE|OPTIMIZE|SYSTEM|SET|USE)\b",
    re.IGNORECASE | re.DOTALL,
)


class HttpEndpoint:
    """Serves a chDB directory over HTTP until the context is left.

    Args:
        directory: the chDB directory; this process must be the one that has it open.
        port: loopback port; 0 takes a free one.
        read_only: refuse whatever changes something.
    """

    def __init__(self, directory: Path, port: int = 0, *, read_only: bool = True) -> None:
        self._store = EmbeddedStore(directory, read_only=read_only)
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
        self._store.__enter__()
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._queries.shutdown(wait=True)
        self._store.__exit__()

    async def _start(self) -> None:
        app = web.Application(client_max_size=LARGEST_BODY, middlewares=[_from_here])
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
        answer_of = partial(_answer, self._store, asked, request.query)
        answer = await asyncio.get_running_loop().run_in_executor(self._queries, answer_of)
        return _respond(asked, answer, request.query.get("query_id") or str(uuid4()))


def _answer(store: EmbeddedStore, asked: Asked, arguments: Mapping[str, str]) -> Answer:
    if arguments.get("compress") == "1":
        return _not_served("compress=1 is not served, use HTTP compression or none")
    answer = store.run(asked)
    revision = arguments.get("client_protocol_version", "")
    if answer.code or _shape(asked) != "Native" or not revision.isdigit() or int(revision) < SINCE_REVISION:
        return answer
    try:
        return answer._replace(body=framed(answer.body))
    except UnservedTypeError as error:
        return _not_served(str(error))


def _not_served(what: str) -> Answer:
    return Answer(f"Code: 48. DB::Exception: {what}. (NOT_IMPLEMENTED)\n".encode(), code=48)


@web.middleware
async def _from_here(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if (request.url.host or "") not in LOOPBACK:
        return web.Response(text="This endpoint answers on loopback only.\n", status=403)
    return await handler(request)


async def _ok(_request: web.Request) -> web.Response:
    return web.Response(text="Ok.\n", content_type="text/html")


async def _read(request: web.Request) -> Asked:
    arguments = request.query
    body = await request.read()
    if request.headers.get("Content-Encoding") == "lz4":
        body = lz4.frame.decompress(body)
    given = request.headers.get("X-ClickHouse-Format") or arguments.get("default_format") or "TabSeparated"
    parameters = {name[6:]: value for name, value in arguments.items() if name.startswith("param_")}
    settings = {
        name: value for name, value in arguments.items() if name not in _NOT_SETTINGS and not name.startswith("param_")
    }
    database = request.headers.get("X-ClickHouse-Database") or arguments.get("database", "")
    sql, data = _statement(arguments.get("query", "").encode(), body)
    return Asked(sql, data, given, parameters, settings, database)


def _statement(query: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Return the statement of a request, and the data it inserts."""
    if _INSERTS.fullmatch(query):
        return query, body
    if not query and (found := _INSERTS_LINE.match(body)):
        return found[0], body[found.end() :]
    return query + b"\n" + body if query and body else query or body, b""


def _respond(asked: Asked, answer: Answer, query_id: str) -> web.Response:
    summary = {
        "read_rows": str(answer.rows),
        "read_bytes": str(answer.bytes_read),
        "elapsed_ns": str(int(answer.seconds * 1e9)),
    }
    headers = {
        "X-ClickHouse-Server-Display-Name": "sessionwatch-embedded",
        "X-ClickHouse-Query-Id": query_id,
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Summary": orjson.dumps(summary).decode(),
    }
    if answer.code:
        headers |= {"X-ClickHouse-Exception-Code": str(answer.code), "Content-Type": "text/plain; charset=UTF-8"}
        return web.Response(body=answer.body, headers=headers, status=_STATUS.get(answer.code, 500))
    # By this header clients tell an empty answer from none.
    if not _WRITES.match(asked.sql):
        headers["X-ClickHouse-Format"] = shape = _shape(asked)
        headers["Content-Type"] = _TYPES.get(shape, "application/octet-stream")
    return web.Response(body=answer.body, headers=headers)


def _shape(asked: Asked) -> str:
    named = _FORMAT.search(asked.sql)
    return named[1].decode() if named else asked.format
