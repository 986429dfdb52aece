"""ClickHouse's HTTP interface to the embedded engine, on loopback, for clients with a token.

It covers our own commands, clickhouse-connect, curl and Grafana's ClickHouse data source.
https://clickhouse.com/docs/interfaces/http
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
from aiohttp import web

from worker.embedded.access import Role
from worker.embedded.bodies import BadBodyError, TooLargeError, UnknownEncodingError, read_body
from worker.embedded.engine import Answer, Query
from worker.embedded.native import SINCE_REVISION, UnservedTypeError, framed
from worker.observe.connections import Connections

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from concurrent.futures import Future

    from aiohttp.web_request import BaseRequest

    from worker.embedded.engine import Engine

BODY_BYTES = {Role.READER: 1 << 20, Role.WRITER: 256 << 20}
BODY_SECONDS = 60.0
QUERIES_AT_ONCE = 4
"""Most queries of a role that run at once."""
WAITING = 16
"""Most queries of a role that wait; further ones are refused."""
ANSWER_SECONDS = 0.5
"""Seconds that a stop waits for answers that are being sent."""
WRITE_BYTES, WRITE_SECONDS = 1 << 20, 30.0
"""An answer is sent in pieces of so many bytes; a client has so many seconds to take each."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "host.docker.internal"})
"""Host names that requests may use. Others are refused, against DNS rebinding by web pages."""
# Arguments of the interface itself, or without effect here.
_NOT_SETTINGS = frozenset([
    "query", "database", "default_format", "session_id", "session_check", "session_timeout", "query_id", "user",
    "password", "compress", "decompress", "quota_key", "role", "client_protocol_version", "wait_end_of_query",
    "buffer_size", "enable_http_compression", "http_zlib_compression_level", "send_progress_in_http_headers",
    "http_headers_progress_interval_ms", "cancel_http_readonly_queries_on_client_close", "readonly", "async_insert",
    "wait_for_async_insert", "log_comment",
])  # fmt: skip
# From `StatusCode` in ClickHouse's HTTPHandler, for the codes that occur.
_STATUS = {60: 404, 81: 404, 47: 404, 36: 400, 62: 400, 115: 400, 164: 403, 192: 403, 202: 503, 497: 403, 516: 403,
           48: 501}  # fmt: skip
_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TabSeparatedWithNames": "text/tab-separated-values; charset=UTF-8; header=present",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
}
# The end of an insert's first line, in a body that contains statement and rows. All repeats are bounded.
_DATA = re.compile(rb"\bFORMAT[ \t]{1,8}\w{1,40}[ \t]{0,8}\r?\n", re.IGNORECASE)
_HEAD_BYTES = 1 << 16


class Tokens(NamedTuple):
    """The token of each role."""

    reader: str
    writer: str


class RequestError(Exception):
    """A request that is refused before it reaches the engine.

    Attributes:
        code: ClickHouse's error code.
        status: HTTP status.
    """

    def __init__(self, status: int, code: int, name: str, why: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {why}. ({name})\n")
        self.status = status
        self.code = code


class SqlServer:
    """Serves an open engine on a listening socket until it is stopped.

    Args:
        engine: the engine.
        tokens: the tokens of the roles.
    """

    def __init__(self, engine: Engine, tokens: Tokens) -> None:
        self._engine = engine
        self._tokens = tokens
        self._queues = {role: _Queue(role) for role in Role}
        self._connections = Connections(web.Server(self._handle, handler_cancellation=True))
        self._listening: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Start serving."""
        self._listening = await asyncio.get_running_loop().create_server(self._connections, sock=listener)

    async def stop(self, seconds: float) -> None:
        """Stop serving: cancel the queries, and wait some seconds for them."""
        if self._listening is not None:
            self._listening.close()
        killing = asyncio.get_running_loop().run_in_executor(None, self._engine.cancel_all)
        await asyncio.wait([killing], timeout=seconds)
        await self._connections.close(ANSWER_SECONDS)

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        try:
            _check_origin(request)
            if request.path in ("/ping", "/replicas_status"):
                return _respond(200, b"Ok.\n")
            if request.path != "/":
                return _respond(404, b"There is no such page.\n")
            return await self._serve(request, self._role(request))
        except RequestError as error:
            headers = {"X-ClickHouse-Exception-Code": str(error.code)}
            return _respond(error.status, str(error).encode(), headers)

    def _role(self, request: BaseRequest) -> Role:
        given = _token(request).encode()
        found = [role for role in Role if hmac.compare_digest(given, getattr(self._tokens, role).encode())]
        if not found:
            why = "Authentication failed: give the token as the password"
            raise RequestError(403, 516, "AUTHENTICATION_FAILED", why)
        return found[0]

    async def _serve(self, request: BaseRequest, role: Role) -> web.StreamResponse:
        query = _query(request, *_fields(request, await _body(request, BODY_BYTES[role])))
        if not query.sql.strip():
            return _respond(200, b"Ok.\n")
        if request.query.get("compress") == "1":
            raise RequestError(501, 48, "NOT_IMPLEMENTED", "compress=1 is not served, use none")
        answer = await self._queues[role].run(self._engine, query, uuid4().hex)
        return await _send(request, _framed(answer, request.query))


class _Queue:
    """Runs the queries of one role, some at once and some waiting."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._threads = ThreadPoolExecutor(QUERIES_AT_ONCE, thread_name_prefix=f"sql-{role}")
        self._killers = ThreadPoolExecutor(QUERIES_AT_ONCE, thread_name_prefix=f"kill-{role}")
        self._here = 0
        self._lock = threading.Lock()

    async def run(self, engine: Engine, query: Query, query_id: str) -> Answer:
        """Run a query; it is cancelled when its task is."""
        if self._here >= QUERIES_AT_ONCE + WAITING:
            raise RequestError(503, 202, "TOO_MANY_SIMULTANEOUS_QUERIES", "Too many queries wait, try again")
        self._change(1)
        engine.begin(query_id)
        running = self._threads.submit(engine.run, query, self._role, query_id)
        running.add_done_callback(partial(self._ended, engine, query_id))
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            # A query that waited may be cancelled by now.
            self._killers.submit(engine.cancel, query_id)
            raise

    def _ended(self, engine: Engine, query_id: str, _: Future[Answer]) -> None:
        engine.end(query_id)
        self._change(-1)

    def _change(self, by: int) -> None:
        with self._lock:
            self._here += by


def _check_origin(request: BaseRequest) -> None:
    """Refuse requests of web pages: with another host name, or from another origin."""
    host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
    foreign = origin is not None and origin != f"http://{host}"
    if (
        not _is_loopback(host)
        or foreign
        or request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
    ):
        raise RequestError(403, 497, "ACCESS_DENIED", "This endpoint does not answer web pages")


def _is_loopback(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in LOOPBACK
    except ValueError:
        return False


def _token(request: BaseRequest) -> str:
    """Return the token of a request: from a header, basic or bearer authentication, or the URL."""
    named = request.headers.get("X-ClickHouse-Key") or request.query.get("password", "")
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return named


async def _body(request: BaseRequest, largest: int) -> bytes:
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await read_body(request.content.iter_any(), encoding, largest)
    except TooLargeError as error:
        raise RequestError(413, 307, "TOO_MANY_BYTES", str(error)) from error
    except (UnknownEncodingError, BadBodyError) as error:
        raise RequestError(400, 354, "CANNOT_DECOMPRESS", str(error)) from error
    except TimeoutError as error:
        raise RequestError(408, 209, "SOCKET_TIMEOUT", "the body did not come in time") from error


def _fields(request: BaseRequest, body: bytes) -> tuple[dict[str, str], bytes]:
    """Return the arguments of a request, and its body; clients send long arguments as a form, which is not the body."""
    arguments = dict(request.query)
    if request.content_type != "multipart/form-data":
        return arguments, body
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode("latin-1")
    for part in message_from_bytes(head + body).walk():
        name, value = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if part.get_filename() is not None:
            raise RequestError(501, 48, "NOT_IMPLEMENTED", "tables as files are not served")
        if isinstance(name, str) and isinstance(value, bytes):
            arguments[name] = value.decode(errors="replace")
    return arguments, b""


def _query(request: BaseRequest, arguments: Mapping[str, str], body: bytes) -> Query:
    sql, data = _statement(arguments.get("query", "").encode(), body)
    try:
        text = sql.decode()
    except UnicodeDecodeError as error:
        raise RequestError(400, 62, "SYNTAX_ERROR", "the statement is not UTF-8") from error
    plain = {name: value for name, value in arguments.items() if not name.startswith("param_")}
    return Query(
        text,
        data,
        request.headers.get("X-ClickHouse-Format") or arguments.get("default_format") or "TabSeparated",
        {name[6:]: value for name, value in arguments.items() if name.startswith("param_")},
        {name: value for name, value in plain.items() if name not in _NOT_SETTINGS},
        request.headers.get("X-ClickHouse-Database") or arguments.get("database", ""),
    )


def _statement(query: bytes, body: bytes) -> tuple[bytes, bytes | None]:
    """Return the statement of a request, and the rows it inserts."""
    if query[:6].lstrip().upper().startswith(b"INSERT") and body:
        return query, body
    if query:
        return query + b"\n" + body if body else query, None
    found = _DATA.search(body, 0, _HEAD_BYTES) if body[:64].lstrip()[:6].upper() == b"INSERT" else None
    return (body[: found.end()], body[found.end() :]) if found else (body, None)


def _framed(answer: Answer, arguments: Mapping[str, str]) -> Answer:
    """Return an answer in Native, in the form that newer clients expect."""
    revision = arguments.get("client_protocol_version", "")
    if answer.code or answer.format != "Native" or not revision.isdigit() or int(revision) < SINCE_REVISION:
        return answer
    try:
        return answer._replace(body=framed(answer.body))
    except UnservedTypeError as error:
        raise RequestError(501, 48, "NOT_IMPLEMENTED", str(error)) from error


async def _send(request: BaseRequest, answer: Answer) -> web.StreamResponse:
    """Send an answer in pieces; abort when the client does not take one in time."""
    response = _head(request, answer)
    response.content_length = len(answer.body)
    await response.prepare(request)
    if request.method != "HEAD":
        for at in range(0, len(answer.body), WRITE_BYTES):
            async with asyncio.timeout(WRITE_SECONDS):
                await response.write(answer.body[at : at + WRITE_BYTES])
        await response.write_eof()
    return response


def _head(request: BaseRequest, answer: Answer) -> web.StreamResponse:
    summary = {
        "read_rows": str(answer.rows),
        "read_bytes": str(answer.bytes_read),
        "elapsed_ns": str(int(answer.seconds * 1e9)),
    }
    headers = {
        **_ALWAYS,
        "X-ClickHouse-Server-Display-Name": "sessionwatch-embedded",
        "X-ClickHouse-Query-Id": request.query.get("query_id") or str(uuid4()),
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Summary": orjson.dumps(summary).decode(),
    }
    if answer.code:
        headers |= {"X-ClickHouse-Exception-Code": str(answer.code), "Content-Type": "text/plain; charset=UTF-8"}
        return web.StreamResponse(headers=headers, status=_STATUS.get(answer.code, 500))
    # This header distinguishes an empty answer from none.
    if answer.format:
        headers["X-ClickHouse-Format"] = answer.format
        headers["Content-Type"] = _TYPES.get(answer.format, "application/octet-stream")
    return web.StreamResponse(headers=headers)


_ALWAYS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Server": "sessionwatch"}


def _respond(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=body, status=status, headers={**_ALWAYS, "Content-Type": "text/plain; charset=UTF-8", **(headers or {})}
    )
