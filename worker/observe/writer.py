"""Updates the metrics of inserts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.observe.metrics import FINDING_LATENCY, INSERT_SECONDS, SINK_RETRIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.finding import Finding

SAMPLE = 100
"""Most findings of a batch whose latency is observed."""


class StoreObserver:
    """Counts inserts and retries; the port is `worker.clickhouse.writer.WriterObserver`."""

    def on_insert(self, table: str, rows: int, seconds: float) -> None:  # noqa: ARG002  the port's signature
        """Called when rows of a table are durable."""
        INSERT_SECONDS.labels(table).observe(seconds)

    def on_retry(self, error: str) -> None:
        """Called when a write failed and will be retried."""
        SINK_RETRIES.labels(error).inc()


def observe_findings(findings: Sequence[Finding], now: float) -> None:
    """Observe the latency of findings that are published now (milliseconds)."""
    for finding in findings[:: max(len(findings) // SAMPLE, 1)]:
        FINDING_LATENCY.observe(max(now - finding.detected_at, 0.0) / 1000)
