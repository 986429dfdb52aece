"""The worker: a Faust app whose one agent runs a `Processor` over chunks of records, with the delivery protocol.

The agent consumes the input topic and the topic of forwarded records; partition `p` of both, and of the changelog,
is always assigned to the same worker. The state of partition `p` is one shard of the app's one table,
`user-state`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import traceback
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import faust
import msgspec
from aiokafka.errors import KafkaConnectionError, KafkaError
from faust.exceptions import ImproperlyConfigured
from faust.types import TP
from mode import get_logger

from worker.observe.interface import StreamObserver
from worker.pipeline.ports import BatchResult, Message, dead_letter
from worker.sessions.state import UnknownFormatError
from worker.stream.delivery import AbandonedError, Delivery, DeliveryLimits, Writer
from worker.stream.policies import PolicyReader
from worker.stream.publisher import ChangelogWriter, Publisher
from worker.stream.recovery import TableManager
from worker.stream.state_store import MAX_TIMERS, MemoryShard, RocksShard, ShardStore
from worker.stream.transport import LAST_COMMIT_SECONDS, Consumer, FetchedBatch, FetchedBatchSchema
from worker.stream.watermark import Watermark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from worker.pipeline.ports import Processor, Record
    from worker.stream.state_store import DurableShard

log = get_logger(__name__)

TABLE = "user-state"
AFTER_COMMIT = "after-commit"
EXIT_OK, EXIT_CRASHED, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 0, 1, 3, 130
STOP_SECONDS = 4.0
"""How long a stop may take beyond `drain_seconds`, before the process ends without having left the group."""
FOREVER = 1e6
"""Seconds. A worker that waits for the store must not be expelled for not fetching; readiness tells of it."""
SLICE_SECONDS, MIN_SLICE_RECORDS, PAUSE = 0.5, 20, 0.01
"""Seconds a part of a batch may take, its least size, and seconds between two, in which all else has its turn."""


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the stream layer needs to know.

    Attributes:
        kafka: aiokafka connection options.
        group: consumer group, and prefix of the changelog's name.
        events: topic of events.
        by_user: topic of forwarded events.
        starts: topic of announcements the processor makes to itself; `""` for none.
        findings: topic of findings, which the processor publishes and consumes; `""` for none.
        feedback: topic of verdicts on findings; `""` for none.
        dlq: topic of records that broke the processor.
        policies: topic of tenant policies.
        partitions: of `events`, `by_user` and the changelog, each.
        replication: of the changelog, if it is created here.
        session_timeout: seconds without heartbeat after which the group expels this worker.
        fetch_wait: seconds a broker may hold back an answer while there is nothing to fetch.
        commit_interval: seconds between commits.
        batch_records: most records of a batch.
        fetch_bytes: most bytes fetched of a partition at once.
        buffered_batches: chunks that wait for the agent.
        limits: bounds of the delivery.
        timer_interval: seconds between sweeps.
        timer_clock: what time it is for a fire_timers: `wall`, as far as the group is done with what came before, or
            `stream`, the newest record time of the partition.
        lag_interval: seconds between looks at the lag.
        drain_seconds: how long a rebalance or stop waits for batches in flight, before it abandons them.
        state_dir: directory of the RocksDB state; None keeps state in memory.
        web: whether the web server runs.
        web_bind: address it listens on.
        web_host: name by which other workers reach it.
        web_port: port it listens on.
    """

    kafka: dict[str, Any]
    group: str = "sessionwatch"
    events: str = "auth.sessions"
    by_user: str = "auth.sessions.by-user"
    starts: str = ""
    findings: str = ""
    feedback: str = ""
    dlq: str = "auth.sessions.dlq"
    policies: str = "session.policies"
    partitions: int = 4
    replication: int = 1
    session_timeout: float = 10.0
    fetch_wait: float = 0.1
    commit_interval: float = 1.0
    batch_records: int = 2_000
    fetch_bytes: int = 4 << 20
    buffered_batches: int = 4
    limits: DeliveryLimits = DeliveryLimits()
    timer_interval: float = 1.0
    timer_clock: Literal["wall", "stream"] = "wall"
    lag_interval: float = 2.0
    drain_seconds: float = 5.0
    state_dir: Path | None = None
    web: bool = False
    web_bind: str = "127.0.0.1"
    web_host: str = "127.0.0.1"
    web_port: int = 6066

    def inputs(self) -> list[str]:
        """Return the topics that are consumed; a record of one may bring about records of the next."""
        # Feedback comes before the topic it is forwarded to.
        return [self.events, self.by_user, *filter(None, [self.feedback, self.starts, self.findings])]

    def stages(self) -> list[str]:
        """Return the topics an event passes through, each making records of the next."""
        return [topic for topic in (self.events, self.by_user, self.starts, self.findings) if topic]


def wall_clock() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


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
        self.processor = processor
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
        self.newest: dict[int, int] = {}
        self._next: dict[TP, int] = {}
        self._slice_records: dict[TP, int] = {}
        self._ends: Mapping[TP, int | None] = {}
        self.watermark = Watermark(len(settings.stages()))
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
        self.newest.pop(partition, None)
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
        # A batch that was looked at is not durable yet: the delivery acknowledges.
        stream.enable_acks = False
        async for batch in stream:
            try:
                await self._handle(batch)
            except AbandonedError:
                log.info("Partition %s was lost while a batch of it was in hand", batch.tp)
            except Exception as error:  # noqa: BLE001  without this batch nothing can go on
                self._on_fatal(error)

    async def _handle(self, batch: FetchedBatch) -> None:
        tp, records = batch
        if not self.delivery.is_open(tp.partition):
            return
        first = self._next.get(tp, 0)
        if records[0].offset < first:
            records = [record for record in records if record.offset >= first]
        while records:
            # Commits, probes and other partitions must not wait for a batch that takes seconds.
            part = records[: self._slice_records.get(tp, self.settings.batch_records)]
            await self._handle_slice(tp, part)
            records = records[len(part) :]
            if records and not await self._goes_on(tp):
                return

    async def _handle_slice(self, tp: TP, records: Sequence[Record]) -> None:
        self._next[tp] = records[-1].offset + 1
        if tp.topic != self.settings.findings:
            # The timestamp of a finding is when it was published.
            self.newest[tp.partition] = max(self.newest.get(tp.partition, 0), records[-1].timestamp)
        started = time.perf_counter()
        outcome = self._process(tp.partition, records, self.delivery.queues[tp.partition])
        seconds = time.perf_counter() - started
        self._slice_records[tp] = max(MIN_SLICE_RECORDS, int(SLICE_SECONDS * len(records) / max(seconds, 1e-6)))
        self.observer.on_batch(tp, len(records), seconds, outcome)
        size = sum([len(record.value) for record in records if record.value is not None])
        await self.delivery.submit(tp.partition, outcome, source=(tp, records[-1].offset), size=size)

    async def _goes_on(self, tp: TP) -> bool:
        """Let everything else have its turn; say whether the rest of a batch is still the next to be processed."""
        following = self._next[tp]
        await asyncio.sleep(PAUSE)
        # While partitions are being assigned it has to wait; afterwards they are read from what is committed.
        await self.flow_control.acquire()
        return self._next.get(tp) == following and self.delivery.is_open(tp.partition)

    def _process(self, partition: int, records: Sequence[Record], shard: DurableShard) -> BatchResult:
        try:
            return self.processor.process(partition, records, shard)
        except UnknownFormatError:
            # Not the record's fault: the state was written by a newer version, which has to go on with it.
            raise
        except Exception as error:
            if len(records) == 1:
                log.error("The processor failed on %s: %s", _where(records[0]), failure(error))  # noqa: TRY400  see there
                log.debug("The same, whole", exc_info=error)
                self.observer.on_poison(records[0], error)
                return BatchResult(messages=[self._dead_letter(records[0], error)])
        return self._process_singly(partition, records, shard)

    def _process_singly(self, partition: int, records: Sequence[Record], shard: DurableShard) -> BatchResult:
        """Find the records that break the processor; it leaves the shard alone when it raises."""
        whole = BatchResult()
        for record in records:
            part = self._process(partition, [record], shard)
            whole.add(part)
        return whole

    def _dead_letter(self, record: Record, error: Exception) -> Message:
        return dead_letter(self.settings.dlq, record, "internal-error", failure(error).partition("\n")[0])

    # Time

    async def _fire_timers_forever(self) -> None:
        while not self.should_stop:
            await self.sleep(self.settings.timer_interval)
            await self._look_around()
            for partition in list(self.delivery.queues):
                try:
                    await self.fire_timers(partition, self._time_of(partition))
                except AbandonedError:
                    continue
                except Exception as error:  # noqa: BLE001  state that cannot be by_timer must be looked at
                    self._on_fatal(error)
                    return

    async def _look_around(self) -> None:
        """Learn up to when the whole group is done with its input."""
        if self.settings.timer_clock == "stream":
            return
        now, stages = self.clock(), self.settings.stages()
        tps = [TP(topic, partition) for topic in stages for partition in range(self.settings.partitions)]
        try:
            progress = await self.consumer.progress(*tps)
        except (KafkaError, TimeoutError) as error:
            log.info("How far the group is is not known: %r", error)
        else:
            # A producer's transaction ends with an offset that is no record's, and is never committed.
            passed = {tp: at._replace(end=at.end - (tp.topic == self.settings.events)) for tp, at in progress.items()}
            self.watermark.look(now, passed)
        self.observer.on_watermark_lag(self.watermark.behind(self.clock()))

    def _time_of(self, partition: int) -> int:
        """Return what time it is in a partition, milliseconds.

        What expired by the clock may have been refreshed by a record still to come, and who is forgotten by the clock
        may be the other half of a finding: until the whole group has caught up the clock stands still.
        """
        if self.settings.timer_clock == "stream":
            return min(self.clock(), self.newest.get(partition, 0))
        return min(self.clock(), self.watermark.time)

    async def fire_timers(self, partition: int, now: int) -> None:
        """Do what time alone asks for in a partition by `now`, milliseconds, and hand it to the delivery.

        Raises:
            AbandonedError: the partition is not, or no longer, processed here.
        """
        more = True
        while more and (shard := self.delivery.queues.get(partition)) is not None and self.flow_control.is_active():
            started = time.perf_counter()
            outcome = self.processor.fire_timers(partition, now, shard)
            # As many as `due` gives at once: there may be more. Fewer: these were all, put off or not.
            more = len(outcome.states) >= MAX_TIMERS
            if outcome.states or outcome.rows or outcome.messages:
                self.observer.on_timers(partition, time.perf_counter() - started, outcome)
                await self.delivery.submit(partition, outcome)

    async def _tell_lag_forever(self) -> None:
        while not self.should_stop:
            await self.sleep(self.settings.lag_interval)
            try:
                # Of partitions that are not fetched, because the buffers are full, the consumer hears nothing.
                self._ends = await self.consumer.highwaters(*self._inputs())
            except KafkaError as error:
                log.info("Ends of the input not known: %r", error)
            for tp, lag in self.lag().items():
                self.observer.on_lag(tp, lag)

    def lag(self) -> dict[TP, int]:
        """Return how many records of each assigned input partition are not durable yet, as far as is known."""
        consumer: Consumer = self.consumer
        known = {tp: max(self._ends.get(tp) or 0, consumer.highwater(tp) or 0) for tp in self._inputs()}
        return {tp: max(0, end - consumer.done_offset(tp)) for tp, end in known.items()}

    def _inputs(self) -> set[TP]:
        topics = self.settings.inputs()
        return {tp for tp in self.consumer.assignment() if tp.topic in topics}

    # What the delivery needs

    def _ack(self, tp: TP, offset: int) -> None:
        self.consumer.done(tp, offset)

    def _is_member(self) -> bool:
        """Whether the group cannot have expelled us: a heartbeat sent this recently was confirmed."""
        age: float = self.consumer.heartbeat_age
        return age < self.settings.session_timeout * 0.75

    def _on_lost(self, partition: int) -> None:
        """Wait for the rebalance that must be under way; without one, somebody took what is ours."""
        generation = self.consumer_generation_id
        log.warning("Partition %s has another writer by now: abandoned", partition)
        self.shards.drop(partition)

        def check() -> None:
            if self.consumer_generation_id == generation and not self.rebalancing and not self.should_stop:
                self._on_fatal(AbandonedError(f"partition {partition} was taken, but the group says it is ours"))

        asyncio.get_running_loop().call_later(2 * self.settings.session_timeout, check)

    def _on_fatal(self, error: BaseException) -> None:
        """Take in that nothing can go on. Faust's `crash` would end the consumer's thread under our feet."""
        log.error("The worker cannot go on: %r", error, exc_info=error)
        self._failure = self._failure or error

    @property
    def failure(self) -> BaseException | None:
        """What the worker failed of and has to be stopped for; None while it runs."""
        if self._failure is None and self.crashed:
            return self.crash_reason or RuntimeError("a service of the worker crashed")
        return self._failure

    # What the transport and recovery tell

    def on_committed(self, offsets: Mapping[TP, int]) -> None:
        """Take in that offsets were committed."""
        for tp, offset in offsets.items():
            self.observer.on_commit(tp, offset)
        if self.faults is not None:
            self.faults(AFTER_COMMIT)

    def on_restored(self, shards: Mapping[int, DurableShard], seconds: float) -> None:
        """Take in that shards are complete."""
        self.observer.on_restored(sum(len(shard) for shard in shards.values()), seconds)

    def open_partitions(self) -> None:
        """Accept batches of the assigned partitions, whose state is complete now.

        Raises:
            ImproperlyConfigured: input, forwards and changelog differ in their number of partitions.
        """
        partitions = self._assigned_partitions()
        self._next = {}
        for partition in sorted(partitions):
            self.delivery.open(partition, self.shards.open(partition))
        self.observer.on_assigned(sorted(partitions))

    def _assigned_partitions(self) -> set[int]:
        by_topic: dict[str, set[int]] = {
            t: set() for t in (self.settings.events, self.settings.by_user, self.changelog)
        }
        for tp in self.consumer.assignment():
            by_topic.setdefault(tp.topic, set()).add(tp.partition)
        first, *others = by_topic.values()
        if any(other != first for other in others):
            raise ImproperlyConfigured(
                f"{', '.join(by_topic)} must have the same number of partitions: state is kept by partition. "
                "Create the topics anew, or start a new group with new topics; partitions cannot be added."
            )
        return first

    # Rebalance and life

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:  # noqa: ARG002  Faust's signature
        """Let what is in flight become durable, for a while; abandon the rest. Called before partitions go."""
        if self.failure is None and self._is_member():
            await self.delivery.drain(self.settings.drain_seconds)
        for partition in list(self.delivery.queues):
            if not await self.delivery.close(partition):
                log.warning("Partition %s goes with batches in flight; its next owner computes them again", partition)
                self.shards.drop(partition)
        await consumer.last_commit(LAST_COMMIT_SECONDS)

    def _on_rebalance_when_stopped(self) -> None:
        """Abandon everything: a rebalance while stopping may have given our partitions away."""
        for partition in list(self.delivery.queues):
            self.delivery.abandon(partition)

    async def on_start(self) -> None:
        """Connect, and read the policies, before there is anything to process."""
        await super().on_start()
        await self.publisher.start()
        await self.delivery.start()
        if self.policy_reader is not None:
            await self.policy_reader.start()

    async def on_started(self) -> None:
        """Start the timers when the state is there."""
        await super().on_started()
        self.add_future(self._fire_timers_forever())
        self.add_future(self._tell_lag_forever())

    async def on_stop(self) -> None:
        """Let what is in flight become durable, commit, and let go."""
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
        """Why this worker is not ready; empty when it is."""
        found = []
        if self.failure is not None:
            found.append(f"the worker failed: {self.failure!r}")
        if self.rebalancing or not self.tables.actives_ready:
            found.append("partitions are being assigned or their state recovered")
        if not self.delivery.ready:
            found.append(f"the oldest batch in flight is {self.delivery.stalled_for:.0f} s old")
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
    """Make a worker. Call it inside the event loop that will run it.

    Args:
        settings: see there.
        processor: what to do with records.
        writer: the store of rows.
        observer: told of what happens.
        on_policy: called with tenant and policy for each record of the policy topic, before the first batch and
            from then on; without it the topic is not read.
        faults: called with the name of each step of the delivery protocol passed.
        clock: milliseconds since the epoch, for sweeps.
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
        web_port=settings.web_port,
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
    return app


def _servers(kafka: Mapping[str, Any]) -> list[str]:
    servers = kafka["bootstrap_servers"]
    return servers.split(",") if isinstance(servers, str) else list(servers)


def failure(error: Exception) -> str:
    """Return the kind of an exception and where it comes from, not its words: they may repeat what a record says."""
    frames = traceback.extract_tb(error.__traceback__)
    last = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return "\n".join([type(error).__name__ + last, *(line.rstrip() for line in traceback.format_list(frames))])


def _where(record: Record) -> str:
    return f"{record.topic}[{record.partition}]@{record.offset}"


@asynccontextmanager
async def running(app: App) -> AsyncIterator[App]:
    """Run a worker inside this event loop, from the moment it has its partitions and their state.

    Raises:
        Exception: what the worker crashed of, if it did.
    """
    try:
        await app.start()
        _raise_failure(app)
        yield app
        _raise_failure(app)
    finally:
        await _stop(app)


def _raise_failure(app: App) -> None:
    if app.failure is not None:
        raise app.failure


async def _stop(app: App) -> bool:
    """Stop a worker; False when that takes too long, which it may after a crash of one of Faust's services."""
    try:
        await asyncio.wait_for(app.stop(), app.settings.drain_seconds + STOP_SECONDS)
    except TimeoutError:
        log.error("The worker did not stop in time")  # noqa: TRY400  the traceback is the timer's
        return False
    return True


class StalledError(Exception):
    """The input is not processed any more, and nobody says why."""


async def caught_up(
    app: App, end_offsets: Mapping[TP, int], *, poll_seconds: float = 0.05, patience: float = 120.0
) -> None:
    """Wait until all input up to these offsets, and what was forwarded of it, is durable.

    Args:
        app: a running worker that has all partitions.
        end_offsets: for each partition of the input topic the offset after the last record of interest.
        poll_seconds: how often to look.
        patience: seconds without any progress after which to give up.

    Raises:
        StalledError: there was no progress for so long.
        Exception: what the worker crashed of, if it did.
    """
    pace = PollPolicy(poll_seconds, patience)
    await _until_done(app, end_offsets, pace)
    # What is published for a record is so before its offset counts as done: after one topic's end the next's is final.
    for topic in app.settings.inputs()[1:]:
        await _until_done(app, await _own_ends(app, topic), pace)


class PollPolicy(NamedTuple):
    """How often to look whether something is done, and how long to bear no progress, in seconds."""

    poll_seconds: float
    patience: float


async def _until_done(app: App, ends: Mapping[TP, int], pace: PollPolicy) -> None:
    """Wait for these offsets, and then for the end as the broker's fetch answers have told it by then.

    The second is for ends that were asked of Tansu, which tells the first offset of the last batch plus one.
    """
    ends = {tp: end for tp, end in ends.items() if end}
    await _until_at(app, ends, pace)
    await _until_at(app, {tp: app.consumer.highwater(tp) for tp in ends}, pace)


async def _until_at(app: App, ends: Mapping[TP, int], pace: PollPolicy) -> None:
    clock = asyncio.get_running_loop().time
    done, since = -1, clock()
    while not all(_is_done(app, tp, end) for tp, end in ends.items()):
        _raise_failure(app)
        now_done = sum(app.consumer.done_offset(tp) for tp in ends)
        if now_done != done:
            done, since = now_done, clock()
        elif clock() - since > pace.patience:
            raise StalledError(f"no progress for {pace.patience:.0f} s: {'; '.join(app.problems) or 'no reason known'}")
        await asyncio.sleep(pace.poll_seconds)


async def _own_ends(app: App, topic: str) -> dict[TP, int]:
    tps = {TP(topic, partition) for partition in range(app.settings.partitions)}
    ends = await app.consumer.highwaters(*tps)
    # Tansu tells ends that are too low, so what this worker published itself is asked for, too.
    return {tp: max(end or 0, app.publisher.last.get((tp.topic, tp.partition), -1) + 1) for tp, end in ends.items()}


def _is_done(app: App, tp: TP, end: int) -> bool:
    return app.consumer.highwater(tp) is not None and app.consumer.done_offset(tp) >= end


def run_worker(make_app: Callable[[], App]) -> int:
    """Run a worker until SIGTERM or SIGINT, which stop it gracefully; a second one ends the process at once.

    Returns:
        Exit code: 0 stopped, 1 crashed, 3 Kafka is not reached, 130 (from the process) forced.
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
    if not await _stop(app):
        os._exit(code or EXIT_CRASHED)
    return code


async def _until_asked(app: App, starting: asyncio.Task[Any], asked: asyncio.Event) -> int:
    waiting = asyncio.create_task(asked.wait())
    while not asked.is_set() and app.failure is None:
        await asyncio.wait([waiting, starting] if not starting.done() else [waiting], timeout=0.2,
                           return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
        if starting.done() and (error := starting.exception()) is not None:
            log.error("The worker could not start: %r", error)
            return EXIT_UNREACHABLE if isinstance(error, KafkaConnectionError | OSError) else EXIT_CRASHED
    return EXIT_OK if app.failure is None else EXIT_CRASHED
