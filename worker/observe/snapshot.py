"""The figures of a running worker: a snapshot while it runs, a summary at the end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentLine:
    """An incident on one line: start (event time, milliseconds), severity, state, tenant, user, title."""

    time: int
    severity: str
    state: str
    tenant_id: str
    user_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A worker at one moment.

    Attributes:
        elapsed: seconds since the start.
        addresses: addresses by name, in the order to show.
        events_per_second: the current rate. `speeds`: those of the last seconds, newest last.
        read, lag, in_flight: records consumed, records not consumed yet, rows not durable yet.
        rows: durable rows by table. rejected: records by reason.
        sessions: active sessions by tenant.
        latency_p50, latency_p99: from record timestamp to finding published, seconds; None before the first.
        severities: findings by severity. incidents: the newest, in order of their last change, newest first.
        waiting_for: why the worker is not ready; empty when it is.
        doing: the current step of the start-up; empty afterwards.
    """

    elapsed: float = 0.0
    addresses: Mapping[str, str] = field(default_factory=dict)
    events_per_second: float = 0.0
    speeds: Sequence[float] = ()
    read: int = 0
    lag: int = 0
    in_flight: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    sessions: Mapping[str, int] = field(default_factory=dict)
    latency_p50: float | None = None
    latency_p99: float | None = None
    severities: Mapping[str, int] = field(default_factory=dict)
    incidents: Sequence[IncidentLine] = ()
    waiting_for: Sequence[str] = ()
    doing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The result of a `demo` or a `replay`.

    Attributes:
        read: records (lines) read; accepted + rejected + ignored + failed of them.
        rows: durable rows of `session_events`. findings: durable findings.
        seconds: wall time of the run.
        interrupted: the user ended it.
        reasons: records rejected by reason.
        unevaluated: events that a detection could not evaluate because data was missing, by detection.
        failed: records that the pipeline failed on; they are dead letters.
        failures: evaluations in which a detection raised, by detection.
    """

    read: int
    accepted: int
    rejected: int
    ignored: int
    rows: int
    findings: int
    seconds: float
    interrupted: bool = False
    reasons: Mapping[str, int] = field(default_factory=dict)
    unevaluated: Mapping[str, int] = field(default_factory=dict)
    failed: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that `--json` prints."""
        shown = asdict(self)
        del shown["interrupted"]
        speed = self.read / self.seconds if self.seconds else 0.0
        return {**shown, "seconds": round(self.seconds, 3), "events_per_second": round(speed, 1)}

    def as_line(self) -> str:
        """Return the summary as one line of text."""
        speed = self.read / self.seconds if self.seconds else 0.0
        why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.reasons.items()))
        rejected = f"{self.rejected:,} rejected: {why};" if why else f"{self.rejected:,} rejected,"
        failed = f", {self.failed:,} failed" if self.failed else ""
        parts = f"{self.accepted:,} accepted, {rejected} {self.ignored:,} ignored{failed}"
        broken = ", ".join(f"{name} {count:,} times" for name, count in sorted(self.failures.items()))
        return (
            f"read {self.read:,} ({parts}): {self.rows:,} rows, {self.findings:,} findings "
            f"in {self.seconds:.1f} s ({speed:,.0f} events/s)"
        ) + (f"; detections that failed: {broken}" if broken else "")
