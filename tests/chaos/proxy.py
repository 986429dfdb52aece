"""ClickHouse's HTTP interface as it is on a bad day: a proxy that refuses, dawdles, answers errors, or hangs up."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

from tests.chaos.msgpack import first_half
from worker.clickhouse.writer import FORMAT as ROWS

# What ClickHouse answers: https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
ERRORS = {
    "too-many-parts": (252, "Too many parts (3000). Merges are processing significantly slower than inserts."),
    "read-only": (164, "Cannot execute query in readonly mode."),
    "disk-full": (243, "Cannot reserve 1.00 MiB, not enough space"),
}
FAULTS = ("refuse", "slow", "hangs", "dies-before", "dies-amid", "dies-after", *ERRORS)
"""`dies-*`: before anything, after half of the rows, or after all of them were written, and never with an answer."""
SLOW_SECONDS = 5.0
COLUMNS = re.compile(rb"INSERT INTO [^(]*\(([^)]*)\)", re.IGNORECASE)


class Proxy:
    """Passes requests on to an endpoint, and has those that insert go wrong.

    Attributes:
        fault: one of `FAULTS`, or empty; with `refuse` nobody listens. `pace`: seconds every insert takes longer, so
            that there is time for faults.
        hit: how often each went wrong.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.pace = 0.0
        self.hit: Counter[str] = Counter()
        self.port = 0
        self._fault = ""
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._fault = ""
        self._deafen()

    @property
    def fault(self) -> str:
        """What goes wrong at present."""
        return self._fault

    @fault.setter
    def fault(self, fault: str) -> None:
        self._fault = fault
        if fault == "refuse":
            self.hit[fault] += 1
            self._deafen()
        elif self._server is None:
            self._listen()

    def _listen(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.proxy = self
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _deafen(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: Proxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a worker that was killed hangs up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self._body()
        proxy, fault = self.server.proxy, self.server.proxy.fault
        if fault == "refuse":
            self._hang_up()
            return
        # Of a migration's own notes there are too few to matter, and a worker does not start without them.
        inserts = ROWS in self.path or ROWS.encode() in body[:2_000]
        if inserts:
            time.sleep(proxy.pace)
        if not inserts or not fault:
            self._pass_on(body)
            return
        proxy.hit[fault] += 1
        self._fail(fault, body)

    def _fail(self, fault: str, body: bytes) -> None:
        if fault in ERRORS:
            code, text = ERRORS[fault]
            self._answer(
                500, {"X-ClickHouse-Exception-Code": str(code)}, f"Code: {code}. DB::Exception: {text}".encode()
            )
        elif fault == "slow":
            time.sleep(SLOW_SECONDS)
            self._pass_on(body)
        elif fault == "hangs":
            while self.server.proxy.fault == fault:
                time.sleep(0.1)
            self._hang_up()
        else:
            if fault != "dies-before":
                self._forward(self._half(body) if fault == "dies-amid" else body)
            self._hang_up()

    def _half(self, body: bytes) -> bytes:
        """Return an insert with half of its rows; clickhouse-connect sends the statement in the body or in the URL."""
        statement = parse_qs(urlsplit(self.path).query).get("query", [""])[0].encode()
        head = 0 if statement else body.index(b"\n") + 1
        columns = COLUMNS.search(statement or body[:head])
        assert columns, "an insert that names no columns"
        return body[:head] + first_half(body[head:], columns[1].count(b",") + 1)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = HTTPConnection(self.server.proxy.upstream, timeout=120)
        skipped = {"transfer-encoding", "content-length", "connection", "host"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in skipped}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        found = {name: value for name, value in answer.getheaders() if name.lower() not in skipped}
        return answer.status, found, answer.read()

    def _pass_on(self, body: bytes) -> None:
        self._answer(*self._forward(body))

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("server", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name in the standard library
        """Say nothing."""
