"""The process of the embedded store: `python -m worker.embedded.server`, started by `worker.embedded.store`.

It reads one line of JSON from its standard input (directory, listening socket, tokens), opens the engine, answers with
one line, and serves until SIGTERM or the end of its standard input, which ends with the parent.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from worker.embedded.engine import Engine
from worker.embedded.http import SqlServer, Tokens

STOP_SECONDS = 1.5
"""Seconds that a stop waits for cancelled queries and the engine."""


class Order(NamedTuple):
    """The parent's line.

    Attributes:
        directory: the chDB directory.
        listener: descriptor of the listening socket.
        reader: the readers' token.
        writer: the writers' token.
    """

    directory: str
    listener: int
    reader: str
    writer: str


def main() -> None:
    """Serve until stopped; then the process ends even if the engine hangs."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    order = Order(**orjson.loads(sys.stdin.buffer.readline()))
    engine = Engine(Path(order.directory))
    try:
        engine.__enter__()
    except Exception as error:  # noqa: BLE001  the parent words it
        _say({"error": str(error)})
        os._exit(1)
    asyncio.run(_serve(engine, order))
    closing = threading.Thread(target=engine.__exit__, daemon=True)
    closing.start()
    closing.join(STOP_SECONDS)
    # A query that does not end blocks a thread, which a normal exit would wait for.
    os._exit(0)


async def _serve(engine: Engine, order: Order) -> None:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    threading.Thread(target=_watch_parent, args=(loop, stopped), daemon=True).start()
    server = SqlServer(engine, Tokens(order.reader, order.writer))
    await server.start(socket.socket(fileno=order.listener))
    _say({"ready": True})
    await stopped.wait()
    await server.stop(STOP_SECONDS)


def _watch_parent(loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    sys.stdin.buffer.read()
    loop.call_soon_threadsafe(stopped.set)


def _say(what: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
