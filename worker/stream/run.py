"""Runs a worker: inside an event loop, or as a process until a signal stops it."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaConnectionError
from mode import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from worker.stream.app import App

log = get_logger(__name__)

EXIT_OK, EXIT_CRASHED, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 0, 1, 3, 130
STOP_SECONDS = 4.0
"""Seconds beyond `drain_seconds` that a stop may take before the process ends without leaving the group."""


@asynccontextmanager
async def running(app: App) -> AsyncIterator[App]:
    """Run a worker inside this event loop; yield it once its partitions are assigned and recovered.

    Raises:
        Exception: the error the worker failed with.
    """
    try:
        await app.start()
        raise_failure(app)
        yield app
        raise_failure(app)
    finally:
        await _stop(app)


def raise_failure(app: App) -> None:
    """Raise the error a worker failed with, if it did."""
    if app.failure is not None:
        raise app.failure


async def _stop(app: App) -> bool:
    """Stop a worker; return False when it takes too long, as it may after a crash of one of Faust's services."""
    stopping = asyncio.create_task(app.stop())
    # `wait_for` would also wait for the cancelled stop, which a client can delay when no broker answers.
    done, _ = await asyncio.wait([stopping], timeout=app.settings.drain_seconds + STOP_SECONDS)
    if not done:
        log.error(
            "The worker did not stop within %.0f s; ending the process", app.settings.drain_seconds + STOP_SECONDS
        )
        return False
    await stopping
    return True


def run_worker(make_app: Callable[[], App]) -> int:
    """Run a worker until SIGTERM or SIGINT stops it gracefully; a second signal ends the process at once.

    Returns:
        Exit code: 0 stopped, 1 failed, 3 Kafka cannot be reached, 130 (from the process) forced.
    """
    return asyncio.run(_run(make_app))


async def _run(make_app: Callable[[], App]) -> int:
    app = make_app()
    asked = asyncio.Event()

    def on_signal() -> None:
        if asked.is_set():
            os._exit(EXIT_INTERRUPTED)
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    starting = asyncio.create_task(app.start())
    code = await _until_asked(app, starting, asked)
    if code == EXIT_OK and app.is_cut_off:
        log.warning("Stopped without Kafka: batches in flight are not committed, and will be computed again")
        os._exit(code)
    if not await _stop(app):
        os._exit(code or EXIT_CRASHED)
    return code


async def _until_asked(app: App, starting: asyncio.Task[Any], asked: asyncio.Event) -> int:
    waiting = asyncio.create_task(asked.wait())
    while not asked.is_set() and app.failure is None:
        await asyncio.wait([waiting, starting] if not starting.done() else [waiting], timeout=0.2,
                           return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
        if starting.done() and (error := starting.exception()) is not None:
            log.error("The worker could not start: %s", str(error) or type(error).__name__)
            return EXIT_UNREACHABLE if isinstance(error, KafkaConnectionError | OSError) else EXIT_CRASHED
    return EXIT_OK if app.failure is None else EXIT_CRASHED
