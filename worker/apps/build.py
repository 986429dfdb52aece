"""Builds a worker and its parts from settings."""

from __future__ import annotations

import gc
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from schemas.decoding import Decoder
from schemas.decoding.mapping import BadMappingError
from schemas.keys import partition_of
from schemas.mappings import builtin, read_mapping
from worker.clickhouse.writer import ClickHouseWriter, connect
from worker.detections.policies import BadPolicyError, Policies
from worker.detections.registry import catalogue, require_plugins
from worker.enrich.enricher import build_enricher
from worker.enrich.geoip import GeoFileError
from worker.observe.recorder import Recorder
from worker.observe.web import add_pages
from worker.observe.writer import StoreObserver
from worker.pipeline.batch import Pipeline
from worker.pipeline.readers import KafkaReader
from worker.stream.app import create_app
from worker.stream.connection import aiokafka_options
from worker.stream.inflight import DeliveryLimits
from worker.stream.options import TABLE, StreamOptions

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable
    from collections.abc import Mapping as MappingOf
    from concurrent.futures import Future

    from clickhouse_connect.driver.client import Client

    from schemas.decoding.mapping import Mapping
    from worker.detections.api import Detection
    from worker.enrich.enricher import Enricher, GeoSource
    from worker.settings import GeoSettings, Settings, SourceTopic
    from worker.stream.app import App
log = structlog.get_logger(__name__)


class WorkerParts(NamedTuple):
    """The connected parts of a worker."""

    app: App
    writer: ClickHouseWriter
    recorder: Recorder
    sources: Callable[[], Iterable[GeoSource]]


def usable_detections(settings: Settings) -> MappingOf[str, Detection[Any]]:
    """Return the detections in use; an unusable plug-in is logged if the settings say to skip it.

    Raises:
        PluginError: a plug-in cannot be used.
    """
    if settings.detections.broken_plugins == "fail":
        require_plugins()
    for reason in catalogue().broken:
        log.warning("continuing without a plug-in", why=reason)
    return catalogue().detections


def wall_clock() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def build_decoder(settings: Settings, clock_skew: int | None = None, source: SourceTopic | None = None) -> Decoder:
    """Return the decoder of an input topic.

    Args:
        settings: those in force.
        clock_skew: how far a time may be ahead of its record, milliseconds; None: as in the settings.
        source: the further input topic that it decodes; None: the first one.

    Raises:
        BadMappingError: the mapping does not exist or cannot be used.
    """
    given, read = settings.input, source or settings.input
    return Decoder(
        skew_ms=settings.state.limits().clock_skew if clock_skew is None else clock_skew,
        max_bytes=settings.stream.max_record_bytes,
        mappings=builtin().values() if read.mapping == "auto" else (),
        mapping=None if read.mapping in ("auto", "none") else find_mapping(read.mapping),
        tenant_id=read.tenant_id,
        end_words=given.end_words,
        placeholder=given.unavailable_placeholder,
    )


def source_decoders(settings: Settings) -> dict[str, Decoder]:
    """Return the decoders of the further input topics, by topic.

    Raises:
        BadMappingError: a mapping does not exist or cannot be used.
    """
    return {topic: build_decoder(settings, source=source) for topic, source in settings.topics.sources.items()}


def find_mapping(name: str) -> Mapping:
    """Return a mapping by its name, or by the path of its file.

    Raises:
        BadMappingError: it does not exist, or cannot be used.
    """
    known = builtin()
    if name in known:
        return known[name]
    try:
        return read_mapping(Path(name).read_text(encoding="utf-8"))
    except OSError:
        raise BadMappingError(f"no mapping {name!r}: neither a file nor one of {', '.join(sorted(known))}") from None
    except BadMappingError as error:
        raise BadMappingError(f"{name}: {error}") from None


def build_pipeline(settings: Settings, policies: Policies, enricher: Enricher) -> Pipeline:
    """Return the pipeline that the settings describe."""
    return Pipeline(
        reader=KafkaReader(enricher, build_decoder(settings), source_decoders(settings)),
        engine_for=policies.engine_for,
        topics=settings.topics,
        partition_of=partial(partition_of, partitions=settings.topics.partitions),
        limits=settings.state.limits(),
        incidents=settings.incident.limits(),
        max_bytes=settings.stream.max_record_bytes,
        pseudonyms=settings.privacy.pseudonyms(),
        operator=settings.correlation.operator(),
    )


def geo_enricher(geo: GeoSettings) -> Enricher:
    """Return an enricher that reads the files of the settings.

    Raises:
        worker.enrich.geoip.GeoFileError: one cannot be read.
    """
    return build_enricher(geo.city_db, geo.asn_db, geo.networks, threat_lists=geo.threat_lists)


def _reloader(enricher: Enricher) -> Callable[[], Awaitable[None]]:
    """Return a function that reloads geo files and threat lists which were replaced while the worker runs."""

    async def reload_geo_files() -> None:
        try:
            if enricher.reload():
                log.info("geo files and threat lists reloaded")
        except GeoFileError as error:
            log.warning("a geo file or threat list cannot be read; its last content stays in use", why=str(error))

    return reload_geo_files


def build_worker(
    settings: Settings,
    *,
    timer_clock: str = "wall",
    web: bool = True,
    web_socket: socket.socket | None = None,
    patience: float | None = None,
    tables: Future[None] | None = None,
) -> WorkerParts:
    """Return a worker that is not started yet; call it in the loop that will run it.

    Args:
        settings: all settings.
        timer_clock: `wall`, or `stream` for event time.
        web: serve the pages.
        web_socket: the listening socket of the pages; None: bind host and port of the settings.
        patience: seconds after which inserts that fail end the worker; None: it retries without limit.
        tables: the first insert waits for this future, and its error ends the worker; None: the store is ready.

    Raises:
        worker.enrich.geoip.GeoFileError: a geo file is given and cannot be read.
    """
    recorder = Recorder(wall_clock, settings.stream.max_reject_share)
    policies = Policies(usable_detections(settings).values(), recorder.on_detection_failure)
    enricher = geo_enricher(settings.geo)
    enricher.warm()
    writer = ClickHouseWriter(
        partial(_connect, settings, tables),
        observer=StoreObserver(),
        clock=time.monotonic,
        longest_wait=settings.delivery.retry_max_delay_s,
        patience=patience,
    )
    app = create_app(
        stream_options(settings, timer_clock, web=web, web_socket=web_socket),
        build_pipeline(settings, policies, enricher),
        writer,
        observer=recorder,
        on_policy=_policy_taker(policies),
    )
    app.timer(interval=settings.geo.reload_interval_s)(_reloader(enricher))
    if web:
        add_pages(
            app,
            table=TABLE,
            limits=settings.state.limits(),
            clock=wall_clock,
            sources=enricher.sources,
            reasons=lambda: [*_store_problems(writer), *recorder.rejects.problems()],
            token=settings.web.token.get_secret_value() if settings.web.token else "",
            hosts=settings.web.hosts(),
            clear_token=settings.web.forward_over_http,
            pseudonyms=settings.privacy.pseudonyms(),
        )
    return WorkerParts(app, writer, recorder, enricher.sources)


def _connect(settings: Settings, tables: Future[None] | None) -> Client:
    """Connect to the store once it has its tables."""
    if tables is not None:
        tables.result()
    return connect(settings.store_dsn(), **settings.store_options())


def _store_problems(writer: ClickHouseWriter) -> list[str]:
    since = writer.failing_since
    return [] if since is None else [f"ClickHouse has refused writes for {time.monotonic() - since:.0f} s"]


def _policy_taker(policies: Policies) -> Callable[[str, bytes | None], None]:
    def take(tenant_id: str, document: bytes | None) -> None:
        try:
            policies.set(tenant_id, document)
        except BadPolicyError as error:
            log.warning("policy refused, the tenant's last good one stays in force", tenant=tenant_id, why=str(error))

    return take


def stream_options(
    settings: Settings, timer_clock: str, *, web: bool, web_socket: socket.socket | None = None
) -> StreamOptions:
    """Return the options of the stream layer."""
    delivery, stream = settings.delivery, settings.stream
    return StreamOptions(
        kafka=aiokafka_options(settings.kafka),
        group=stream.group_id,
        events=settings.topics.events,
        sources=tuple(settings.topics.sources),
        by_user=settings.topics.by_user,
        starts=settings.topics.starts,
        findings=settings.topics.findings,
        feedback=settings.topics.feedback,
        dlq=settings.topics.dlq,
        policies=settings.topics.policies,
        partitions=settings.topics.partitions,
        replication=settings.topics.replication,
        session_timeout=stream.session_timeout_s,
        fetch_wait=stream.fetch_max_wait_ms / 1000,
        commit_interval=stream.commit_interval_s,
        batch_records=stream.max_batch_records,
        limits=DeliveryLimits(
            insert_rows=delivery.max_rows,
            insert_delay=delivery.max_delay_ms / 1000,
            max_rows=delivery.max_inflight_rows,
            max_bytes=delivery.max_inflight_bytes,
            stall_seconds=delivery.stall_s,
        ),
        timer_interval=stream.timer_interval_s,
        timer_clock="stream" if timer_clock == "stream" else "wall",
        drain_seconds=stream.drain_s,
        state_dir=settings.data_dir / "state" if settings.state.store == "rocksdb" else None,
        web=web,
        web_bind=settings.web.host,
        web_host=settings.web.reachable_host(),
        web_port=settings.web.port,
        web_socket=web_socket,
    )


def settle_memory() -> None:
    """Exclude the objects of the start-up from garbage collection, and collect seldom.

    States are decoded and encoded by the million and contain no cycles; collecting them costs a third of the speed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 1000)
