"""All metrics, declared once, on a registry of their own.

Names follow Prometheus' rules (https://prometheus.io/docs/practices/naming/): one prefix, base units,
`_total` on counters. A label's values are bounded: no tenant, user or session ever becomes one.
"""

from __future__ import annotations

from collections import Counter as Tally
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

if TYPE_CHECKING:
    from collections.abc import Mapping

REGISTRY = CollectorRegistry()
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# From a few milliseconds (idle) to minutes (catching up after an outage).
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0)
# Adaptive batching goes from one record when idle to `delivery.max_rows` under load.
SIZE_BUCKETS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)

# --- What comes in ---

RECORDS_IN = Counter("sessionwatch_records_in_total", "Records consumed from Kafka.", ["topic"], registry=REGISTRY)
# Accepted + rejected + ignored + forwarded + deduplicated + failed + forgotten = records in.
ACCEPTED = Counter(
    "sessionwatch_events_accepted_total", "Events that were validated, judged and written as rows.", registry=REGISTRY
)
# Each of these is in the dead-letter topic, byte for byte, with its reason in the headers.
REJECTED = Counter(
    "sessionwatch_rejected_total", "Records sent to the dead-letter topic.", ["reason"], registry=REGISTRY
)
IGNORED = Counter(
    "sessionwatch_ignored_total", "Records that carry no event: tombstones, truncates, markers.", ["reason"],
    registry=REGISTRY,
)  # fmt: skip
# Rises only when producers do not key by tenant_id/user_id; zero means co-location is free.
FORWARDED = Counter(
    "sessionwatch_forwarded_total",
    "Records forwarded to the partition of their user.",
    registry=REGISTRY,
)
# Rises after a crash or a rebalance only: the delivery protocol at work.
DEDUPLICATED = Counter(
    "sessionwatch_records_deduplicated_total",
    "Records consumed again whose outputs were already durable.",
    registry=REGISTRY,
)
# Late events are stored (`is_late`) but not judged: alert on the rate of this metric.
LATE = Counter(
    "sessionwatch_late_total",
    "Events later than the allowed lateness: stored, not judged.",
    registry=REGISTRY,
)
DUPLICATES = Counter(
    "sessionwatch_duplicates_total",
    "Events equal to one applied before: stored, judged once.",
    registry=REGISTRY,
)
FAILED = Counter(
    "sessionwatch_failed_total",
    "Records the pipeline failed on; they are in the dead-letter topic. Each is a bug.",
    registry=REGISTRY,
)
DETECTION_FAILURES = Counter(
    "sessionwatch_detection_failures_total",
    "Evaluations in which a detection raised an exception; the other detections ran. Each is a bug of the detection.",
    ["detection"],
    registry=REGISTRY,
)
LAG = Gauge(
    "sessionwatch_consumer_lag_records",
    "Records of an input partition that are not durable yet.",
    ["topic", "partition"],
    registry=REGISTRY,
)
WATERMARK_LAG = Gauge(
    "sessionwatch_watermark_lag_seconds",
    "Age of the watermark: the consumer group has processed all input older than this. A few seconds are normal.",
    registry=REGISTRY,
)

# --- Results ---

FINDINGS = Counter("sessionwatch_findings_total", "New findings.", ["detection", "severity"], registry=REGISTRY)
INCIDENTS = Counter(
    "sessionwatch_incidents_total", "States of incidents published: created, updated (or reopened), resolved.",
    ["change", "severity"], registry=REGISTRY,
)  # fmt: skip
FINDINGS_CORRELATED = Counter(
    "sessionwatch_findings_correlated_total",
    "States of findings that the incident stage processed.",
    registry=REGISTRY,
)
OVER_BUDGET = Counter(
    "sessionwatch_over_budget_total", "New findings stored without an alert: the tenant's alert budget was used up.",
    ["detection"], registry=REGISTRY,
)  # fmt: skip
FEEDBACK = Counter(
    "sessionwatch_feedback_total", "Feedback on findings, by detection (`unnamed` when it is missing).",
    ["detection", "verdict"], registry=REGISTRY,
)  # fmt: skip
# Which detection could not evaluate an event, and what was unknown.
UNEVALUATED = Counter(
    "sessionwatch_unevaluated_total", "Events a detection could not evaluate.", ["detection", "reason"],
    registry=REGISTRY,
)  # fmt: skip
STARTS_CORRELATED = Counter(
    "sessionwatch_session_starts_correlated_total",
    "Session starts that the correlation stage processed.",
    registry=REGISTRY,
)
STARTS_CAPPED = Counter(
    "sessionwatch_session_starts_capped_total",
    "Session starts that were not correlated because their user had too many at once.",
    registry=REGISTRY,
)
EXPIRED = Counter(
    "sessionwatch_expired_total",
    "Sessions ended because their deadline passed (expiry, or a day without use).",
    registry=REGISTRY,
)
FORGOTTEN = Counter("sessionwatch_forgotten_total", "Users erased from the state on request.", registry=REGISTRY)
# Every collection in the state is bounded; evictions are counted here.
EVICTED = Counter(
    "sessionwatch_evicted_total", "Live sessions evicted from the state because a user had too many.", registry=REGISTRY
)
CLAMPED = Counter(
    "sessionwatch_records_ahead_total", "Records whose timestamp was ahead of the worker's clock; it was clamped.",
    registry=REGISTRY,
)  # fmt: skip
TRUNCATED = Counter(
    "sessionwatch_states_truncated_total", "User states that were truncated because they exceeded their size limit.",
    registry=REGISTRY,
)  # fmt: skip
BATCH_RECORDS = Histogram("sessionwatch_batch_records", "Records in a batch.", buckets=SIZE_BUCKETS, registry=REGISTRY)
BATCH_SECONDS = Histogram(
    "sessionwatch_batch_seconds", "Time to compute a batch: decode, enrich, judge, encode.",
    buckets=LATENCY_BUCKETS, registry=REGISTRY,
)  # fmt: skip
# A counter key without a metric is a bug; it is counted here and not dropped.
UNKNOWN_COUNTS = Counter(
    "sessionwatch_unknown_counts_total", "Counts without a metric of their own.", ["name"], registry=REGISTRY
)

# --- What goes out ---

ROWS_OUT = Counter("sessionwatch_rows_out_total", "Rows durable in ClickHouse.", ["table"], registry=REGISTRY)
INSERT_SECONDS = Histogram(
    "sessionwatch_insert_seconds",
    "Time of one successful insert into ClickHouse.",
    ["table"],
    buckets=LATENCY_BUCKETS,
    registry=REGISTRY,
)
SINK_RETRIES = Counter("sessionwatch_sink_retries_total", "Inserts that were retried.", ["error"], registry=REGISTRY)
# At its limit the worker pauses consumption until ClickHouse has caught up.
IN_FLIGHT_ROWS = Gauge(
    "sessionwatch_in_flight_rows", "Computed rows and messages that are not durable yet.", registry=REGISTRY
)
OVERSIZE = Counter(
    "sessionwatch_oversize_total",
    "Messages published without their value because it was too large for the broker.",
    ["topic"],
    registry=REGISTRY,
)
# Publishing follows at once and takes some milliseconds more.
FINDING_LATENCY = Histogram(
    "sessionwatch_finding_latency_seconds",
    "Time from a record's timestamp to its finding being handed to Kafka.",
    buckets=LATENCY_BUCKETS,
    registry=REGISTRY,
)

ROW_LATENCY = Histogram(
    "sessionwatch_row_latency_seconds",
    "Time from the timestamp of a batch's oldest record to its rows being durable in ClickHouse.",
    buckets=LATENCY_BUCKETS,
    registry=REGISTRY,
)

# --- Delivery of incidents (`sessionwatch alerts`) ---

ALERT_READY = Gauge(
    "sessionwatch_alert_ready",
    "1 when the process that delivers incidents is ready, 0 otherwise; /health/ready gives the reason.",
    registry=REGISTRY,
)

# A tenant's own destinations share the label `tenant`.
ALERT_DELIVERIES = Counter(
    "sessionwatch_alert_deliveries_total",
    "Attempts and deliveries by result: delivered, retry, failed, left-out.",
    ["destination", "result"],
    registry=REGISTRY,
)
ALERT_LATENCY = Histogram(
    "sessionwatch_alert_latency_seconds",
    "Time from the timestamp of the record that changed an incident to the delivery of that state.",
    ["destination"],
    buckets=LATENCY_BUCKETS,
    registry=REGISTRY,
)
ALERT_WAITING = Gauge(
    "sessionwatch_alert_waiting", "Deliveries that wait for a destination.", ["destination"], registry=REGISTRY
)
ALERT_OLDEST = Gauge(
    "sessionwatch_alert_oldest_waiting_seconds",
    "Time the oldest delivery has waited for a destination.",
    ["destination"],
    registry=REGISTRY,
)
ALERT_BREAKER_OPEN = Gauge(
    "sessionwatch_alert_breaker_open",
    "1 while the circuit breaker of a destination is open, 0 otherwise.",
    ["destination"],
    registry=REGISTRY,
)
ALERT_RENDERING_FAILURES = Counter(
    "sessionwatch_alert_rendering_failures_total",
    "Messages that were sent as plain text, or with the title only, because they could not be rendered.",
    ["destination"],
    registry=REGISTRY,
)
ALERT_UNREADABLE = Counter(
    "sessionwatch_alert_unreadable_total", "Records of the incidents topic that are no incidents.", registry=REGISTRY
)
ALERT_ROWS_DROPPED = Counter(
    "sessionwatch_alert_rows_dropped_total",
    "Attempts not written to ClickHouse because it was unavailable for too long.",
    registry=REGISTRY,
)

# --- State ---

STATE_USERS = Gauge("sessionwatch_state_users", "Users in the state.", ["partition"], registry=REGISTRY)
ACTIVE_SESSIONS = Gauge(
    "sessionwatch_active_sessions",
    "Sessions neither deleted nor expired, extrapolated from a sample.",
    ["partition"],
    registry=REGISTRY,
)
STATE_BYTES = Gauge(
    "sessionwatch_state_bytes",
    "Size of the encoded state, extrapolated from a sample.",
    ["partition"],
    registry=REGISTRY,
)
CHANGELOG_RECORDS = Counter(
    "sessionwatch_changelog_records_total",
    "States computed for the changelog; of several states of a key in flight, only the last is written.",
    registry=REGISTRY,
)
CHANGELOG_BYTES = Counter(
    "sessionwatch_changelog_bytes_total", "Bytes of the states computed for the changelog.", registry=REGISTRY
)
RECOVERY_SECONDS = Gauge(
    "sessionwatch_recovery_seconds", "Time the last recovery of state from the changelog took.",
    registry=REGISTRY,
)  # fmt: skip

# --- The worker itself ---

READY = Gauge(
    "sessionwatch_ready", "1 when the worker is ready, 0 otherwise; /health/ready gives the reason.", registry=REGISTRY
)
# Addresses move between networks: update the databases weekly.
GEO_AGE_SECONDS = Gauge(
    "sessionwatch_geo_age_seconds", "Age of a geo database, by its own build time.", ["database"],
    registry=REGISTRY,
)  # fmt: skip

_PLAIN: Mapping[str, Counter] = {
    "accepted": ACCEPTED,
    "forwarded": FORWARDED,
    "deduplicated": DEDUPLICATED,
    "late": LATE,
    "duplicate": DUPLICATES,
    "starts-correlated": STARTS_CORRELATED,
    "starts-capped": STARTS_CAPPED,
    "findings-correlated": FINDINGS_CORRELATED,
    "expired": EXPIRED,
    "evicted": EVICTED,
    "forgotten": FORGOTTEN,
    "truncated": TRUNCATED,
    "clamped": CLAMPED,
}
_LABELLED: Mapping[str, Counter] = {
    "records": RECORDS_IN,
    "rejected": REJECTED,
    "ignored": IGNORED,
    "finding": FINDINGS,
    "incident": INCIDENTS,
    "unevaluated": UNEVALUATED,
    "over-budget": OVER_BUDGET,
    "feedback": FEEDBACK,
}

COUNTED = frozenset((*_PLAIN, *_LABELLED))
"""First parts of the counter keys that have a metric."""


def observe_counters(counters: Mapping[tuple[str, ...], int]) -> None:
    """Add the counters of one `worker.pipeline.ports.BatchResult` to their metrics."""
    for (name, *labels), count in counters.items():
        if name in _PLAIN:
            _PLAIN[name].inc(count)
        elif name in _LABELLED:
            _LABELLED[name].labels(*labels).inc(count)
        else:
            UNKNOWN_COUNTS.labels(name).inc(count)


def exposition() -> bytes:
    """Return every metric in Prometheus' text format."""
    return generate_latest(REGISTRY)


def totals(counter: Counter, label: str | None = None) -> Tally[str]:
    """Return the values of a counter by one of its labels, summed over the others (`""` without a label)."""
    values: Tally[str] = Tally()
    for metric in counter.collect():
        for sample in metric.samples:
            if sample.name.endswith("_total"):
                values[sample.labels.get(label, "") if label else ""] += int(sample.value)
    return values
