"""The columns of the ClickHouse tables, in the order in which rows are written.

The DDL is in `schemas/clickhouse/migrations/`; a test compares the two. Times are `DateTime64(3, 'UTC')` and written
as integer milliseconds since the epoch.
"""

from __future__ import annotations

from typing import NamedTuple

TIME = "DateTime64(3, 'UTC')"
TIME_OR_NULL = f"Nullable({TIME})"
WORD = "LowCardinality(String)"
WORDS = "Array(LowCardinality(String))"
TEXT = "String"
TEXTS = "Array(String)"
FLAG = "Bool"
FLOAT = "Nullable(Float64)"


class Column(NamedTuple):
    """A column: its name, its ClickHouse type and what it holds."""

    name: str
    type: str
    comment: str


class Table(NamedTuple):
    """A table and its columns in the order of row tuples."""

    name: str
    columns: tuple[Column, ...]


def _columns(*columns: tuple[str, str, str]) -> tuple[Column, ...]:
    return tuple(Column(*column) for column in columns)


_SOURCE = (
    ("kafka_topic", WORD, "Topic the record first arrived on"),
    ("kafka_partition", "UInt32", "Partition the record first arrived in"),
    ("kafka_offset", "UInt64", "Offset the record first arrived at"),
)
_NETWORK = (
    ("ip", TEXT, "Canonical address"),
    ("family", "UInt8", "4 or 6"),
    ("prefix", TEXT, "The /24 or /64 around the address"),
    ("asn", "UInt32", "Autonomous system number; 0 unknown"),
    ("as_org", WORD, "Organisation of the autonomous system"),
    ("network_kind", WORD, "isp, mobile, hosting, vpn, tor, relay, satellite, proxy, private or empty"),
    ("threat_list", WORD, "Threat lists that the address was on when the event came; empty otherwise"),
)
_PLACE = (
    ("country", WORD, "ISO 3166-1 alpha-2; empty unknown"),
    ("city", WORD, "City; empty unknown"),
    ("latitude", FLOAT, "Degrees; null unknown"),
    ("longitude", FLOAT, "Degrees; null unknown"),
    ("place_radius_km", "Float64", "Accuracy of the coordinates"),
    ("place_source", WORD, "location, ip or empty"),
    ("stated_country", WORD, "Country of `location` where it contradicts the address's; empty otherwise"),
)
_DEVICE = (
    ("ua_family", WORD, "Browser or client family; empty unknown"),
    ("ua_major", "UInt32", "Its major version; 0 unknown"),
    ("os_family", WORD, "Operating system; empty unknown"),
    ("os_major", WORD, "Its major version"),
    ("device", WORD, "desktop, mobile, tablet, tv, bot, script or empty"),
    ("is_scripted", FLAG, "A scripted client"),
)

SESSION_EVENTS = Table(
    "session_events",
    _columns(
        ("tenant_id", WORD, "Tenant"),
        ("user_id", TEXT, "User"),
        ("session_uid", TEXT, "Session"),
        ("event_time", TIME, "Orders events: the latest of last_used_at, updated_at, created_at, clamped"),
        ("activity_time", TIME_OR_NULL, "When the user acted; null when the event is no activity"),
        ("created_at", TIME_OR_NULL, "As the event says"),
        ("updated_at", TIME_OR_NULL, "As the event says"),
        ("last_used_at", TIME_OR_NULL, "As the event says"),
        ("kind", WORD, "created, refreshed, changed or deleted"),
        ("shape", WORD, "snapshot, cloudevents or debezium"),
        ("uid_derived", FLAG, "The event had no uid; this one is derived"),
        ("is_deleted", FLAG, "The session was deleted"),
        ("is_late", FLAG, "Later than the allowed lateness: stored, not judged"),
        ("is_current", FLAG, "The newest event of a living session: `sessions` takes its state from it"),
        ("user_agent", WORD, "As the event says"),
        ("location", WORD, "As the event says"),
        ("scopes", WORDS, "Sorted"),
        ("amr", WORDS, "Authentication methods, sorted"),
        ("has_scopes", FLAG, "The event names scopes, if only none"),
        ("has_amr", FLAG, "The event names authentication methods, if only none"),
        ("aud", WORD, "Audience"),
        ("workspace_id", WORD, "Workspace"),
        ("session_type", WORD, "Case-folded; empty when omitted"),
        ("max_age_minutes", FLOAT, "As the event says"),
        ("expires_at", TIME_OR_NULL, "Effective sliding expiry after this event"),
        ("meta_data", TEXT, "JSON text"),
        ("repaired", WORDS, "Properties that were cut, cleaned or left out, as they could not be used as they were"),
        ("future_by", "UInt64", "Milliseconds the newest time lay ahead of the record's own"),
        ("risk_score", "Float64", "Risk of the session after this event, 0 to 100"),
        ("user_risk_score", "Float64", "Risk of the user after this event, 0 to 100"),
        ("detections", WORDS, "Detections this event changed a finding of"),
        ("session_started_at", TIME_OR_NULL, "Event time of the session's first event"),
        ("session_events", "UInt32", "Events of the session so far"),
        ("session_findings", "UInt32", "Findings of the session so far"),
        ("state_version", "UInt64", "Version of the user's state after this event"),
        ("record_time", TIME, "Timestamp of the Kafka record"),
        *_SOURCE,
        *_NETWORK,
        *_PLACE,
        *_DEVICE,
    ),
)

SESSIONS = Table(
    "sessions",
    _columns(
        ("tenant_id", WORD, "Tenant"),
        ("user_id", TEXT, "User"),
        ("session_uid", TEXT, "Session"),
        ("status", WORD, "active or ended"),
        ("started_at", TIME, "Event time of the first event"),
        ("last_seen_at", TIME, "Event time of the newest event"),
        ("ended_at", TIME_OR_NULL, "When it ended"),
        ("end_reason", WORD, "deleted, expired, idle, evicted or empty"),
        ("expires_at", TIME_OR_NULL, "Effective sliding expiry"),
        ("session_type", WORD, "Case-folded; empty when omitted"),
        ("ip", TEXT, "Newest address"),
        ("asn", "UInt32", "Its autonomous system"),
        ("as_org", WORD, "Its organisation"),
        ("network_kind", WORD, "Its kind"),
        ("country", WORD, "Newest country"),
        ("city", WORD, "Newest city"),
        ("latitude", FLOAT, "Degrees"),
        ("longitude", FLOAT, "Degrees"),
        ("ua_family", WORD, "Newest client"),
        ("os_family", WORD, "Newest operating system"),
        ("device", WORD, "Newest device class"),
        ("scopes", WORDS, "Newest scopes"),
        ("amr", WORDS, "Newest authentication methods"),
        ("aud", WORD, "Newest audience"),
        ("risk_score", "Float64", "Risk at last_seen_at, 0 to 100"),
        ("user_risk_score", "Float64", "Risk of the user then"),
        ("finding_count", "UInt32", "Findings of the session"),
        ("event_count", "UInt32", "Events of the session"),
        ("version", "UInt64", "Grows with every state"),
    ),
)


def _side(suffix: str, when: str) -> tuple[tuple[str, str, str], ...]:
    return (
        (f"ip{suffix}", TEXT, f"Address {when}"),
        (f"asn{suffix}", "UInt32", f"Autonomous system {when}"),
        (f"as_org{suffix}", WORD, f"Its organisation {when}"),
        (f"network_kind{suffix}", WORD, f"Kind of network {when}"),
        (f"country{suffix}", WORD, f"Country {when}"),
        (f"city{suffix}", WORD, f"City {when}"),
        (f"ua_family{suffix}", WORD, f"Client {when}"),
        (f"os_family{suffix}", WORD, f"Operating system {when}"),
        (f"device{suffix}", WORD, f"Device class {when}"),
    )


FINDINGS = Table(
    "findings",
    _columns(
        ("finding_uid", TEXT, "The same for the same cause, whoever finds it"),
        ("detection", WORD, "Id of the detection"),
        ("title", WORD, "Its title"),
        ("severity", WORD, "informational, low, medium, high or critical"),
        ("severity_id", "UInt8", "OCSF: 1 informational to 5 critical"),
        ("risk_score", "UInt8", "0 to 100"),
        ("status", WORD, "new, updated, suppressed or closed"),
        ("status_id", "UInt8", "OCSF: 1 new, 2 in progress, 3 suppressed, 4 resolved"),
        ("activity_id", "UInt8", "OCSF: 1 create, 2 update, 3 close"),
        ("is_alert", FLAG, "Somebody should look now"),
        ("is_shadow", FLAG, "Stored, not alerted, by policy"),
        ("suppressed_by", WORDS, "Why it is no alarm"),
        ("tenant_id", WORD, "Tenant"),
        ("user_id", TEXT, "User"),
        ("session_uid", TEXT, "Session; empty for findings about the user"),
        ("subject", TEXT, "What within the session or user it is about"),
        ("bucket_time", TIME, "Start of the event-time bucket repeats are grouped by"),
        ("event_time", TIME, "First occurrence"),
        ("last_event_time", TIME, "Last occurrence"),
        ("detected_at", TIME, "Timestamp of the record that brought this state about"),
        ("count", "UInt32", "Occurrences"),
        ("revision", "UInt64", "Grows with every state"),
        ("summary", TEXT, "What was seen against what was expected, in one line"),
        ("attacks", WORDS, "MITRE ATT&CK techniques"),
        ("evidence", TEXT, "JSON: observed, expected, after, before"),
        *_side("", "of the event"),
        *_side("_before", "it is held against"),
        ("distance_km", FLOAT, "Between the two places"),
        ("speed_kmh", FLOAT, "Between the two places"),
        *_SOURCE,
        ("is_retroactive", FLAG, "Found by a backfill, not when it happened"),
    ),
)

FEEDBACK = Table(
    "feedback",
    _columns(
        ("finding_uid", TEXT, "The finding it is about"),
        ("author", TEXT, "Who says so"),
        ("tenant_id", WORD, "Tenant, if it was said"),
        ("detection", WORD, "Detection, if it was said"),
        ("verdict", WORD, "investigating, true_positive or false_positive"),
        ("comment", TEXT, "Why"),
        ("said_at", TIME, "Timestamp of the record"),
        *_SOURCE,
    ),
)

DELIVERIES = Table(
    "deliveries",
    _columns(
        ("tenant_id", WORD, "Tenant"),
        ("incident_uid", TEXT, "The incident"),
        ("revision", "UInt64", "Its state"),
        ("message_id", TEXT, "Id of the message, the same over all attempts"),
        ("destination", WORD, "Name of the destination; those of tenants begin with their id and a colon"),
        ("kind", WORD, "webhook, slack, email, …"),
        ("activity", WORD, "create, update or close"),
        ("severity", WORD, "informational, low, medium, high or critical"),
        ("attempt", "UInt16", "Number of the attempt; 0 when it was left out"),
        ("result", WORD, "delivered, retry, failed or left-out"),
        ("code", "UInt16", "Status code of the protocol; 0 when there is none"),
        ("error", TEXT, "Why it was not taken"),
        ("reason", TEXT, "Why it was left out or held back"),
        ("digest", TEXT, "Id of the digest it was told in; empty when it was told by itself"),
        ("replaced", "UInt32", "Earlier states left out in favour of this one"),
        ("duration_ms", "UInt32", "Time the attempt took"),
        ("queued_at", TIME, "When the state was read"),
        ("attempted_at", TIME, "When the attempt ended"),
        ("next_at", TIME_OR_NULL, "When the next attempt is due"),
    ),
)

INCIDENTS = Table(
    "incidents",
    _columns(
        ("incident_uid", TEXT, "The same for the same cause, whoever computes it"),
        ("tenant_id", WORD, "Tenant"),
        ("user_id", TEXT, "User; empty when the findings are about a network"),
        ("subject", TEXT, "The network, when there is no user"),
        ("status", WORD, "open, updated or resolved"),
        ("status_id", "UInt8", "OCSF: 1 new, 2 in progress, 4 resolved"),
        ("resolution", WORD, "quiet, withdrawn, false-positive, merged or empty"),
        ("merged_into", TEXT, "Incident it became part of; empty for others"),
        ("severity", WORD, "Highest of its alerting findings"),
        ("severity_id", "UInt8", "OCSF: 1 informational to 5 critical"),
        ("risk_score", "UInt8", "Scores of its alerting findings combined, 0 to 100"),
        ("title", TEXT, "One sentence: who, what, from where to where, since when"),
        ("started_at", TIME, "Event time of its first alerting finding"),
        ("last_event_at", TIME, "Event time of the last occurrence of an alerting finding"),
        ("detected_at", TIME, "Timestamp of the record that brought this state about"),
        ("acknowledged_at", TIME_OR_NULL, "When feedback acknowledged it; null when none did"),
        ("acknowledged_by", TEXT, "Author of that feedback"),
        ("resolved_at", TIME_OR_NULL, "When it was resolved; null while it is not"),
        ("detection", WORD, "Detection of the leading finding"),
        ("detections", WORDS, "Detections of its alerting findings, the leading one first"),
        ("attacks", WORDS, "MITRE ATT&CK techniques"),
        ("findings", TEXTS, "Ids of its alerting findings"),
        ("related_findings", TEXTS, "Ids of the findings that belong to it and do not alert"),
        ("sessions", TEXTS, "Sessions"),
        ("networks", TEXTS, "Networks, as text"),
        ("places", TEXTS, "Places, as text"),
        ("devices", TEXTS, "Devices, as text"),
        ("document", TEXT, "JSON: the incident in full, with its timeline"),
        ("revision", "UInt64", "Identifies the state that is published"),
        ("version", "UInt64", "Grows with every state"),
    ),
)

TABLES = {table.name: table for table in (SESSION_EVENTS, SESSIONS, FINDINGS, FEEDBACK, INCIDENTS, DELIVERIES)}

_BY_USER = "cityHash64(tenant_id, user_id)"
SHARD_BY = {
    "session_events": _BY_USER,
    "sessions": _BY_USER,
    "findings": "cityHash64(finding_uid)",
    "feedback": "cityHash64(finding_uid)",
    "incidents": "cityHash64(incident_uid)",
    "deliveries": "cityHash64(incident_uid)",
    "events_by_minute_states": "cityHash64(tenant_id)",
    "networks_by_day_states": "cityHash64(tenant_id, prefix)",
    "users_by_day_states": _BY_USER,
    "schema_migrations": "version",
    "tenant_readers": "cityHash64(user_name)",
}
"""What decides the shard of a row: rows that replace one another have it in common, and `FINAL` holds on a shard."""
