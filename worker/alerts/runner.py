"""The process: reads incidents, parks a delivery for each destination, commits, and runs the dispatchers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from schemas.incident import decode_incident
from worker.alerts.destinations.build import BadDestinationError
from worker.alerts.dispatcher import Dispatcher, DispatcherContext
from worker.alerts.outbox import AlertDelivery, Standing
from worker.alerts.routing import OWN, route
from worker.alerts.tenants import own_destinations
from worker.observe import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from schemas.incident import Incident
    from worker.alerts.alert import Sender
    from worker.alerts.config import Destination
    from worker.alerts.journal import JournalReader
    from worker.alerts.routing import Routed

log = structlog.get_logger(__name__)
DRAIN_SECONDS = 5.0
"""Seconds that a stop waits for attempts in progress."""
END_SECONDS = 3.0
"""Seconds that it then waits for Kafka and the store."""
HANDOVER_SECONDS = 3.0
POLL_MS = 200
BATCH = 500
UPKEEP_SECONDS = 5.0
EXPIRE_ROUNDS = 60
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
RETRY_SECONDS = 1.0


class Kafka(NamedTuple):
    """How the process reads incidents.

    Attributes:
        options: of aiokafka clients.
        incidents: topic. `group_id`: consumer group. `session_timeout_s`: of the group.
        fetch_max_wait_ms: how long the broker may wait for more records.
    """

    options: Mapping[str, Any]
    incidents: str
    group_id: str
    session_timeout_s: float
    fetch_max_wait_ms: int = 500


class AlertService:
    """One process of the group.

    Args:
        kafka: how incidents are read.
        shared: what dispatchers have in common.
        reader: of the journal.
        build: makes the sender of a destination.
    """

    def __init__(
        self,
        kafka: Kafka,
        shared: DispatcherContext,
        reader: JournalReader,
        build: Callable[[str, Destination], Sender],
    ) -> None:
        self._kafka = kafka
        self._shared = shared
        self._reader = reader
        self._build = build
        self._consumer: AIOKafkaConsumer | None = None
        self._dispatchers: dict[str, Dispatcher] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._following: list[asyncio.Task[None]] = []
        self._loading: asyncio.Task[None] | None = None
        self._refused: set[str] = set()
        self._own: dict[str, Destination] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answered = 0
        self._joined = False

    def problems(self) -> list[str]:
        """Return why the process is not ready; empty when it is."""
        found = []
        silent = (self._shared.clock() - self._answered) / 1000
        if silent > self._kafka.session_timeout_s:
            found.append(f"Kafka has not answered for {silent:.0f} s")
        if self._shared.journal.failing:
            found.append(f"the journal of deliveries cannot be written: {self._shared.journal.failing}")
        if not self._joined:
            found.append("the consumer group has assigned no partitions yet")
        if self._loading is not None and not self._loading.done():
            found.append("the journal of deliveries is being read")
        return found

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set.

        Raises:
            KafkaError: Kafka does not answer at the start.
            BadDestinationError: a destination cannot be used as it is set.
        """
        for name, config in self._shared.settings.destinations.items():
            if config.enabled:
                self._start_dispatcher(name, config)
        consumer = self._consumer = AIOKafkaConsumer(
            **self._kafka.options,
            group_id=self._kafka.group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(self._kafka.session_timeout_s * 1000),
            heartbeat_interval_ms=max(int(self._kafka.session_timeout_s * 300), 100),
            max_poll_interval_ms=600_000,
            fetch_max_wait_ms=self._kafka.fetch_max_wait_ms,
        )
        try:
            await self._shared.journal.start()
            await consumer.start()
            self._answered = self._shared.clock()
            consumer.subscribe([self._kafka.incidents], listener=_Listener(self))
            await self._until(stop)
        finally:
            await self._end(consumer)

    async def _until(self, stop: asyncio.Event) -> None:
        tasks = [
            asyncio.create_task(work)
            for work in (self._read(), self._keep_up(), self._shared.recorder.run(), _wait(stop), self._broke())
        ]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for task in done:
            task.result()

    async def _broke(self) -> None:
        await self._broken

    async def _end(self, consumer: AIOKafkaConsumer) -> None:
        """Finish attempts in progress, leave the group, and insert the recorded rows."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*(each.drain(DRAIN_SECONDS) for each in self._dispatchers.values()))
        ends = (
            self._stop_following(),
            consumer.stop(),
            self._shared.documents.close(),
            self._shared.journal.stop(),
            self._shared.recorder.flush(),
        )
        await asyncio.gather(*map(_within_bounds, ends))

    # --- Partitions ---

    async def revoked(self, partitions: Iterable[int]) -> None:
        """Give up partitions, after the attempts in progress, which the next owner would repeat."""
        await asyncio.gather(*(each.pause(HANDOVER_SECONDS) for each in self._dispatchers.values()))
        await self._stop_following()
        for partition in partitions:
            self._shared.outbox.drop_partition(partition)

    def assigned(self, partitions: Sequence[int]) -> None:
        """Take partitions over; their journal is read before their incidents."""
        for dispatcher in self._dispatchers.values():
            dispatcher.go_on()
        self._joined = True
        if self._consumer is None or not partitions:
            return
        tps = [TopicPartition(self._kafka.incidents, each) for each in partitions]
        self._consumer.pause(*tps)
        self._loading = asyncio.create_task(self._load(self._consumer, tps))
        self._loading.add_done_callback(self._loaded)
        self._following.append(self._loading)

    def _loaded(self, task: asyncio.Task[None]) -> None:
        """End the process if taking over failed because of a bug; otherwise no process would serve the partitions."""
        if not task.cancelled() and (error := task.exception()) is not None and not self._broken.done():
            self._broken.set_exception(error)

    async def _load(self, consumer: AIOKafkaConsumer, tps: list[TopicPartition]) -> None:
        while True:
            try:
                found, follow = await self._reader.load([tp.partition for tp in tps], self._requested)
                break
            except (KafkaError, OSError) as error:
                log.warning("the journal of deliveries cannot be read; trying again", why=repr(error))
                await asyncio.sleep(RETRY_SECONDS)
        if follow is not None:
            self._following.append(follow)
        await self._take_over(found)
        with suppress(IllegalStateError):
            consumer.resume(*(tp for tp in tps if tp in consumer.assignment()))

    async def _take_over(self, found: list[AlertDelivery]) -> None:
        """Go on with what the journal says. What was attempted lately is written down again: it may not have been."""
        await self._shared.journal.write(self._shared.outbox.load(found))
        waiting = [each for each in found if each.standing is Standing.WAITING]
        since = self._shared.clock() - DAY_MS
        for each in found:
            if each.changed_at >= since and (each.attempts or each.standing is not Standing.WAITING):
                self._shared.recorder.keep(self._kind(each.destination), each)
        for each in waiting:
            self._ensure(each)
        if unknown := sorted(set(self._shared.outbox.destinations()) - self._dispatchers.keys()):
            log.warning("deliveries wait for destinations that are not set", destinations=unknown)
        log.info("deliveries were taken over", waiting=len(waiting), known=len(found))
        self._wake_all()

    def _kind(self, name: str) -> str:
        dispatcher = self._dispatchers.get(name)
        return dispatcher.kind if dispatcher else ""

    def _requested(self, delivery: AlertDelivery) -> None:
        self._shared.outbox.request(delivery)
        self._ensure(delivery)
        self._wake_all()

    async def _stop_following(self) -> None:
        tasks, self._following = self._following, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- Incidents ---

    async def _read(self) -> None:
        if self._consumer is None:
            raise RuntimeError("the service was not started")
        while True:
            for tp, records in (await self._consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH)).items():
                await self._take_in(tp, records)

    async def _take_in(self, tp: TopicPartition, records: Sequence[Any]) -> None:
        """Park the deliveries of a batch, and commit."""
        new: dict[str, AlertDelivery] = {}
        for record in records:
            self._park(record, new)
        await self._shared.journal.write(list(new.values()))
        left_out = [each for delivery in new.values() for each in self._shared.outbox.add(delivery)]
        await self._shared.journal.write(left_out)
        for each in (*new.values(), *left_out):
            if each.standing is not Standing.WAITING:
                self._shared.recorder.attempted(each.destination, self._kind(each.destination), each, 0)
        self._wake_all()
        await self._commit(tp, records[-1].offset + 1)

    async def _commit(self, tp: TopicPartition, offset: int) -> None:
        if self._consumer is None:
            return
        try:
            await self._consumer.commit({tp: offset})
        except (KafkaError, IllegalStateError) as error:
            # Read again by whoever has the partition now; the journal knows these deliveries.
            log.info("an offset was not committed", why=repr(error))

    def _park(self, record: Any, new: dict[str, AlertDelivery]) -> None:
        """Add the deliveries of one state to those of its batch."""
        try:
            incident = decode_incident(record.value or b"")
        except msgspec.MsgspecError as error:
            metrics.ALERT_UNREADABLE.inc()
            log.error(  # noqa: TRY400  the reason says it all
                "a record of the incidents topic is no incident", offset=record.offset, why=str(error)
            )
            return
        self._shared.documents.keep(record.partition, record.offset, record.value)
        for routed in self._routed(incident, new):
            delivery = self._delivery(incident, routed, record)
            if not self._shared.outbox.knows(routed.destination, incident.uid, incident.revision):
                new.setdefault(delivery.key, delivery)

    def _routed(self, incident: Incident, new: Mapping[str, AlertDelivery]) -> list[Routed]:
        settings, outbox, now = self._shared.settings, self._shared.outbox, self._shared.clock()
        policy = self._shared.policy_of(incident.tenant_id)
        own = own_destinations(incident.tenant_id, policy, settings, self._refuse)
        for name, config in own.items():
            self._ensure_own(name, config)
        known = outbox.destinations_of(incident.uid) | {
            each.destination
            for each in new.values()
            if each.incident_uid == incident.uid and each.standing is Standing.WAITING
        }
        return route(incident, settings, policy, own, known, now)

    def _delivery(self, incident: Incident, routed: Routed, record: Any) -> AlertDelivery:
        now = self._shared.clock()
        left_out = routed.left_out or self._too_old(incident, now)
        return AlertDelivery(
            destination=routed.destination,
            incident_uid=incident.uid,
            revision=incident.revision,
            tenant_id=incident.tenant_id,
            activity=incident.activity,
            severity=incident.severity,
            partition=record.partition,
            offset=record.offset,
            queued_at=now,
            next_at=routed.hold_until or now,
            changed_at=now,
            standing=Standing.LEFT_OUT if left_out else Standing.WAITING,
            reason=left_out or routed.reason,
        )

    def _too_old(self, incident: Incident, now: int) -> str:
        hours = self._shared.settings.max_age_hours
        return f"older than {hours:g} hours" if now - incident.detected_at > hours * HOUR_MS else ""

    # --- Dispatchers ---

    def _start_dispatcher(self, name: str, config: Destination) -> None:
        dispatcher = Dispatcher(name, config, self._build(name, config), self._shared)
        self._dispatchers[name] = dispatcher
        self._tasks[name] = asyncio.create_task(dispatcher.run())

    def _ensure(self, delivery: AlertDelivery) -> None:
        """See that a delivery which waits for a tenant's own destination is served."""
        if OWN not in delivery.destination:
            return
        policy = self._shared.policy_of(delivery.tenant_id)
        own = own_destinations(delivery.tenant_id, policy, self._shared.settings, self._refuse)
        if delivery.destination in own:
            self._ensure_own(delivery.destination, own[delivery.destination])

    def _ensure_own(self, name: str, config: Destination) -> None:
        if self._own.get(name) == config:
            return
        if name in self._dispatchers:
            self._replaced(name)
        self._own[name] = config
        try:
            self._start_dispatcher(name, config)
        except BadDestinationError as error:
            self._refuse(name, str(error))

    def _replaced(self, name: str) -> None:
        """End the dispatcher of a destination that its policy has changed; what is under way ends by itself."""
        self._tasks.pop(name).cancel()
        task = asyncio.create_task(self._dispatchers.pop(name).drain(DRAIN_SECONDS))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _refuse(self, name: str, why: str) -> None:
        if name not in self._refused:
            self._refused.add(name)
            log.warning("a tenant's destination cannot be used", destination=name, why=why)

    def _wake_all(self) -> None:
        for dispatcher in self._dispatchers.values():
            dispatcher.wake()

    # --- Upkeep ---

    async def _keep_up(self) -> None:
        for round_ in count():
            await self._probe()
            self._observe()
            if round_ % EXPIRE_ROUNDS == 0:
                await self._expire()
            await asyncio.sleep(UPKEEP_SECONDS)

    async def _probe(self) -> None:
        if self._consumer is None:
            return
        with suppress(KafkaError, TimeoutError, OSError):
            await asyncio.wait_for(self._consumer.topics(), UPKEEP_SECONDS)
            self._answered = self._shared.clock()

    def _observe(self) -> None:
        now = self._shared.clock()
        metrics.ALERT_READY.set(not self.problems())
        for name, dispatcher in self._dispatchers.items():
            if OWN in name:
                continue
            waiting, oldest = self._shared.outbox.waiting(name)
            metrics.ALERT_WAITING.labels(name).set(waiting)
            metrics.ALERT_OLDEST.labels(name).set((now - oldest) / 1000 if waiting else 0)
            metrics.ALERT_BREAKER_OPEN.labels(name).set(dispatcher.is_open)

    async def _expire(self) -> None:
        before = self._shared.clock() - self._shared.settings.retention_days * DAY_MS
        for line in self._shared.outbox.expire(before):
            await self._shared.journal.forget(line.partition, line.record_keys())


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()


async def _within_bounds(end: Coroutine[Any, Any, None]) -> None:
    """Wait a while for the end of something; a client that does not end in order, as without a broker, is let go."""
    task = asyncio.ensure_future(end)
    await asyncio.wait({task}, timeout=END_SECONDS)
    task.cancel()
    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
        log.info("a client did not end in order", why=repr(error))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, service: AlertService) -> None:
        self._service = service

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._service.revoked([tp.partition for tp in revoked])

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._service.assigned(sorted(tp.partition for tp in assigned))
