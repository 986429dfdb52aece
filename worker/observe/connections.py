"""Connections of our web servers: bounded in number, and closed when no complete request head arrives in time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable
    from typing import Any

    from aiohttp.web_request import BaseRequest

NO_LOG = logging.getLogger("sessionwatch.no-access-log")
NO_LOG.disabled = True
CONNECTIONS = 64
HEAD_SECONDS = 10.0
"""Seconds from a connection's start, or a request's first byte, to the end of the request's head."""
IDLE_SECONDS = 60.0
"""Seconds a connection is kept between requests."""


class Connections:
    """Creates the protocol of each new connection.

    At the limit, the connection that has been idle longest is closed; when all have a request in progress, the new one
    is closed.

    Args:
        server: answers the requests. Its handler is wrapped, so pass it to one `Connections` only.
        most: the limit of concurrent connections.
        head_seconds: seconds until a request's head must be complete.
    """

    def __init__(self, server: web.Server, *, most: int = CONNECTIONS, head_seconds: float = HEAD_SECONDS) -> None:
        self._most = most
        self._head_seconds = head_seconds
        self._open: dict[_Connection, None] = {}
        # aiohttp's defaults: header lines of at most 8 KiB, and no body is read before the handler asks for it.
        self._server = server
        self._handler: Callable[[BaseRequest], Awaitable[web.StreamResponse]] = server.request_handler
        server.request_handler = self._handle

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        loop = asyncio.get_running_loop()
        return _Connection(self, self._server, loop, self._head_seconds)

    async def close(self, seconds: float) -> None:
        """Close all connections, after some seconds for requests in progress."""
        for connection in list(self._open):
            if not connection.at_work:
                connection.abort()
        await asyncio.sleep(0)
        await self._server.shutdown(seconds)

    def admit(self, connection: _Connection) -> bool:
        """Return whether a connection is accepted, and count it."""
        if len(self._open) >= self._most:
            idle = next((each for each in self._open if not each.at_work), None)
            if idle is None:
                return False
            self.release(idle)
            idle.abort()
        self._open[connection] = None
        return True

    def release(self, connection: _Connection) -> None:
        """Count a connection as closed."""
        self._open.pop(connection, None)

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, _Connection)  # noqa: S101  made above
        connection.begin()
        try:
            return await self._handler(request)
        finally:
            connection.rest()


class BoundedSite(web.BaseSite):
    """Serves an application's runner on a socket, or on host and port, with bounded connections."""

    def __init__(self, runner: web.BaseRunner, host: str, port: int, listener: socket.socket | None = None) -> None:
        super().__init__(runner)
        self._address = (host, port)
        self._listener = listener

    @property
    def name(self) -> str:
        """Its address as a URL."""
        return "http://{}:{}".format(*self._address)

    async def start(self) -> None:
        """Start serving.

        Raises:
            OSError: the address cannot be bound.
        """
        await super().start()
        assert self._runner.server is not None  # noqa: S101  the base class has checked it
        connections, loop = Connections(self._runner.server), asyncio.get_running_loop()
        if self._listener is not None:
            self._server = await loop.create_server(connections, sock=self._listener)
        else:
            self._server = await loop.create_server(connections, *self._address)


class _Connection(web.RequestHandler):
    __slots__ = ("_connections", "_head_seconds", "_timer", "at_work")

    def __init__(
        self, connections: Connections, server: web.Server, loop: asyncio.AbstractEventLoop, head_seconds: float
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=NO_LOG,
            auto_decompress=False,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=1,
        )
        self._connections = connections
        self._head_seconds = head_seconds
        self._timer: asyncio.TimerHandle | None = None
        self.at_work = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._connections.admit(self):
            self._await_head()
        else:
            self.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.release(self)
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.at_work and self._timer is None:
            self._await_head()
        super().data_received(data)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log an error of a handler. A request that is not HTTP is not logged, or a client could fill the disk."""
        if not isinstance(kw.get("exc_info"), HttpProcessingError):
            super().log_exception(*args, **kw)

    def begin(self) -> None:
        """Record that a request's head is complete."""
        self._stop_timer()
        self.at_work = True

    def rest(self) -> None:
        """Record that a request is answered."""
        self.at_work = False

    def abort(self) -> None:
        """Close the connection at once."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    def _await_head(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._head_seconds, self.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
