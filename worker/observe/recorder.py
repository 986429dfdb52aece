"""Records what a run did, for its summary and its live view."""

from __future__ import annotations

import traceback
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from schemas.finding import SEVERITIES, Activity, Finding
from schemas.incident import Incident, Resolution
from worker.observe import metrics
from worker.observe.observer import MetricsObserver
from worker.observe.snapshot import IncidentLine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from faust.types import TP

    from worker.pipeline.ports import BatchResult, Record

log = structlog.get_logger(__name__)

LOG_EVERY = 10_000
"""Failures of a detection between two log lines; the first one is always logged."""
NEWEST = 50
LATENCIES = 2_000
RECENT_MS = 60_000
"""Milliseconds. Older latencies are ignored."""


class RejectRate:
    """The share of the last minute's input that was rejected.

    Args:
        clock: milliseconds since the epoch.
        limit: share above which that is a problem, of `FEWEST` records at least.
    """

    FEWEST = 100

    def __init__(self, clock: Callable[[], float], limit: float) -> None:
        self._clock = clock
        self._limit = limit
        self._recent: deque[tuple[float, int, int]] = deque()

    def add(self, records: int, rejected: int) -> None:
        """Add a batch; the batches of one second are summed."""
        second = self._clock() // 1000
        if self._recent and self._recent[-1][0] == second:
            _, others, bad = self._recent.pop()
            records, rejected = records + others, rejected + bad
        self._recent.append((second, records, rejected))

    def problems(self) -> list[str]:
        """Return the reasons for which the worker is not ready."""
        while self._recent and self._recent[0][0] <= (self._clock() - RECENT_MS) // 1000:
            self._recent.popleft()
        records = sum(count for _, count, _ in self._recent)
        rejected = sum(bad for _, _, bad in self._recent)
        if records < self.FEWEST or rejected <= self._limit * records:
            return []
        return [f"{rejected:,} of {records:,} records of the last minute were rejected: `sessionwatch dlq list`"]


class Recorder(MetricsObserver):
    """A metrics observer that also remembers, within bounds.

    Attributes:
        read: records processed. rows: durable rows by table. rejected: records by reason.
        unevaluated: events by detection that could not evaluate them.
        failed: records that broke the pipeline. failures: evaluations in which a detection raised, by detection.
        severities: new findings by severity. incidents: the newest by id, newest last.
    """

    def __init__(self, clock: Callable[[], float], max_reject_share: float = 1.0) -> None:
        super().__init__(clock)
        self.rejects = RejectRate(clock, max_reject_share)
        self.read = 0
        self.rows: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.unevaluated: Counter[str] = Counter()
        self.failed = 0
        self.failures: Counter[str] = Counter()
        self.severities: Counter[str] = Counter()
        self.incidents: dict[str, IncidentLine] = {}
        self._started = clock()
        self._counts: Counter[str] = Counter()
        self._latencies: deque[tuple[float, float]] = deque(maxlen=LATENCIES)

    def on_batch(self, tp: TP, records: int, seconds: float, result: BatchResult) -> None:
        """Called when records were processed."""
        super().on_batch(tp, records, seconds, result)
        # The worker itself produced session starts and findings.
        self.read += records - result.counters["starts-correlated",] - result.counters["findings-correlated",]
        rejected = sum(count for key, count in result.counters.items() if key[0] == "rejected")
        self.rejects.add(records, rejected)
        for (name, *labels), count in result.counters.items():
            self._counts[name] += count
            if name == "rejected":
                self.rejected[labels[0]] += count
            elif name == "unevaluated":
                self.unevaluated[labels[0]] += count
        for finding in result.findings:
            self._remember(finding)
        self._remember_incidents(result)

    def on_timers(self, partition: int, seconds: float, result: BatchResult) -> None:
        """Called when timers changed something."""
        super().on_timers(partition, seconds, result)
        self._remember_incidents(result)

    def on_insert(self, rows: Mapping[str, int], record_times: Sequence[int]) -> None:
        """Called when rows are durable."""
        super().on_insert(rows, record_times)
        self.rows.update(rows)

    def on_poison(self, record: Record, error: Exception) -> None:
        """Called when the processor failed on a record."""
        super().on_poison(record, error)
        self.failed += 1

    def on_detection_failure(self, detection: str, error: Exception) -> None:
        """Called when a detection raised; logs the first failure and then one in `LOG_EVERY`."""
        metrics.DETECTION_FAILURES.labels(detection).inc()
        self.failures[detection] += 1
        if self.failures[detection] % LOG_EVERY == 1:
            log.error(
                "a detection failed; the other detections judge the event",
                detection=detection, why=failure_place(error), times=self.failures[detection],
            )  # fmt: skip

    def count(self, name: str) -> int:
        """Return the sum of a counter over all its labels."""
        return self._counts[name]

    def latency(self, quantile: float) -> float | None:
        """Return a quantile of the latencies of the last minute's findings, seconds; None when there are none."""
        since = self._clock() - RECENT_MS
        known = sorted(latency for at, latency in self._latencies if at >= since)
        return known[min(int(len(known) * quantile), len(known) - 1)] if known else None

    def forget_latencies(self) -> None:
        """Drop the latencies: they were measured while the worker caught up."""
        self._latencies.clear()

    def _remember(self, finding: Finding) -> None:
        if finding.activity is not Activity.CREATE:
            return
        severity = SEVERITIES[finding.severity]
        self.severities[severity] += 1
        if finding.detected_at >= self._started:
            # Findings on past events are not a measure of latency.
            now = self._clock()
            self._latencies.append((now, max(now - finding.detected_at, 0.0) / 1000))

    def _remember_incidents(self, result: BatchResult) -> None:
        """Keep the newest incidents, each with its last state."""
        for incident in result.incidents:
            self.incidents.pop(incident.uid, None)
            if incident.resolution not in _GONE:
                self.incidents[incident.uid] = _line(incident)
        while len(self.incidents) > NEWEST:
            self.incidents.pop(next(iter(self.incidents)))


_GONE = (Resolution.MERGED, Resolution.WITHDRAWN)


def _line(incident: Incident) -> IncidentLine:
    return IncidentLine(
        time=incident.started_at,
        severity=SEVERITIES[incident.severity],
        state=incident.state,
        tenant_id=incident.tenant_id,
        user_id=incident.user_id or incident.subject,
        text=incident.title.partition(": ")[2],
    )


def failure_place(error: Exception) -> str:
    """Return type and origin of an exception, without its message, which may repeat the content of a record."""
    frames = traceback.extract_tb(error.__traceback__)
    return type(error).__name__ + (f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "")
