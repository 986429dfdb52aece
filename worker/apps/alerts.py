"""`sessionwatch alerts`: the process that delivers incidents, and the commands of operators."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog

from schemas.alerting import AlertingPolicy
from schemas.incident import decode_incident
from worker.alerts.alert import Alert
from worker.alerts.destinations.build import SenderContext, build_sender
from worker.alerts.dispatcher import DispatcherContext
from worker.alerts.documents import Documents
from worker.alerts.journal import JournalReader, JournalWriter
from worker.alerts.message import Links, build_message
from worker.alerts.outbox import Outbox, Standing
from worker.alerts.outcome import Outcome, Result, scrubbed, spellings
from worker.alerts.pages import serve_pages
from worker.alerts.prepared import PreparedStates
from worker.alerts.record import DeliveryRecorder
from worker.alerts.routing import route
from worker.alerts.runner import AlertService, Kafka
from worker.alerts.sample import sample_incident
from worker.alerts.tenants import own_destinations
from worker.apps.embedded import served
from worker.apps.errors import CheckFailedError
from worker.apps.topics import create_topics
from worker.clickhouse.writer import ClickHouseWriter, connect
from worker.detections.policies import BadPolicyError, parse_policy
from worker.observe.writer import StoreObserver
from worker.stream.connection import aiokafka_options, explained
from worker.stream.policies import PolicyReader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from schemas.incident import Incident
    from worker.alerts.config import Destination
    from worker.alerts.outbox import AlertDelivery
    from worker.settings import Settings

log = structlog.get_logger(__name__)
DEFAULT = AlertingPolicy.model_validate({})


class NoDestinationError(ValueError):
    """There is no destination with this name."""


class RouteDecision(NamedTuple):
    """Whether a destination would get an incident, and why not."""

    destination: str
    kind: str
    decision: str


def wall_clock() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class AlertingPolicies:
    """The alerting part of the tenants' policies on their topic."""

    def __init__(self) -> None:
        self._found: dict[str, AlertingPolicy] = {}

    def of(self, tenant_id: str) -> AlertingPolicy:
        """Return the alerting policy of a tenant."""
        return self._found.get(tenant_id, DEFAULT)

    def set(self, tenant_id: str, document: bytes | None) -> None:
        """Apply a policy; if it is invalid, the last valid one stays in force."""
        if document is None:
            self._found.pop(tenant_id, None)
            return
        try:
            self._found[tenant_id] = parse_policy(document).alerting
        except BadPolicyError as error:
            log.warning("policy refused, the tenant's last good one stays in force", tenant=tenant_id, why=str(error))


def serve(settings: Settings) -> int:
    """Deliver incidents until SIGTERM or SIGINT; return the exit code.

    Raises:
        KafkaConnectionError: Kafka does not answer.
        BadDestinationError: a destination cannot be used as it is set.
    """
    with served(settings) if settings.clickhouse.dsn is not None else nullcontext(settings) as ready:
        asyncio.run(_serve(ready))
    return 0


async def _serve(settings: Settings) -> None:
    stop = _on_stop()
    options = aiokafka_options(settings.kafka)
    await create_topics(settings)
    policies = AlertingPolicies()
    reader = PolicyReader(options, settings.topics.policies, policies.set)
    await reader.start()
    service = build_service(settings, policies.of)
    token = settings.web.token.get_secret_value() if settings.web.token else ""
    web = settings.web
    pages = await serve_pages(web.host, settings.alerts.web_port, token, service.problems, web.hosts())
    _say_hello(settings, pages.addresses)
    try:
        await service.run(stop)
    finally:
        await reader.stop()
        await pages.cleanup()


def build_service(settings: Settings, policy_of: Callable[[str], AlertingPolicy]) -> AlertService:
    """Return the service that the settings describe; call it in the event loop that will run it."""
    options, topics, alerts = aiokafka_options(settings.kafka), settings.topics, settings.alerts
    shared = DispatcherContext(
        settings=alerts,
        outbox=Outbox(alerts.max_waiting_states),
        journal=JournalWriter(options, topics.deliveries),
        documents=Documents(options, topics.incidents),
        states=PreparedStates(Links(alerts.grafana_url, alerts.console_url)),
        recorder=DeliveryRecorder(_sink(settings)),
        clock=wall_clock,
        policy_of=policy_of,
        secrets=_secrets(settings),
    )
    stream = settings.stream
    kafka = Kafka(options, topics.incidents, alerts.group_id, stream.session_timeout_s, stream.fetch_max_wait_ms)
    given = _sender_surroundings(settings)
    return AlertService(
        kafka,
        shared,
        JournalReader(options, topics.deliveries),
        lambda name, config: build_sender(name, config, given),
    )


def _sender_surroundings(settings: Settings) -> SenderContext:
    return SenderContext(wall_clock, aiokafka_options(settings.kafka), socket.gethostname() or "-")


def _sink(settings: Settings) -> ClickHouseWriter | None:
    if settings.clickhouse.dsn is None:
        return None
    dsn, options = settings.store_dsn(), settings.store_options()
    return ClickHouseWriter(lambda: connect(dsn, **options), observer=StoreObserver(), clock=time.monotonic)


def _secrets(settings: Settings) -> list[str]:
    """Return what errors must not contain."""
    return spellings(settings.alerts.secret_texts())


def _say_hello(settings: Settings, addresses: list[Any]) -> None:
    alerts = settings.alerts
    names = sorted(name for name, each in alerts.destinations.items() if each.enabled)
    log.info(
        "alerts are delivered",
        destinations=names,
        topic=settings.topics.incidents,
        group=alerts.group_id,
        web=[f"{address[0]}:{address[1]}" for address in addresses],
    )
    if not names:
        log.warning(
            "no destination is set: incidents are read, but not delivered; "
            "set alerts.destinations, see docs/alerting.md"
        )
    if settings.clickhouse.dsn is None:
        log.warning("clickhouse.dsn is not set: attempts are not written to the table deliveries")


def _on_stop() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


# --- Commands of operators ---


def send_test(settings: Settings, name: str) -> str:
    """Send a sample incident to a destination now, without routes, silences and the journal; return what happened.

    Raises:
        CheckFailedError: the destination did not accept it; the message says why.
        NoDestinationError: there is none with that name.
        BadDestinationError: it cannot be used as it is set.
    """
    destination = settings.alerts.destinations.get(name)
    if destination is None:
        known = ", ".join(sorted(settings.alerts.destinations))
        if not known:
            raise NoDestinationError(
                f"no destination is set; add the table [alerts.destinations.{name}], see docs/alerting.md"
            )
        raise NoDestinationError(f"there is no destination {name!r}; there are: {known}")
    result = asyncio.run(_send_test(settings, name, destination))
    if result.outcome is Outcome.NOTHING:
        return f"{name}: the sample incident has nothing to send to this destination; its settings are valid"
    if result.outcome is not Outcome.DELIVERED:
        raise CheckFailedError(f"{name} did not accept the sample incident: {result.error}")
    return f"{name} accepted the sample incident{f' ({result.error})' if result.error else ''}"


async def _send_test(settings: Settings, name: str, destination: Destination) -> Result:
    incident = sample_incident(wall_clock())
    policy = AlertingPolicy.model_validate({"revoke": False})
    links = Links(settings.alerts.grafana_url, settings.alerts.console_url)
    alert = Alert(
        f"{incident.uid}-{incident.revision}",
        incident,
        incident.message(),
        build_message(incident, links),
        policy,
        wall_clock(),
    )
    sender = build_sender(name, destination, _sender_surroundings(settings))
    try:
        result = await sender.send(alert)
    finally:
        await sender.close()
    return result._replace(error=scrubbed(result.error, _secrets(settings)))


def routes_of(settings: Settings, document: bytes, policy: bytes | None) -> tuple[Incident, list[RouteDecision]]:
    """Return an incident and where it would go, without sending anything.

    Args:
        settings: destinations, routes and silences.
        document: the incident as the topic has it.
        policy: its tenant's; None: the default.

    Raises:
        ValueError: the document is no incident.
        BadPolicyError: the policy cannot be used.
    """
    try:
        incident = decode_incident(document)
    except msgspec.MsgspecError as error:
        raise ValueError(
            f"not an incident: {error}; give the JSON of `sessionwatch incidents show ID --json`"
        ) from None
    alerting = parse_policy(policy).alerting if policy else DEFAULT
    refused: dict[str, str] = {}
    own = own_destinations(incident.tenant_id, alerting, settings.alerts, refused.__setitem__)
    every: dict[str, Destination] = {**settings.alerts.destinations, **own}
    found = {each.destination: each for each in route(incident, settings.alerts, alerting, own, (), wall_clock())}
    routes = []
    for name, config in every.items():
        kind = getattr(config, "kind", "")
        if name not in found:
            routes.append(RouteDecision(name, kind, "not routed: by severity, routes, policy or kind"))
        elif found[name].left_out:
            routes.append(RouteDecision(name, kind, found[name].left_out))
        else:
            routes.append(RouteDecision(name, kind, found[name].reason or "delivered at once"))
    return incident, [*routes, *(RouteDecision(name, "", f"refused: {why}") for name, why in refused.items())]


def deliveries(settings: Settings, *, failed: bool = False) -> list[AlertDelivery]:
    """Return the deliveries in the journal that wait or failed for good, or only the latter; the newest first.

    Raises:
        KafkaError: Kafka does not answer.
    """
    wanted = {Standing.FAILED} if failed else {Standing.FAILED, Standing.WAITING}
    found = asyncio.run(_journal(settings))
    return sorted((each for each in found if each.standing in wanted), key=lambda each: -each.changed_at)


async def _journal(settings: Settings) -> list[AlertDelivery]:
    options = aiokafka_options(settings.kafka)
    reader = JournalReader(options, settings.topics.deliveries)
    async with explained(options):
        found, _ = await reader.load(range(settings.topics.partitions))
    return found


def delivery_json(delivery: AlertDelivery) -> dict[str, Any]:
    """Return a delivery and its key, for JSON."""
    return {"key": delivery.key, **msgspec.to_builtins(delivery)}


def replay(settings: Settings, keys: Collection[str], destination: str) -> int:
    """Request failed deliveries again from the running process, or from the next one; return how many.

    Args:
        settings: where Kafka is.
        keys: keys of deliveries; none: all.
        destination: only deliveries to this destination, unless empty.

    Raises:
        KafkaError: Kafka does not answer.
    """
    chosen = [
        each
        for each in deliveries(settings, failed=True)
        if (not keys or each.key in keys) and destination in ("", each.destination)
    ]
    asyncio.run(_replay(settings, chosen))
    return len(chosen)


async def _replay(settings: Settings, chosen: list[AlertDelivery]) -> None:
    journal, now = JournalWriter(aiokafka_options(settings.kafka), settings.topics.deliveries), wall_clock()
    await journal.start()
    try:
        await journal.write(
            [
                each.change(
                    standing=Standing.WAITING, attempts=0, next_at=now, changed_at=now, requested=True, reason=""
                )
                for each in chosen
            ]
        )
    finally:
        with suppress(TimeoutError):
            await journal.stop()
