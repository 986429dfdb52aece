"""Results of deliveries, as metrics and as rows of the table `deliveries`."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog

from schemas.finding import SEVERITIES
from worker.alerts.outbox import Standing
from worker.alerts.routing import OWN
from worker.observe import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from schemas.incident import Incident
    from worker.alerts.outbox import AlertDelivery

log = structlog.get_logger(__name__)
TABLE = "deliveries"
MOST_ROWS = 200_000
"""Most rows kept while the store is unavailable; beyond that the oldest are dropped, and counted."""
CHUNK = 5_000
FLUSH_SECONDS = 0.5
_encode = msgspec.msgpack.Encoder().encode


class RowSink(Protocol):
    """Makes rows durable; the store's writer is one."""

    async def insert(self, batch: Mapping[str, Sequence[bytes]]) -> None:
        """Insert rows; return when they are durable."""


class DeliveryRecorder:
    """Counts attempts and inserts them as rows.

    Args:
        sink: the store; None: rows are not stored.
    """

    def __init__(self, sink: RowSink | None) -> None:
        self._sink = sink
        self._rows: deque[bytes] = deque()
        self._more = asyncio.Event()

    def attempted(self, name: str, kind: str, outcome: AlertDelivery, took: int) -> None:
        """Record the result of a delivery, with or without an attempt."""
        metrics.ALERT_DELIVERIES.labels(label(name), result_of(outcome)).inc()
        self.keep(kind, outcome, took)

    def keep(self, kind: str, outcome: AlertDelivery, took: int = 0) -> None:
        """Queue the row of an attempt; the same attempt twice is one row."""
        if self._sink is None:
            return
        if len(self._rows) >= MOST_ROWS:
            self._rows.popleft()
            metrics.ALERT_ROWS_DROPPED.inc()
        self._rows.append(delivery_row(kind, outcome, took))
        self._more.set()

    def delivered(self, name: str, incident: Incident, now: int) -> None:
        """Record that a state was delivered."""
        metrics.ALERT_LATENCY.labels(label(name)).observe(max(now - incident.detected_at, 0) / 1000)

    def rendering_failed(self, name: str) -> None:
        """Count a message that could not be rendered with its template."""
        metrics.ALERT_RENDERING_FAILURES.labels(label(name)).inc()

    async def run(self) -> None:
        """Insert rows until cancelled."""
        while True:
            await self._more.wait()
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Insert the queued rows; wait while the store is unavailable."""
        self._more.clear()
        while self._sink is not None and self._rows:
            rows = [self._rows.popleft() for _ in range(min(len(self._rows), CHUNK))]
            try:
                await self._sink.insert({TABLE: rows})
            except Exception as error:  # noqa: BLE001  delivery goes on whatever the store says
                log.error(  # noqa: TRY400  the reason says it all
                    "attempts cannot be written to the store and are dropped", why=str(error), rows=len(rows)
                )


def label(name: str) -> str:
    """Return a destination's label in metrics; tenants' own destinations share one, so that the number is bounded."""
    return "tenant" if OWN in name else name


def result_of(outcome: AlertDelivery) -> str:
    """Return the result as metrics and rows name it."""
    if outcome.standing is Standing.WAITING:
        return "retry" if outcome.attempts else "parked"
    return outcome.standing.value


def delivery_row(kind: str, outcome: AlertDelivery, took: int) -> bytes:
    """Return the row of an attempt."""
    values = (
        outcome.tenant_id, outcome.incident_uid, outcome.revision, outcome.message_id, outcome.destination, kind,
        outcome.activity.name.lower(), SEVERITIES[outcome.severity], outcome.attempts, result_of(outcome),
        outcome.code, outcome.error, outcome.reason, outcome.digest, outcome.replaced, took,
        outcome.queued_at, outcome.changed_at, outcome.next_at or None,
    )  # fmt: skip
    return _encode(values)[3:]
