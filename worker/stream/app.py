"""The worker: a Faust app whose one agent runs a `Processor` over fetched batches, with the delivery protocol.

The agent consumes the input topic and the topic of forwarded records; partition `p` of both, and of the changelog,
is always assigned to the same worker. The state of partition `p` is one shard of the app's one table,
`user-state`.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Any

import faust
from faust.exceptions import ImproperlyConfigured
from mode import get_logger

from worker.observe.connections import BoundedSite
from worker.observe.interface import StreamObserver
from worker.stream.clock import LagMonitor, Timers, wall_clock
from worker.stream.delivery import AbandonedError, Delivery
from worker.stream.options import TABLE
from worker.stream.policies import PolicyReader
from worker.stream.processing import BatchProcessing, failure
from worker.stream.publisher import ChangelogWriter, Publisher
from worker.stream.recovery import TableManager
from worker.stream.state_store import MemoryShard, RocksShard, ShardStore
from worker.stream.transport import LAST_COMMIT_SECONDS, FetchedBatchSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from faust.types import TP

    from worker.pipeline.ports import Processor
    from worker.stream.inserter import Writer
    from worker.stream.options import StreamOptions
    from worker.stream.state_store import DurableShard

log = get_logger(__name__)

AFTER_COMMIT = "after-commit"
WATCH_SECONDS = 1.0
UNUSED_PORT = 6066
WEB_STOP_SECONDS = 1.0
"""Seconds that a stop waits for requests in progress."""
FOREVER = 1e6
"""Seconds. A worker that waits for the store must not be expelled for not fetching; its readiness reports the wait."""


class App(faust.App):  # type: ignore[misc]  # Faust is untyped
    """The worker. Made by `create_app`."""

    settings: StreamOptions
    kafka_options: dict[str, Any]

    def setup(
        self,
        settings: StreamOptions,
        processor: Processor,
        writer: Writer,
        *,
        observer: StreamObserver,
        on_policy: Callable[[str, bytes | None], None] | None,
        faults: Callable[[str], None] | None,
        clock: Callable[[], int],
    ) -> None:
        """Wire the parts together."""
        self.settings = settings
        self.kafka_options = settings.kafka
        self.observer = observer
        self.faults = faults
        self.clock = clock
        self.changelog = f"{settings.group}-{TABLE}-changelog"
        self.publisher = Publisher(settings.kafka, on_oversize=observer.on_oversize)
        self.changelog_writer = ChangelogWriter(settings.kafka, self.changelog, settings.group)
        self.delivery = Delivery(
            writer=writer,
            publish=self.publisher.publish,
            changelog=self.changelog_writer,
            ack=self._ack,
            is_member=self._is_member,
            on_fatal=self._on_fatal,
            on_lost=self._on_lost,
            limits=settings.limits,
            on_insert=observer.on_insert,
            faults=faults,
        )
        self.policy_reader = PolicyReader(settings.kafka, settings.policies, on_policy) if on_policy else None
        self.processing = BatchProcessing(
            settings, processor, self.delivery, observer, clock=clock, until_active=self._until_active
        )
        self.timers = Timers(
            settings,
            processor,
            self.delivery,
            observer,
            clock=clock,
            newest=self.processing.newest,
            is_active=self._is_active,
        )
        self.lag_monitor = LagMonitor(settings.inputs(), observer)
        self._failure: BaseException | None = None
        self.shards = self._declare_table()
        self._declare_agent()

    def _declare_table(self) -> ShardStore:
        table = self.Table(TABLE, partitions=self.settings.partitions, key_type=bytes, value_type=bytes)
        store = ShardStore(
            "memory://", self, table, make_shard=self._make_shard, changelog=self.changelog, on_drop=self._on_drop
        )
        table._data = store  # noqa: SLF001  Faust makes stores by URL, without arguments
        return store

    def _on_drop(self, partition: int) -> None:
        self.processing.newest.pop(partition, None)
        self.changelog_writer.discard(partition)

    def _make_shard(self, partition: int) -> DurableShard:
        if self.settings.state_dir is None:
            return MemoryShard()
        return RocksShard(self.settings.state_dir / TABLE / str(partition))

    def _declare_agent(self) -> None:
        findings = self.settings.findings
        events = [topic for topic in self.settings.inputs() if topic != findings]
        self.agent(self.topic(*events, schema=FetchedBatchSchema()), name="sessions")(self._consume)
        if findings:
            self.agent(self.topic(findings, schema=FetchedBatchSchema()), name="incidents")(self._consume)

    # The agent

    async def _consume(self, stream: Any) -> None:
        # A processed batch is not durable yet: the delivery acknowledges it.
        stream.enable_acks = False
        async for batch in stream:
            try:
                await self.processing.handle(batch)
            except AbandonedError:
                log.info("Partition %s was lost while a batch of it was being processed", batch.tp)
            except Exception as error:  # noqa: BLE001  the worker cannot continue without this batch
                self._on_fatal(error)

    async def _until_active(self) -> None:
        """Wait while partitions are being assigned."""
        await self.flow_control.acquire()

    def _is_active(self) -> bool:
        """Return whether partitions may be processed now."""
        active: bool = self.flow_control.is_active()
        return active

    # Time

    async def _fire_timers_forever(self) -> None:
        while not self.should_stop:
            await self.sleep(self.settings.timer_interval)
            try:
                await self.timers.fire_all(self.consumer)
            except Exception as error:  # noqa: BLE001  a state whose timers cannot fire must be looked at
                self._on_fatal(error)
                return

    @property
    def is_cut_off(self) -> bool:
        """Whether the worker had partitions, and the group has confirmed no heartbeat for a session time-out."""
        age: float = self.consumer.heartbeat_age
        return self.settings.session_timeout < age < inf

    async def _watch_kafka_forever(self) -> None:
        """Log the loss of Kafka and its return, once each."""
        lost = False
        while not self.should_stop:
            await self.sleep(WATCH_SECONDS)
            if self.is_cut_off and not lost:
                log.warning(
                    "Kafka is not reached: the consumer group has confirmed no heartbeat for %.0f s. Waiting for "
                    "the brokers at %s",
                    self.consumer.heartbeat_age,
                    self.kafka_options["bootstrap_servers"],
                )
            elif lost and not self.is_cut_off:
                log.info("Kafka is reached again")
            lost = self.is_cut_off

    async def _report_lag_forever(self) -> None:
        while not self.should_stop:
            await self.sleep(self.settings.lag_interval)
            await self.lag_monitor.look(self.consumer)

    def lag(self) -> dict[TP, int]:
        """Return the number of records of each assigned input partition that are not durable yet, where known."""
        return self.lag_monitor.lag(self.consumer)

    # What the delivery needs

    def _ack(self, tp: TP, offset: int) -> None:
        self.consumer.done(tp, offset)

    def _is_member(self) -> bool:
        """Return whether a recent heartbeat was confirmed, so that the group cannot have expelled this worker."""
        age: float = self.consumer.heartbeat_age
        return age < self.settings.session_timeout * 0.75

    def _on_lost(self, partition: int) -> None:
        """Wait for the rebalance that must be in progress; without one, another process has taken the partition."""
        generation = self.consumer_generation_id
        log.warning("Another worker writes partition %s: abandoned it", partition)
        self.shards.drop(partition)

        def check() -> None:
            if self.consumer_generation_id == generation and not self.rebalancing and not self.should_stop:
                self._on_fatal(
                    AbandonedError(f"partition {partition} was taken, although the group assigns it to this worker")
                )

        asyncio.get_running_loop().call_later(2 * self.settings.session_timeout, check)

    def _on_fatal(self, error: BaseException) -> None:
        """Record an error after which the worker must stop; Faust's `crash` would end the consumer's thread."""
        log.error("The worker cannot continue: %s (%s)", error, failure(error).partition("\n")[0])
        log.debug("Traceback of the worker's failure", exc_info=error)
        self._failure = self._failure or error

    @property
    def failure(self) -> BaseException | None:
        """The error for which the worker must be stopped; None while it runs."""
        if self._failure is None and self.crashed:
            return self.crash_reason or RuntimeError("a service of the worker crashed")
        return self._failure

    # Callbacks of transport and recovery

    def on_committed(self, offsets: Mapping[TP, int]) -> None:
        """Called when offsets were committed."""
        for tp, offset in offsets.items():
            self.observer.on_commit(tp, offset)
        if self.faults is not None:
            self.faults(AFTER_COMMIT)

    def on_restored(self, shards: Mapping[int, DurableShard], seconds: float) -> None:
        """Called when shards are recovered."""
        self.observer.on_restored(sum(len(shard) for shard in shards.values()), seconds)

    def open_partitions(self) -> None:
        """Accept batches of the assigned partitions, whose state is recovered.

        Raises:
            ImproperlyConfigured: input, forwards and changelog differ in their number of partitions.
        """
        partitions = self._assigned_partitions()
        self.processing.restart()
        for partition in sorted(partitions):
            self.delivery.open(partition, self.shards.open(partition))
        self.observer.on_assigned(sorted(partitions))

    def _assigned_partitions(self) -> set[int]:
        topics = (*self.settings.firsts(), self.settings.by_user, self.changelog)
        by_topic: dict[str, set[int]] = {topic: set() for topic in topics}
        for tp in self.consumer.assignment():
            by_topic.setdefault(tp.topic, set()).add(tp.partition)
        first, *others = by_topic.values()
        if any(other != first for other in others):
            raise ImproperlyConfigured(
                f"{', '.join(by_topic)} must have the same number of partitions: state is kept by partition. "
                "Create the topics anew, or start a new group with new topics; partitions cannot be added."
            )
        return first

    # Rebalance, start and stop

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:  # noqa: ARG002  Faust's signature
        """Called before partitions are revoked: wait up to `drain_seconds` for batches in flight, abandon the rest."""
        if self.failure is None and self._is_member():
            await self.delivery.drain(self.settings.drain_seconds)
        for partition in list(self.delivery.queues):
            if not await self.delivery.close(partition):
                log.warning(
                    "Partition %s is revoked with batches in flight; its next owner computes them again", partition
                )
                self.shards.drop(partition)
        await consumer.last_commit(LAST_COMMIT_SECONDS)

    def _on_rebalance_when_stopped(self) -> None:
        """Abandon everything: a rebalance while stopping may have given our partitions away."""
        for partition in list(self.delivery.queues):
            self.delivery.abandon(partition)

    async def on_start(self) -> None:
        """Connect and read the policies before anything is processed."""
        await super().on_start()
        await self.publisher.start()
        await self.delivery.start()
        if self.policy_reader is not None:
            await self.policy_reader.start()

    async def on_started(self) -> None:
        """Start the timers once the state is recovered."""
        await super().on_started()
        if self.settings.timer_clock == "wall":
            self.add_future(self._fire_timers_forever())
        self.add_future(self._report_lag_forever())
        self.add_future(self._watch_kafka_forever())

    async def on_stop(self) -> None:
        """Wait for what is in flight, commit, and stop."""
        await super().on_stop()
        await self.delivery.stop()
        if self.policy_reader is not None:
            await self.policy_reader.stop()

    async def on_shutdown(self) -> None:
        """Disconnect."""
        for partition in list(self.shards.shards):
            self.shards.drop(partition)
        await self.publisher.stop()
        await self.changelog_writer.stop()

    def _create_directories(self) -> None:
        """Do nothing: Faust's data directory stays unused."""

    @property
    def problems(self) -> list[str]:
        """The reasons why this worker is not ready; empty when it is."""
        found = []
        if self.failure is not None:
            found.append(f"the worker failed: {self.failure}")
        if self.rebalancing or not self.tables.actives_ready:
            found.append("partitions are being assigned or their state recovered")
        if self.is_cut_off:
            found.append(f"Kafka is not reached: no heartbeat was confirmed for {self.consumer.heartbeat_age:.0f} s")
        if not self.delivery.ready:
            found.append(f"the oldest batch in flight is {self.delivery.stalled_for:.0f} s old")
        if self.policy_reader is not None and self.policy_reader.problem:
            found.append(self.policy_reader.problem)
        return found


def create_app(
    settings: StreamOptions,
    processor: Processor,
    writer: Writer,
    *,
    observer: StreamObserver | None = None,
    on_policy: Callable[[str, bytes | None], None] | None = None,
    faults: Callable[[str], None] | None = None,
    clock: Callable[[], int] = wall_clock,
) -> App:
    """Create a worker. Call it inside the event loop that will run it.

    Args:
        settings: options of the stream layer.
        processor: the pure core.
        writer: the store of rows.
        observer: its methods are called with what happens.
        on_policy: called with tenant and policy for each record of the policy topic, before the first batch and
            from then on; without it the topic is not read.
        faults: called with the name of each step of the delivery protocol passed.
        clock: milliseconds since the epoch, for timers.
    """
    app = App(
        settings.group,
        broker=[f"sessionwatch://{server.strip()}" for server in _servers(settings.kafka)],
        TableManager=TableManager,
        store="memory://",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=settings.fetch_bytes,
        broker_max_poll_records=settings.batch_records,
        broker_max_poll_interval=FOREVER,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.session_timeout / 4,
        broker_request_timeout=max(40.0, settings.session_timeout + 1),
        broker_commit_interval=settings.commit_interval,
        broker_check_crcs=False,
        stream_buffer_maxsize=settings.buffered_batches,
        stream_wait_empty=False,
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        topic_disable_leader=True,
        table_standby_replicas=0,
        web_enabled=settings.web,
        web_bind=settings.web_bind,
        web_host=settings.web_host,
        # Only our own pages are served.
        web_router_enabled=False,
        web_tables_enabled=False,
        # Without a web server no port is bound, and Faust refuses 0.
        web_port=settings.web_port or UNUSED_PORT,
        datadir=str(settings.state_dir or "."),
    )
    app.setup(
        settings,
        processor,
        writer,
        observer=observer or StreamObserver(),
        on_policy=on_policy,
        faults=faults,
        clock=clock,
    )
    if settings.web:
        _bound_connections(app)
    return app


def _bound_connections(app: App) -> None:
    """Have Faust's web server bound its connections, and its stop; listen on a socket that is bound already, if any."""
    driver, settings = app.web, app.settings
    runner = driver._runner  # noqa: SLF001  Faust has no other way
    runner._shutdown_timeout = WEB_STOP_SECONDS  # noqa: SLF001  the same
    address = (settings.web_bind, settings.web_port)
    driver._create_site = lambda: BoundedSite(runner, *address, settings.web_socket)  # noqa: SLF001  the same


def _servers(kafka: Mapping[str, Any]) -> list[str]:
    servers = kafka["bootstrap_servers"]
    return servers.split(",") if isinstance(servers, str) else list(servers)
