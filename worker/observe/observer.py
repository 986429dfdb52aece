"""Updates the metrics from the callbacks of the stream layer."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from worker.observe import metrics
from worker.observe.interface import StreamObserver
from worker.observe.writer import observe_findings
from worker.sessions.fold import is_live
from worker.sessions.state import decode_user, is_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from faust.types import TP

    from worker.observe.interface import ObservedWorker, ReadableShard
    from worker.pipeline.ports import BatchResult, Record

SAMPLE = 250
"""States of a partition sampled for mean size and sessions; about 2 ms."""


class MetricsObserver(StreamObserver):
    """Updates the metrics from the callbacks of the stream layer.

    Args:
        clock: milliseconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def on_batch(self, tp: TP, records: int, seconds: float, result: BatchResult) -> None:
        """Called when records were processed."""
        metrics.RECORDS_IN.labels(tp.topic).inc(records)
        metrics.BATCH_RECORDS.observe(records)
        metrics.BATCH_SECONDS.observe(seconds)
        self._count(result)

    def on_timers(self, partition: int, seconds: float, result: BatchResult) -> None:  # noqa: ARG002  the port's signature
        """Called when timers changed something."""
        self._count(result)

    def _count(self, result: BatchResult) -> None:
        metrics.observe_counters(result.counters)
        metrics.CHANGELOG_RECORDS.inc(len(result.states))
        metrics.CHANGELOG_BYTES.inc(sum([len(state) for state in result.states.values() if state is not None]))
        observe_findings(result.findings, self._clock())

    def on_insert(self, rows: Mapping[str, int], record_times: Sequence[int]) -> None:
        """Called when rows are durable."""
        for table, count in rows.items():
            metrics.ROWS_OUT.labels(table).inc(count)
        now = self._clock()
        for time in record_times:
            metrics.ROW_LATENCY.observe(max(now - time, 0.0) / 1000)

    def on_lag(self, tp: TP, records: int) -> None:
        """Called with the lag of an input partition."""
        metrics.LAG.labels(tp.topic, tp.partition).set(records)

    def on_watermark_lag(self, milliseconds: int) -> None:
        """Called with the group's watermark lag."""
        metrics.WATERMARK_LAG.set(milliseconds / 1000)

    def on_assigned(self, partitions: Iterable[int]) -> None:  # noqa: ARG002  the port's signature
        """Called when partitions were assigned: clear the gauges of the previous ones."""
        for gauge in (metrics.LAG, metrics.STATE_USERS, metrics.STATE_BYTES, metrics.ACTIVE_SESSIONS):
            gauge.clear()

    def on_restored(self, states: int, seconds: float) -> None:  # noqa: ARG002  the port's signature
        """Called when the state was recovered."""
        metrics.RECOVERY_SECONDS.set(seconds)

    def on_oversize(self, topic: str, size: int) -> None:  # noqa: ARG002  the port's signature
        """Called when a message was published without its value."""
        metrics.OVERSIZE.labels(topic).inc()

    def on_poison(self, record: Record, error: Exception) -> None:  # noqa: ARG002  the port's signature
        """Called when the processor failed on a record."""
        metrics.FAILED.inc()


def observe_app(app: ObservedWorker) -> None:
    """Set the gauges that have no callback; call it before metrics are read."""
    metrics.READY.set(not app.problems)
    metrics.IN_FLIGHT_ROWS.set(app.delivery.in_flight.rows)


def observe_state(app: ObservedWorker) -> None:
    """Set the gauges of the state, from a sample of it: some milliseconds a partition."""
    for partition, shard in app.delivery.queues.items():
        found = state_sample(shard, app.clock())
        metrics.STATE_USERS.labels(partition).set(found.users)
        metrics.STATE_BYTES.labels(partition).set(found.size)
        metrics.ACTIVE_SESSIONS.labels(partition).set(found.active)


class StateSample(NamedTuple):
    """Size of a shard's states in bytes, its users, and their active sessions."""

    size: float
    users: float
    active: float


def state_sample(shard: ReadableShard, now: int) -> StateSample:
    """Return the size of a shard's state, extrapolated from a sample.

    Args:
        shard: of users' states.
        now: milliseconds.
    """
    count = len(shard)
    states = [state for _, state in islice(shard.items(), 0, None, max(count // SAMPLE, 1))]
    scale = count / len(states) if states else 0.0
    users = [decode_user(state) for state in states if is_user(state)]
    active = sum(is_live(session, now) for user in users for session in user.current.sessions.values())
    return StateSample(sum(map(len, states)) * scale, len(users) * scale, active * scale)
