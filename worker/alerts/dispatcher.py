"""Delivery to one destination, with its own queue, circuit breaker and rate limit, so that it delays no other."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog
from aiokafka.errors import KafkaError

from schemas.finding import Severity
from worker.alerts.alert import Alert
from worker.alerts.breaker import Breaker
from worker.alerts.digest import build_digest
from worker.alerts.limiter import Limiter
from worker.alerts.outbox import Standing
from worker.alerts.outcome import Outcome, Result, scrubbed
from worker.alerts.routing import CONDITIONAL, PEOPLE, kind_of
from worker.alerts.schedule import next_attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from schemas.alerting import AlertingPolicy
    from worker.alerts.alert import Digest, Sender
    from worker.alerts.config import AlertSettings, Destination
    from worker.alerts.documents import Documents
    from worker.alerts.journal import JournalWriter
    from worker.alerts.message import AlertMessage
    from worker.alerts.outbox import AlertDelivery, Line, Outbox
    from worker.alerts.prepared import PreparedStates
    from worker.alerts.record import DeliveryRecorder

log = structlog.get_logger(__name__)
LARGEST_DIGEST = 500
IDLE_SECONDS = 5.0
KAFKA_SECONDS = 5.0
"""Seconds until a document is read again when Kafka does not answer."""
BUG_SECONDS = 60.0
"""Seconds until lines whose delivery failed because of a bug are tried again."""
LOST = "the incident is no longer on the topic"


class DispatcherContext(NamedTuple):
    """The objects that the dispatchers of a process share.

    Attributes:
        clock: milliseconds since the epoch.
        policy_of: returns the alerting policy of a tenant.
        secrets: texts that errors must not contain.
    """

    settings: AlertSettings
    outbox: Outbox
    journal: JournalWriter
    documents: Documents
    states: PreparedStates
    recorder: DeliveryRecorder
    clock: Callable[[], int]
    policy_of: Callable[[str], AlertingPolicy]
    secrets: list[str]


class Dispatcher:
    """Serves the lines of one destination.

    Args:
        name: the destination's name.
        config: its settings.
        sender: makes the attempts.
        shared: objects shared with other dispatchers.
    """

    def __init__(self, name: str, config: Destination, sender: Sender, shared: DispatcherContext) -> None:
        self.name = name
        self.kind = kind_of(config)
        self._config = config
        self._sender = sender
        self._shared = shared
        settings = shared.settings
        self._breaker = Breaker(
            settings.breaker_failures, int(settings.breaker_s * 1000), int(settings.breaker_max_s * 1000)
        )
        self._limiter = Limiter(config.rate_per_s, config.burst)
        self._under_way: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._gone = self._paused = False

    @property
    def is_open(self) -> bool:
        """Whether the circuit breaker of the destination is open."""
        return self._breaker.is_open or self._gone

    def wake(self) -> None:
        """Check the queue again."""
        self._wake.set()

    async def run(self) -> None:
        """Serve the destination until cancelled."""
        while True:
            self._wake.clear()
            wait = self._wait()
            if wait > 0:
                await self._sleep(wait)
            else:
                self._serve()
                await asyncio.sleep(0)

    async def pause(self, seconds: float) -> None:
        """Start no attempt, and wait for those in progress."""
        self._paused = True
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=seconds)

    def go_on(self) -> None:
        """Start attempts again."""
        self._paused = False
        self._wake.set()

    async def drain(self, seconds: float) -> None:
        """Wait for the attempts in progress, and close connections."""
        await self.pause(seconds)
        for task in self._under_way:
            task.cancel()
        await self._sender.close()

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), min(seconds, IDLE_SECONDS))

    def _wait(self) -> float:
        """Return the seconds until an attempt may begin."""
        now = self._shared.clock()
        due = self._shared.outbox.queue(self.name).next_at(now)
        if due is None or self._paused or len(self._under_way) >= self._config.concurrency:
            return IDLE_SECONDS
        if self._gone:
            return (due - now) / 1000
        return (max(due, self._breaker.allows_at(), self._limiter.allows_at(now)) - now) / 1000

    def _serve(self) -> None:
        now, outbox = self._shared.clock(), self._shared.outbox
        line = outbox.take(self.name, now)
        if line is None:
            return
        reason = pointless(line) if self.kind in CONDITIONAL else ""
        if reason or self._gone:
            self._spawn(self._settle_without(line, reason), [line])
            return
        self._breaker.begin()
        self._limiter.spend(now)
        lines = [line, *self._digested(line, now)]
        self._spawn(self._deliver_digest(lines) if len(lines) > 1 else self._deliver(line), lines)

    def _spawn(self, work: Coroutine[Any, Any, None], lines: list[Line]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(partial(self._done, lines))

    def _done(self, lines: list[Line], task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._breaker.abandon()
            log.error("a delivery failed because of a bug", destination=self.name, exc_info=error)
            asyncio.get_running_loop().call_later(BUG_SECONDS, self._release, lines)

    def _release(self, lines: list[Line]) -> None:
        for line in lines:
            self._shared.outbox.release(line)
        self._wake.set()

    def _digested(self, first: Line, now: int) -> list[Line]:
        """Return further lines for a digest when too many are due; critical incidents are sent one by one."""
        settings, outbox = self._shared.settings, self._shared.outbox
        due = outbox.queue(self.name).due(now)
        if self.kind not in PEOPLE or due + 1 < settings.digest_after or _is_critical(first):
            return []
        taken = (outbox.take(self.name, now) for _ in range(min(due, LARGEST_DIGEST)))
        return [line for line in taken if line is not None]

    async def _settle_without(self, line: Line, reason: str) -> None:
        """Settle the first delivery of a line without an attempt, or all of them when they are not needed."""
        now = self._shared.clock()
        told = {"standing": Standing.LEFT_OUT, "reason": reason} if reason else {
            "standing": Standing.FAILED, "error": "the receiver said that it is gone (HTTP 410)"
        }  # fmt: skip
        outcomes = [each.change(changed_at=now, **told) for each in (line.waiting if reason else line.waiting[:1])]
        await self._settle(line, outcomes)

    async def _deliver(self, line: Line) -> None:
        delivery, began = line.waiting[0], self._shared.clock()
        alert = await self._alert(delivery)
        if alert is None:
            await self._lost(line)
            return
        result = await self._attempt(alert)
        outcome = self._outcome(delivery, result)
        await self._settle(line, [outcome], self._shared.clock() - began)
        if outcome.standing is Standing.DELIVERED:
            self._shared.recorder.delivered(self.name, alert.incident, self._shared.clock())

    async def _lost(self, line: Line) -> None:
        self._breaker.abandon()
        failed = line.waiting[0].change(standing=Standing.FAILED, error=LOST, changed_at=self._shared.clock())
        await self._settle(line, [failed])

    async def _alert(self, delivery: AlertDelivery) -> Alert | None:
        """Return the message to send; None when the topic no longer has the incident."""
        document = await self._document(delivery)
        if document is None:
            return None
        place = delivery.partition, delivery.offset
        try:
            state = self._shared.states.get(place, document, delivery.replaced)
        except msgspec.MsgspecError:
            return None
        policy = self._shared.policy_of(delivery.tenant_id)
        return Alert(delivery.message_id, state.incident, document, state.message, policy, self._shared.clock())

    async def _document(self, delivery: AlertDelivery) -> bytes | None:
        while True:
            try:
                return await self._shared.documents.get(delivery.partition, delivery.offset)
            except KafkaError as error:
                log.warning("an incident cannot be read; trying again", why=repr(error))
                await asyncio.sleep(KAFKA_SECONDS)

    async def _attempt(self, alert: Alert) -> Result:
        try:
            return await self._sender.send(alert)
        except Exception as error:  # noqa: BLE001  whatever a message makes a sender raise, it goes out, if only bare
            self._shared.recorder.rendering_failed(self.name)
            log.error(  # noqa: TRY400  a traceback could show what a message holds
                "a message could not be rendered; a bare one is sent", destination=self.name, why=repr(type(error))
            )
        try:
            return await self._sender.send(alert._replace(message=bare(alert.message)))
        except Exception as error:  # noqa: BLE001  the same
            return Result(Outcome.REFUSED, error=f"the message could not be made: {type(error).__name__}")

    async def _deliver_digest(self, lines: list[Line]) -> None:
        """Send a digest of the newest waiting state of each line that is below critical."""
        began, told = self._shared.clock(), []
        for line in lines:
            alert = await self._alert(_calm(line)[-1])
            if alert is None:
                await self._lost(line)
            else:
                told.append((line, _calm(line), alert))
        if not told:
            return
        digest = self._digest([alert for *_, alert in told])
        result = await self._attempt_digest(digest)
        self._learn(result)
        outcomes = [self._digest_outcomes(states, result, digest.id) for _, states, _ in told]
        await self._shared.journal.write(list(chain.from_iterable(outcomes)))
        for (line, _, alert), settled in zip(told, outcomes, strict=True):
            self._take_in(line, settled, self._shared.clock() - began)
            if result.outcome is Outcome.DELIVERED:
                self._shared.recorder.delivered(self.name, alert.incident, self._shared.clock())

    def _digest(self, alerts: list[Alert]) -> Digest:
        grafana = self._shared.settings.grafana_url
        return build_digest([each.message for each in alerts], [each.incident for each in alerts], grafana)

    async def _attempt_digest(self, digest: Digest) -> Result:
        try:
            return await self._sender.send_digest(digest)
        except Exception as error:  # noqa: BLE001  the next attempt is another digest, or single messages
            self._shared.recorder.rendering_failed(self.name)
            return Result(Outcome.REFUSED, error=f"the digest could not be made: {type(error).__name__}")

    def _digest_outcomes(self, states: list[AlertDelivery], result: Result, digest: str) -> list[AlertDelivery]:
        if result.outcome is not Outcome.DELIVERED:
            return [self._changed(states[0], result)]
        return [self._changed(each, result).change(digest=digest) for each in states]

    def _outcome(self, delivery: AlertDelivery, result: Result) -> AlertDelivery:
        self._learn(result)
        return self._changed(delivery, result)

    def _changed(self, delivery: AlertDelivery, result: Result) -> AlertDelivery:
        """Return a delivery after an attempt."""
        now, attempts = self._shared.clock(), delivery.attempts + 1
        error = scrubbed(result.error, self._shared.secrets)
        made = delivery.change(attempts=attempts, changed_at=now, code=result.code, error=error, requested=False)
        if result.outcome is Outcome.DELIVERED:
            return made.change(standing=Standing.DELIVERED, next_at=0, unavailable=False)
        if result.outcome is Outcome.NOTHING:
            return made.change(standing=Standing.LEFT_OUT, reason="nothing to tell this destination")
        delays = self._shared.settings.retry_delays_s
        at = 0 if result.outcome is Outcome.GONE else next_attempt(delays, attempts, now, result.wait_s, delivery.key)
        if not at:
            return made.change(standing=Standing.FAILED, next_at=0)
        return made.change(next_at=at, unavailable=result.outcome is Outcome.UNAVAILABLE)

    def _learn(self, result: Result) -> None:
        """Update circuit breaker and pauses by the result of an attempt."""
        now = self._shared.clock()
        if result.outcome is Outcome.UNAVAILABLE:
            if result.wait_s is not None or result.code == 429:
                self._breaker.abandon()
                self._breaker.pause(now + (result.wait_s or 5) * 1000)
            elif self._breaker.fail(now):
                self._say("a destination fails; its circuit breaker is open", result)
        elif result.outcome is Outcome.GONE:
            self._gone = True
            self._breaker.abandon()
            self._say("a destination is gone; it gets no messages until a restart", result)
        elif self._breaker.succeed():
            log.info("a destination accepts messages again", destination=self.name)
            self._shared.outbox.hurry(self.name, now)

    def _say(self, what: str, result: Result) -> None:
        log.error(what, destination=self.name, why=scrubbed(result.error, self._shared.secrets))

    async def _settle(self, line: Line, outcomes: list[AlertDelivery], took: int = 0) -> None:
        """Write outcomes to the journal, then apply them in order."""
        await self._shared.journal.write(outcomes)
        self._take_in(line, outcomes, took)

    def _take_in(self, line: Line, outcomes: list[AlertDelivery], took: int) -> None:
        for outcome in outcomes:
            self._shared.recorder.attempted(self.name, self.kind, outcome, took)
            self._shared.outbox.settle(line, outcome)
            if outcome.standing is Standing.FAILED:
                log.error("a delivery failed for good", destination=self.name, delivery=outcome.key, why=outcome.error)


def _is_critical(line: Line) -> bool:
    return line.waiting[0].severity >= Severity.CRITICAL


def _calm(line: Line) -> list[AlertDelivery]:
    """Return the states of a line before the first critical one."""
    found: list[AlertDelivery] = []
    for each in line.waiting:
        if each.severity >= Severity.CRITICAL:
            break
        found.append(each)
    return found or line.waiting[:1]


def pointless(line: Line) -> str:
    """Return why the waiting states of a line need not be sent; empty when they must be.

    Called for destinations that get a resolution only if they got the incident.
    """
    first, last = line.waiting[0], line.waiting[-1]
    if line.triggered or first.requested:
        return ""
    if first.closes:
        return "the destination did not get the incident"
    if last.closes and first.reason and not first.attempts:
        return "resolved before the quiet hours ended"
    return ""


def bare(message: AlertMessage) -> AlertMessage:
    """Return a message with title and tenant only."""
    note = "This message could not be laid out as usual."
    return message._replace(facts=(), changes=(), findings=(), steps=(), notes=(note,), links=())
