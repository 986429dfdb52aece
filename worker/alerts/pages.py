"""Metrics and health of the process, on a small web server of its own."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from aiohttp import web

from worker.observe.connections import BoundedSite
from worker.observe.guard import host_guard
from worker.observe.metrics import CONTENT_TYPE, exposition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LARGEST_REQUEST = 4_096


async def serve_pages(
    host: str, port: int, token: str, problems: Callable[[], list[str]], hosts: Iterable[str] = ()
) -> web.AppRunner:
    """Serve `/metrics`, `/health/live` and `/health/ready`; return the runner, whose `cleanup` stops it.

    Args:
        host: address to listen on.
        port: its port; 0: a free one.
        token: bearer token that metrics require; empty: none.
        problems: why the process is not ready.
        hosts: host names that requests may use, in addition to addresses and `localhost`.

    Raises:
        OSError: the port is in use.
    """

    async def metrics(request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if token and not hmac.compare_digest(given, f"Bearer {token}".encode()):
            return web.json_response({"error": "a bearer token is needed: web.token"}, status=401)
        return web.Response(body=exposition(), headers={"Content-Type": CONTENT_TYPE})

    async def live(_request: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def ready(_request: web.Request) -> web.Response:
        reasons = problems()
        body = {"status": "unready" if reasons else "ready", "reasons": reasons}
        return web.json_response(body, status=503 if reasons else 200)

    app = web.Application(client_max_size=LARGEST_REQUEST, middlewares=[host_guard(hosts)])
    app.add_routes([web.get("/metrics", metrics), web.get("/health/live", live), web.get("/health/ready", ready)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await BoundedSite(runner, host, port).start()
    return runner
