"""HTTP client for destinations: checked addresses, no redirects, bounded answers, time-outs, verified certificates."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp

from worker.alerts.guard import AddressGuard, BlockedAddressError
from worker.alerts.outcome import Outcome, Result
from worker.alerts.schedule import retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.alerts.config import HttpDestination

CONNECT_SHARE = 0.5
"""Share of an attempt's time-out that is for connecting."""
LARGEST_ANSWER = 4_096
MESSAGE_ERRORS = frozenset({400, 406, 409, 413, 414, 415, 422, 431})
"""Status codes that concern this message, not the destination."""
GONE = 410


class Request(NamedTuple):
    """A request to a destination."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    method: str = "POST"


class HttpClient:
    """Sends requests of one destination.

    Args:
        config: the destination.
        clock: milliseconds since the epoch.
    """

    def __init__(self, config: HttpDestination, clock: Callable[[], int]) -> None:
        self._config = config
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: Request, accept: frozenset[int] = frozenset()) -> Result:
        """Send a request and return the result. Statuses in `accept` count as delivered, like 2xx."""
        if not (request.url.startswith("https://") or self._config.allow_http):
            return Result(Outcome.REFUSED, error="plain HTTP is not allowed: set allow_http, or use https")
        try:
            async with asyncio.timeout(self._config.timeout_s):
                return await self._send(request, accept)
        except TimeoutError:
            return Result(Outcome.UNAVAILABLE, error=f"no answer within {self._config.timeout_s:g} s")
        except BlockedAddressError as error:
            return Result(Outcome.UNAVAILABLE, error=str(error))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Result(Outcome.UNAVAILABLE, error=_why(error))

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    async def _send(self, request: Request, accept: frozenset[int]) -> Result:
        async with self._opened().request(
            request.method, request.url, data=request.body, headers=dict(request.headers), allow_redirects=False
        ) as answer:
            body = await answer.content.read(LARGEST_ANSWER)
            return judged(
                answer.status, accept, retry_after(answer.headers.get("Retry-After"), self._clock()), _text(body)
            )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            config = self._config
            guard = AddressGuard(allow_private=config.allow_private, networks=config.allowed_networks)
            connector = aiohttp.TCPConnector(
                ssl=tls_context(config.ca_cert),
                socket_factory=guarded_socket(guard),
                ttl_dns_cache=30,
                limit=config.concurrency,
                keepalive_timeout=15,
            )
            timeout = aiohttp.ClientTimeout(
                total=config.timeout_s, sock_connect=config.timeout_s * CONNECT_SHARE, sock_read=config.timeout_s
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                headers={"User-Agent": "sessionwatch"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


def guarded_socket(guard: AddressGuard) -> Callable[[Any], socket.socket]:
    """Return a socket factory that checks the address of each connection."""

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        guard.check(address[0])
        return socket.socket(family, kind, protocol)

    return make


async def connect(host: str, port: int, guard: AddressGuard, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Return a socket connected to the first address of a host that is allowed and answers.

    Raises:
        OSError: there is no such address.
    """
    loop = asyncio.get_running_loop()
    failed: OSError = OSError(f"{host} has no address")
    for info in await loop.getaddrinfo(host, port, type=kind):
        try:
            made = guarded_socket(guard)(info)
        except BlockedAddressError as error:
            failed = error
            continue
        made.setblocking(False)
        try:
            await loop.sock_connect(made, info[-1])
        except OSError as error:
            made.close()
            failed = error
        except BaseException:
            made.close()
            raise
        else:
            return made
    raise failed


def tls_context(ca_cert: object) -> ssl.SSLContext:
    """Return a TLS context that verifies servers, with the given CA certificates or the system's."""
    context = ssl.create_default_context(cafile=str(ca_cert) if ca_cert else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def judged(status: int, accept: frozenset[int], wait: float | None, text: str) -> Result:
    """Return the result for an HTTP status."""
    if 200 <= status < 300 or status in accept:
        return Result(Outcome.DELIVERED, status)
    if status == GONE:
        return Result(Outcome.GONE, status, "HTTP 410: the receiver does not accept messages any more")
    if 300 <= status < 400:
        return Result(Outcome.UNAVAILABLE, status, f"HTTP {status}: redirects are not followed")
    outcome = Outcome.REFUSED if status in MESSAGE_ERRORS else Outcome.UNAVAILABLE
    return Result(outcome, status, f"HTTP {status} {text}".strip(), wait)


def _text(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _why(error: BaseException) -> str:  # noqa: PLR0911  a table in the form of a function
    """Return why a request failed, in a text that cannot contain its address."""
    if isinstance(cause := getattr(error, "os_error", None), OSError):
        return _why(cause)
    if isinstance(error, aiohttp.InvalidURL):
        return "the address is not a valid URL"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate was not accepted: {error.verify_message}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "the server's certificate was not accepted"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed before an answer came"
    if isinstance(error, OSError) and error.strerror:
        return f"no connection: {error.strerror}"
    return str(error) if isinstance(error, BlockedAddressError) else f"no connection: {type(error).__name__}"
