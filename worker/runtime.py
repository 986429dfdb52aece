"""The composition: settings in, a running worker out. The one place that knows every part."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import time
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import orjson
import structlog
from aiokafka import AIOKafkaProducer
from faust.types import TP
from pydantic import SecretStr

from worker.detections.catalogue import detection, detections
from worker.enrich.enricher import build_enricher
from worker.observe.snapshot import Snapshot, Summary
from worker.observe.store import StoreObserver
from worker.pipeline import Pipeline, Wire
from worker.policies import BadPolicyError, Policies, read_policies
from worker.sinks import migrations
from worker.sinks.clickhouse import ClickHouseWriter, connect, write_rows
from worker.stream.app import StreamSettings, caught_up, create_app, run_worker, running
from worker.stream.connection import aiokafka_options
from worker.stream.delivery import Limits as DeliveryLimits
from worker.stream.pages import add_pages
from worker.stream.policies import read_all
from worker.stream.produce import produce
from worker.stream.publisher import partition_of
from worker.stream.recorder import Recorder
from worker.stream.store import MemoryShard
from worker.stream.topics import create, specs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from clickhouse_connect.driver.client import Client

    from worker.backfill import Backfilled, Range
    from worker.enrich.enricher import Enricher
    from worker.evaluation import Evaluation
    from worker.offline import Offline
    from worker.replay import Lines
    from worker.settings import Settings
    from worker.simulator import Simulator
    from worker.stream.app import App

log = structlog.get_logger(__name__)
LONG = 86_400.0
"""Seconds: what has to become durable is waited for."""
TELL_SECONDS = 0.3
EMBEDDED_SESSION_TIMEOUT = 6.0
"""Seconds. The embedded broker lets a new group form after half of it."""
EMBEDDED_FETCH_WAIT = 25
"""Milliseconds. The embedded broker holds every answer back for half of it, whatever there is."""


class Parts(NamedTuple):
    """A worker's parts, wired."""

    app: App
    writer: ClickHouseWriter
    recorder: Recorder


def wall_clock() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def build_pipeline(settings: Settings, policies: Policies, enricher: Enricher) -> Pipeline:
    """Return the pure heart as the settings want it."""
    return Pipeline(
        source=Wire(enricher, settings.stream.max_record_bytes, settings.state.limits().skew),
        judge=policies.judge,
        topics=settings.topics,
        partition_of=partial(partition_of, partitions=settings.topics.partitions),
        limits=settings.state.limits(),
        incidents=settings.incident.limits(),
        max_bytes=settings.stream.max_record_bytes,
        pseudonyms=settings.privacy.pseudonyms(),
    )


def build_worker(settings: Settings, *, sweep_clock: str = "wall", web: bool = True) -> Parts:
    """Return a worker that is not started yet; call it in the loop that will run it.

    Raises:
        worker.enrich.geoip.GeoFileError: a geo file is given and cannot be read.
    """
    recorder = Recorder(wall_clock, settings.stream.max_reject_share)
    policies = Policies(detections().values())
    enricher = build_enricher(settings.geo.city_db, settings.geo.asn_db)
    enricher.warm()
    writer = ClickHouseWriter(
        lambda: connect(settings.store_dsn(), **settings.store_options()),
        observer=StoreObserver(),
        clock=time.monotonic,
        longest_wait=settings.delivery.retry_max_delay_s,
    )
    app = create_app(
        _stream_settings(settings, sweep_clock, web=web),
        build_pipeline(settings, policies, enricher),
        writer,
        observer=recorder,
        on_policy=_policy_taker(policies),
    )
    if web:
        add_pages(
            app,
            limits=settings.state.limits(),
            clock=wall_clock,
            sources=enricher.sources,
            reasons=lambda: [*_store_problems(writer), *recorder.rejects.problems()],
            token=settings.web.token.get_secret_value() if settings.web.token else "",
            pseudonyms=settings.privacy.pseudonyms(),
        )
    return Parts(app, writer, recorder)


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


def _stream_settings(settings: Settings, sweep_clock: str, *, web: bool) -> StreamSettings:
    delivery, stream = settings.delivery, settings.stream
    return StreamSettings(
        kafka=aiokafka_options(settings.kafka),
        group=stream.group_id,
        events=settings.topics.events,
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
        chunk_records=stream.max_batch_records,
        limits=DeliveryLimits(
            insert_rows=delivery.max_rows,
            insert_delay=delivery.max_delay_ms / 1000,
            max_rows=delivery.max_inflight_rows,
            max_bytes=delivery.max_inflight_bytes,
            stall_seconds=delivery.stall_s,
        ),
        sweep_interval=stream.sweep_interval_s,
        sweep_clock="stream" if sweep_clock == "stream" else "wall",
        drain_seconds=stream.drain_s,
        state_dir=settings.data_dir / "state" if settings.state.store == "rocksdb" else None,
        web=web,
        web_bind=settings.web.host,
        web_host=settings.web.reachable_host(),
        web_port=settings.web.port,
    )


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
            url = stack.enter_context(_sql_endpoint(settings))
            log.info("SQL is served", url=url)
        with closing(connect(settings.store_dsn(), **settings.store_options())) as client:
            migrations.up(client, layout=migrations.layout_of(settings))
        asyncio.run(_create_topics(settings))
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


def settle_memory() -> None:
    """Take what start-up made out of the garbage collector's sight.

    States are decoded and encoded by the million and hold no cycles; collecting them costs a third of the speed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 1000)


async def _create_topics(settings: Settings) -> None:
    await create(aiokafka_options(settings.kafka), specs(settings.topics, settings.stream.group_id))


@contextmanager
def _sql_endpoint(settings: Settings) -> Iterator[str]:
    from worker.embedded.http import HttpEndpoint  # noqa: PLC0415  an optional extra

    directory = Path(settings.store_dsn().removeprefix("chdb://"))
    directory.mkdir(parents=True, exist_ok=True)
    connect(settings.store_dsn()).close()
    with HttpEndpoint(directory) as endpoint:
        yield endpoint.url


@contextmanager
def embedded(settings: Settings) -> Iterator[tuple[Settings, dict[str, str]]]:
    """Start broker and store of one's own; give the settings that lead to them, and where they are served.

    Raises:
        worker.embedded.broker.BrokerError: the extra is not installed.
    """
    from worker.embedded.broker import EmbeddedBroker, usable_port  # noqa: PLC0415  an optional extra

    data_dir = settings.data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    dsn = f"chdb://{data_dir / 'store'}"
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker(data_dir / "broker.log"))
        kafka = settings.kafka.model_copy(
            update={"bootstrap_servers": broker.bootstrap_servers, "security_protocol": "PLAINTEXT"}
        )
        clickhouse = settings.clickhouse.model_copy(update={"dsn": SecretStr(dsn)})
        stream = settings.stream.model_copy(
            update={"session_timeout_s": EMBEDDED_SESSION_TIMEOUT, "fetch_max_wait_ms": EMBEDDED_FETCH_WAIT}
        )
        web = settings.web.model_copy(update={"port": usable_port(settings.web.host, settings.web.port)})
        changed = settings.model_copy(
            update={"kafka": kafka, "clickhouse": clickhouse, "stream": stream, "data_dir": data_dir, "web": web}
        )
        url = stack.enter_context(_sql_endpoint(changed))
        with closing(connect(dsn)) as client:
            migrations.up(client, layout=migrations.layout_of(changed))
        asyncio.run(_create_topics(changed))
        yield changed, {"sql": url, "kafka": broker.bootstrap_servers}


@asynccontextmanager
async def _producing(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    options = aiokafka_options(settings.kafka)
    producer = AIOKafkaProducer(**options, acks="all", linger_ms=5, max_batch_size=1 << 19, max_request_size=64 << 20)
    async with producer:
        yield producer


async def _ends(settings: Settings, app: App) -> dict[TP, int]:
    tps = {TP(settings.topics.events, partition) for partition in range(settings.topics.partitions)}
    found = await app.consumer.highwaters(*tps)
    return {tp: end or 0 for tp, end in found.items()}


async def _finish(settings: Settings, parts: Parts) -> None:
    """Wait until all input is durable, then end what expired by the newest event time."""
    await caught_up(parts.app, await _ends(settings, parts.app))
    for partition, now in list(parts.app.newest.items()):
        await parts.app.sweep(partition, now)
    await parts.app.delivery.drain(LONG)


def _summary(settings: Settings, recorder: Recorder, read: int, seconds: float, *, interrupted: bool) -> Summary:
    with closing(connect(settings.store_dsn())) as client:
        rows, found = client.query(
            "SELECT (SELECT count() FROM session_events FINAL), (SELECT count() FROM findings FINAL)"
        ).result_rows[0]
    return Summary(
        read=read,
        accepted=recorder.count("accepted"),
        rejected=recorder.count("rejected"),
        ignored=recorder.count("ignored"),
        rows=int(rows),
        findings=int(found),
        seconds=seconds,
        interrupted=interrupted,
        reasons=dict(recorder.rejected),
    )


def replay(
    settings: Settings,
    file: Path,
    *,
    findings: Path | None = None,
    dead_letters: Path | None = None,
    policies: Path | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Summary:
    """Run a file of JSON lines through the whole pipeline; return when everything is durable.

    Args:
        settings: `data_dir` is where the store is kept.
        file: JSON lines of any accepted shape; `-` is standard input.
        findings: where to write the findings as JSON lines.
        dead_letters: where to write the rejected lines, likewise, each with its reason.
        policies: a JSON list of tenant policies, each with its `tenant_id`.
        on_progress: told now and then how far it is.

    Raises:
        FileNotFoundError: there is no such file.
        BadPolicyError: a policy cannot be used.
    """
    from worker.replay import Lines, export_findings, export_letters  # noqa: PLC0415  with what only it needs

    started = time.perf_counter()
    lines = Lines(file, settings.topics.events, settings.stream.max_record_bytes)
    documents = read_policies(policies.read_bytes()) if policies else {}
    with embedded(settings) as (changed, _):
        settle_memory()
        recorder = asyncio.run(_replay(changed, lines, documents, on_progress))
        if dead_letters is not None:
            options = aiokafka_options(changed.kafka)
            asyncio.run(export_letters(options, changed.topics.dlq, lines.numbers, dead_letters))
        if findings is not None:
            export_findings(changed.store_dsn(), findings)
        return _summary(changed, recorder, lines.read, time.perf_counter() - started, interrupted=False)


async def _replay(
    settings: Settings, lines: Lines, documents: Mapping[str, bytes], on_progress: Callable[[str], None]
) -> Recorder:
    for tenant, document in documents.items():
        await produce(settings.kafka, settings.topics.policies, tenant, document)
    async with _telling(lambda: f"{lines.read:,} lines sent", on_progress), _producing(settings) as producer:
        await lines.send(producer, settings.topics.partitions)
    parts = build_worker(settings, sweep_clock="stream", web=False)
    done = parts.recorder
    async with _telling(lambda: f"{done.read:,} of {lines.read:,} lines judged", on_progress), running(parts.app):
        await _finish(settings, parts)
    await parts.writer.close()
    return done


@asynccontextmanager
async def _telling(text: Callable[[], str], tell: Callable[[str], None]) -> AsyncIterator[None]:
    """Tell how far it is, a few times a second, for as long as it takes."""

    async def keep_telling() -> None:
        while True:
            tell(text())
            await asyncio.sleep(TELL_SECONDS)

    task = asyncio.create_task(keep_telling())
    try:
        yield
    finally:
        task.cancel()


def demo(
    settings: Settings,
    *,
    duration: float | None,
    rate: float,
    on_tick: Callable[[Snapshot], None],
) -> Summary:
    """Show everything at work in one process: broker, store, worker and labelled traffic.

    Args:
        settings: `data_dir` is where the store and the geo files are kept.
        duration: seconds; None until interrupted.
        rate: events per second.
        on_tick: shown a snapshot a few times a second.
    """
    from worker.demo import demo_settings  # noqa: PLC0415  with the simulator, which only it needs

    with embedded(demo_settings(settings)) as (changed, addresses):
        started = time.perf_counter()
        recorder, sent, interrupted = asyncio.run(_demo(changed, addresses, duration, rate, on_tick))
        return _summary(changed, recorder, sent, time.perf_counter() - started, interrupted=interrupted)


async def _demo(
    settings: Settings,
    addresses: dict[str, str],
    duration: float | None,
    rate: float,
    on_tick: Callable[[Snapshot], None],
) -> tuple[Recorder, int, bool]:
    from worker.demo import Watcher, feed_of, watch  # noqa: PLC0415  as above

    interrupted, done = _on_interrupt(), asyncio.Event()
    feed = feed_of(settings, rate, duration)
    settle_memory()
    parts = build_worker(settings)
    web = f"http://{settings.web.host}:{settings.web.port}"
    shown = {"metrics": f"{web}/metrics", "sessions": f"{web}/api/tenants/t-0000", **addresses}
    async with _producing(settings) as producer, running(parts.app):
        watching = asyncio.create_task(watch(Watcher(parts, shown, feed), on_tick, done))
        feeding = asyncio.create_task(feed.run(producer))
        stopped = asyncio.create_task(interrupted.wait())
        await asyncio.wait([feeding, stopped, watching], return_when=asyncio.FIRST_COMPLETED)
        feeding.cancel()
        stopped.cancel()
        await producer.flush()
        await _finish(settings, parts)
        done.set()
        await watching
    await parts.writer.close()
    return parts.recorder, feed.sent, interrupted.is_set()


def _on_interrupt() -> asyncio.Event:
    """Return what is set by the first Ctrl-C or SIGTERM; the next ends the process."""
    asked, loop = asyncio.Event(), asyncio.get_running_loop()

    def ask() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask)
    return asked


def evaluate(settings: Settings, *, seed: int, users: int, attacks_per_kind: int) -> Evaluation:
    """Run the catalogue over labelled simulated traffic, without broker and store, and hold it against the labels."""
    from worker import evaluation  # noqa: PLC0415  with the simulator, which only it needs
    from worker.simulator import Simulator, profile  # noqa: PLC0415

    simulator = Simulator(profile("evaluation", seed=seed, users=users, attacks_per_kind=attacks_per_kind))
    with _offline(settings, simulator) as offline:
        count, findings = evaluation.run(simulator.events(), offline)
    return evaluation.evaluate(count, findings, simulator.labels())


def backfill(settings: Settings, asked: Range, *, policies: Path | None = None, dry_run: bool = False) -> Backfilled:
    """Find in stored events what detections would have found; no live state is touched.

    Args:
        settings: where the store is, and the policies on their topic; the embedded store has none.
        asked: what is looked at.
        policies: a JSON list of policies, each with its `tenant_id`, in place of those.
        dry_run: store nothing.

    Raises:
        UnknownDetectionError: there is no detection of an id asked for.
        BadPolicyError: a policy cannot be used.
        StoreUnreachableError: ClickHouse does not answer.
        KafkaConnectionError: Kafka does not answer.
    """
    from worker.backfill import Storage, backfill, enabling  # noqa: PLC0415  with what only it needs
    from worker.offline import Offline  # noqa: PLC0415  the same

    for uid in asked.detections:
        detection(uid)
    judges = Policies(detections().values())
    for tenant, document in _policies(settings, policies).items():
        judges.set(tenant, enabling(document, asked.detections))
    pipeline = Pipeline(
        source=Storage(),
        judge=judges.judge,
        topics=settings.topics,
        partition_of=lambda _key: 0,
        limits=settings.state.limits(),
    )
    with closing(connect(settings.store_dsn(), **settings.store_options())) as client:
        migrations.up(client, dry_run=dry_run, layout=migrations.layout_of(settings))
        return backfill(client, Offline(pipeline, MemoryShard(), (settings.topics.starts,)), asked, dry_run=dry_run)


def _policies(settings: Settings, file: Path | None) -> dict[str, bytes]:
    if file is not None:
        return read_policies(file.read_bytes())
    if settings.store_dsn().startswith("chdb:"):
        return {}
    return asyncio.run(read_all(settings.kafka, settings.topics.policies))


def fill(settings: Settings, client: Client, simulator: Simulator) -> int:
    """Put simulated events through the pipeline into a store, without a broker; return how many there were.

    Raises:
        ClickHouseError: the store does not take them.
    """
    from worker.offline import arrived, batches  # noqa: PLC0415  as above

    count = 0
    with _offline(settings, simulator) as offline:
        for records in batches(arrived(simulator.events()), size=20_000):
            for outcome in (*offline.process(records), offline.sweep(records[-1].timestamp)):
                for table, rows in outcome.rows.items():
                    write_rows(client, table, rows)
            count += len(records)
    return count


@contextmanager
def _offline(settings: Settings, simulator: Simulator) -> Iterator[Offline]:
    """Give both stages, with the simulator's tenants and geo databases."""
    from worker.offline import Offline  # noqa: PLC0415  as above
    from worker.simulator import write_geo  # noqa: PLC0415

    policies = Policies(detections().values())
    for tenant, policy in simulator.labels()["tenants"].items():
        policies.set(tenant, orjson.dumps(policy))
    with TemporaryDirectory() as directory:
        pipeline = Pipeline(
            source=Wire(build_enricher(*write_geo(Path(directory)))),
            judge=policies.judge,
            topics=settings.topics,
            partition_of=lambda _key: 0,
            limits=settings.state.limits(),
        )
        yield Offline(pipeline, MemoryShard(), (settings.topics.starts, settings.topics.findings))
