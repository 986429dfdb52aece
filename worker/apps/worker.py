"""The production worker."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import structlog

from worker.apps.build import build_worker, create_topics, settle_memory
from worker.apps.embedded import served, web_listener
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect
from worker.stream.run import run_worker

if TYPE_CHECKING:
    import socket

    from worker.settings import Settings
log = structlog.get_logger(__name__)


def serve(settings: Settings) -> int:
    """Run the production worker until it is told to stop; return the exit code.

    Raises:
        SettingsError: `clickhouse.dsn` is not set.
        StoreUnreachableError: ClickHouse does not answer.
        MigrationError: its tables are not those of this version.
        KafkaConnectionError: Kafka does not answer.
    """
    embedded = settings.embedded_directory()
    with ExitStack() as stack:
        placed, listener = _placed(settings, stack)
        ready = stack.enter_context(served(placed))
        if embedded is not None:
            log.info("embedded store started", directory=str(embedded))
        with closing(connect(ready.store_dsn(), **ready.store_options())) as client:
            migrations.up(client, layout=migrations.layout_of(ready))
        asyncio.run(create_topics(ready))
        settle_memory()
        return run_worker(lambda: build_worker(ready, web_socket=listener).app)


def _placed(settings: Settings, stack: ExitStack) -> tuple[Settings, socket.socket | None]:
    """Return settings whose web port is a real one, and the socket it was bound with."""
    if settings.web.port:
        return settings, None
    placed, listener = stack.enter_context(web_listener(settings))
    log.info("the web server's port was chosen", port=placed.web.port)
    return placed, listener
