"""What the store of rows tells of itself, as metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.observe.metrics import FINDING_LATENCY, INSERT_SECONDS, SINK_RETRIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.finding import Finding

SAMPLE = 100
"""Findings of a batch whose latency is observed, at most."""


class StoreObserver:
    """Counts inserts and retries; the port is `worker.clickhouse.writer.WriterObserver`."""

    def on_insert(self, table: str, rows: int, seconds: float) -> None:  # noqa: ARG002  the port's signature
        """Take in that rows of a table became durable."""
        INSERT_SECONDS.labels(table).observe(seconds)

    def on_retry(self, error: str) -> None:
        """Take in that a write failed and will be tried again."""
        SINK_RETRIES.labels(error).inc()


def observe_findings(findings: Sequence[Finding], now: float) -> None:
    """Observe the latency of findings that leave now (milliseconds)."""
    for finding in findings[:: max(len(findings) // SAMPLE, 1)]:
        FINDING_LATENCY.observe(max(now - finding.detected_at, 0.0) / 1000)
