"""The production worker."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack, closing
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog

from worker.apps.build import build_worker, settle_memory
from worker.apps.directories import writable
from worker.apps.embedded import served, web_listener
from worker.apps.topics import create_topics
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect, masked
from worker.detections.registry import catalogue
from worker.stream.run import run_worker

if TYPE_CHECKING:
    from worker.apps.build import WorkerParts
    from worker.enrich.enricher import GeoSource
    from worker.settings import Settings
    from worker.stream.app import App
log = structlog.get_logger(__name__)
DAY_SECONDS = 86_400


def serve(settings: Settings) -> int:
    """Run the production worker until SIGTERM or SIGINT; return the exit code.

    Raises:
        SettingsError: `clickhouse.dsn` is not set.
        StoreUnreachableError: ClickHouse does not answer.
        MigrationError: its tables do not match this version.
        KafkaConnectionError: Kafka does not answer.
        PortTakenError: the web server's port is in use.
        DirectoryError: the data directory is needed but cannot be written.
    """
    embedded = settings.embedded_directory()
    if embedded is not None or settings.state.store == "rocksdb":
        writable(settings.data_dir)
    with ExitStack() as stack:
        placed, listener = stack.enter_context(web_listener(settings, choose=False))
        ready = stack.enter_context(served(placed))
        if embedded is not None:
            log.info("embedded store started", directory=str(embedded))
        with closing(connect(ready.store_dsn(), **ready.store_options())) as client:
            migrations.up(client, layout=migrations.layout_of(ready))
        asyncio.run(create_topics(ready))
        settle_memory()
        return run_worker(lambda: _announced(ready, build_worker(ready, web_socket=listener)))


def _announced(settings: Settings, parts: WorkerParts) -> App:
    """Log the configuration of the worker in a few lines."""
    topics, web, kafka = settings.topics, settings.web, settings.kafka.bootstrap_servers
    address = f"http://{web.reachable_host()}:{web.port}"
    log.info("sessionwatch starts", version=version("sessionwatch"), rules=len(catalogue().detections))
    log.info("Kafka", brokers=kafka, group=settings.stream.group_id, partitions=topics.partitions)
    log.info("topics", events=topics.events, findings=topics.findings, incidents=topics.incidents, dlq=topics.dlq)
    for name, each in topics.sources.items():
        log.info("further input topic", topic=name, mapping=each.mapping)
    log.info("ClickHouse", store=masked(settings.store_dsn()))
    log.info("web server", address=address, bearer_required=web.token is not None)
    for source in parts.sources():
        log.info("enrichment source", source=source.name, origin=source.origin, age_days=_age_days(source))
    return parts.app


def _age_days(source: GeoSource) -> int | None:
    return int((time.time() - source.built) / DAY_SECONDS) if source.built else None
