"""Stands for a store on another machine: acknowledges inserts at once and forwards other requests to a real store.

So the measurement includes sending the rows, but not the processor time of the store.

python -m bench.acknowledging PORT URL_OF_THE_STORE
"""

from __future__ import annotations

import re
import sys

from aiohttp import ClientSession, web

_INSERT = re.compile(r"\s*INSERT\s+INTO\s+\W?(session_events|sessions|findings|incidents)\b", re.IGNORECASE)
LARGEST_BODY = 1 << 30
_OF_CONNECTION = {"host", "content-length", "transfer-encoding", "connection"}
"""Headers of a connection. Bodies of answers are decoded here; bodies of requests are forwarded unchanged."""


async def handle(request: web.Request) -> web.StreamResponse:
    """Answer a request."""
    body = await request.read()
    if _INSERT.match(request.query.get("query", "")):
        return web.Response(headers={"X-ClickHouse-Summary": "{}"})
    url = request.app["store"] + request.path_qs
    sent = {name: value for name, value in request.headers.items() if name.lower() not in _OF_CONNECTION}
    async with request.app["session"].request(request.method, url, data=body, headers=sent) as answer:
        left_out = _OF_CONNECTION | {"content-encoding"}
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in left_out}
        return web.Response(status=answer.status, body=await answer.read(), headers=headers)


async def close(app: web.Application) -> None:
    """Close the connections to the store."""
    await app["session"].close()


async def create(store: str) -> web.Application:
    """Return the server in front of a store."""
    app = web.Application(client_max_size=LARGEST_BODY)
    app["store"], app["session"] = store, ClientSession(auto_decompress=True)
    app.on_cleanup.append(close)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


if __name__ == "__main__":
    web.run_app(create(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), print=None)
