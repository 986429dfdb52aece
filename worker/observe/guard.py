"""Checks of every request: the host name is that of this server, and the answer does not take too long."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp.typedefs import Handler, Middleware

PAGE_SECONDS = 10.0
HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
MISDIRECTED = "this host name is not allowed; add it to web.allowed_hosts\n"


def host_guard(names: Iterable[str]) -> Middleware:
    """Return a middleware that refuses requests for host names that are not ours, and slow pages.

    A web page that has its own host name resolve to this server's address (DNS rebinding) sends that name as `Host`.
    Addresses and `localhost` need no list: no page of another site can read answers from them.

    Args:
        names: host names this server answers to, whatever their case.
    """
    ours = frozenset({"localhost", *(name.lower() for name in names)})

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_ours(request.headers.getall("Host", []), ours):
            return web.Response(status=421, text=MISDIRECTED, headers=HEADERS)
        try:
            async with asyncio.timeout(PAGE_SECONDS):
                answer = await handler(request)
        except TimeoutError:
            return web.Response(status=503, text="the page took too long\n", headers=HEADERS)
        answer.headers.update(HEADERS)
        return answer

    return guard


def is_ours(given: list[str], names: frozenset[str]) -> bool:
    """Return whether the values of `Host` name this server; a client that sends none is not a browser.

    >>> is_ours(["[::1]:6066"], frozenset()), is_ours(["evil.example"], frozenset({"worker"}))
    (True, False)
    """
    return not given or (len(given) == 1 and _is_known(given[0], names))


def _is_known(given: str, names: frozenset[str]) -> bool:
    try:
        host = (urlsplit(f"//{given}").hostname or "").removesuffix(".")
    except ValueError:
        return False
    return host in names or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
