"""The production worker."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import structlog

from worker.apps.build import build_worker, create_topics, settle_memory
from worker.apps.embedded import sql_endpoint
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect
from worker.stream.run import run_worker

if TYPE_CHECKING:
    from worker.settings import Settings
log = structlog.get_logger(__name__)


def serve(settings: Settings) -> int:
    """Run the production worker until it is told to stop; return the exit code.

    Raises:
        StoreUnreachableError: ClickHouse does not answer.
        MigrationError: its tables are not those of this version.
        KafkaConnectionError: Kafka does not answer.
    """
    placed = _placed(settings)
    with ExitStack() as stack:
        if settings.store_dsn().startswith("chdb:"):
            url = stack.enter_context(sql_endpoint(settings))
            log.info("SQL is served", url=url)
        with closing(connect(settings.store_dsn(), **settings.store_options())) as client:
            migrations.up(client, layout=migrations.layout_of(settings))
        asyncio.run(create_topics(settings))
        settle_memory()
        return run_worker(lambda: build_worker(placed).app)


def _placed(settings: Settings) -> Settings:
    """Return settings whose web port is a real one."""
    if settings.web.port:
        return settings
    with socket.socket() as probe:
        probe.bind((settings.web.host, 0))
        port = int(probe.getsockname()[1])
    log.info("the web server's port was chosen", port=port)
    return settings.model_copy(update={"web": settings.web.model_copy(update={"port": port})})
