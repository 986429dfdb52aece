"""ClickHouse's HTTP interface as it is on a bad day: a proxy that refuses, dawdles, answers errors, or hangs up."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

# What ClickHouse answers: https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
ERRORS = {
    "too-many-parts": (252, "Too many parts (3000). Merges are processing significantly slower than inserts."),
    "read-only": (164, "Cannot execute query in readonly mode."),
    "disk-full": (243, "Cannot reserve 1.00 MiB, not enough space"),
}
FAULTS = ("refuse", "slow", "dies-before", "dies-after", *ERRORS)
SLOW_SECONDS = 5.0


class Proxy:
    """Passes requests on to an endpoint; `fault` says what goes wrong with those that insert.

    Attributes:
        fault: one of `FAULTS`, or empty. `pace`: seconds every insert takes longer, so that there is time for faults.
        hit: how often each went wrong.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.fault, self.pace = "", 0.0
        self.hit: Counter[str] = Counter()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


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
        inserts = "INSERT" in self.path.upper() or b"INSERT" in body[:200].upper()
        if not inserts:
            self._pass_on(body)
            return
        time.sleep(proxy.pace)
        if not fault:
            self._pass_on(body)
            return
        proxy.hit[fault] += 1
        if fault in ("refuse", "dies-before"):
            self._hang_up()
        elif fault == "dies-after":
            self._forward(body)
            self._hang_up()
        elif fault == "slow":
            time.sleep(SLOW_SECONDS)
            self._pass_on(body)
        else:
            code, text = ERRORS[fault]
            message = f"Code: {code}. DB::Exception: {text}".encode()
            self._answer(500, {"X-ClickHouse-Exception-Code": str(code)}, message)

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
