-- up
-- Rollups hold sets, not sums: what is written twice changes none of them. An event is its place in Kafka (partition
-- and offset in one number, by topic), a user or a session a 64-bit hash.
CREATE TABLE IF NOT EXISTS events_by_minute_states{on_cluster}
(
    tenant_id       LowCardinality(String) COMMENT 'Tenant',
    minute          DateTime('UTC') CODEC(Delta, ZSTD) COMMENT 'Minute of event time',
    kafka_topic     LowCardinality(String) COMMENT 'Topic the records first arrived on',
    events          AggregateFunction(groupBitmap, UInt64) CODEC(ZSTD) COMMENT 'Events',
    late_events     AggregateFunction(groupBitmap, UInt64) CODEC(ZSTD) COMMENT 'Events too late to be judged',
    new_sessions    AggregateFunction(uniqExact, UInt64) CODEC(ZSTD) COMMENT 'Sessions whose first event this was when it came',
    active_sessions AggregateFunction(uniqExact, UInt64) CODEC(ZSTD) COMMENT 'Sessions with an event',
    users           AggregateFunction(uniqExact, UInt64) CODEC(ZSTD) COMMENT 'Users with an event',
    countries       SimpleAggregateFunction(groupUniqArrayArray, Array(String)) COMMENT 'Countries, the unknown left out',
    max_risk        SimpleAggregateFunction(max, Float64) COMMENT 'Highest risk of a session, 0 to 100'
)
ENGINE = {engine:AggregatingMergeTree}
PARTITION BY toYYYYMM(least(greatest(minute, toDateTime('2020-01-01', 'UTC')), toDateTime('2050-01-01', 'UTC')))
ORDER BY (tenant_id, minute, kafka_topic)
{ttl:events_by_minute.minute};

CREATE MATERIALIZED VIEW IF NOT EXISTS events_by_minute_from_events{on_cluster} TO events_by_minute_states AS
SELECT
    tenant_id,
    toDateTime(toStartOfMinute(event_time), 'UTC') AS minute,
    kafka_topic,
    groupBitmapState(bitShiftLeft(toUInt64(kafka_partition), 48) + kafka_offset) AS events,
    groupBitmapStateIf(bitShiftLeft(toUInt64(kafka_partition), 48) + kafka_offset, is_late) AS late_events,
    uniqExactStateIf(sipHash64(user_id, session_uid), ifNull(event_time = session_started_at, false)) AS new_sessions,
    uniqExactState(sipHash64(user_id, session_uid)) AS active_sessions,
    uniqExactState(sipHash64(user_id)) AS users,
    groupUniqArrayIf(toString(country), country != '') AS countries,
    max(e.risk_score) AS max_risk
FROM session_events AS e
GROUP BY tenant_id, minute, kafka_topic;

CREATE TABLE IF NOT EXISTS networks_by_day_states{on_cluster}
(
    tenant_id    LowCardinality(String) COMMENT 'Tenant',
    prefix       String CODEC(ZSTD) COMMENT 'The /24 or /64; empty for addresses without one',
    day          Date COMMENT 'Day of event time, UTC',
    kafka_topic  LowCardinality(String) COMMENT 'Topic the records first arrived on',
    asn          SimpleAggregateFunction(max, UInt32) COMMENT 'Autonomous system number; 0 unknown',
    as_org       SimpleAggregateFunction(max, String) COMMENT 'Its organisation',
    network_kind SimpleAggregateFunction(max, String) COMMENT 'Its kind',
    countries    SimpleAggregateFunction(groupUniqArrayArray, Array(String)) COMMENT 'Countries, the unknown left out',
    events       AggregateFunction(groupBitmap, UInt64) CODEC(ZSTD) COMMENT 'Events',
    sessions     AggregateFunction(uniqExact, UInt64) CODEC(ZSTD) COMMENT 'Sessions with an event',
    users        AggregateFunction(uniqExact, UInt64) CODEC(ZSTD) COMMENT 'Users with an event',
    first_seen   SimpleAggregateFunction(min, DateTime64(3, 'UTC')) COMMENT 'First event of the day',
    last_seen    SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'Last event of the day',
    max_risk     SimpleAggregateFunction(max, Float64) COMMENT 'Highest risk of a session, 0 to 100'
)
ENGINE = {engine:AggregatingMergeTree}
PARTITION BY toYYYYMM(least(greatest(day, toDate('2020-01-01')), toDate('2050-01-01')))
ORDER BY (tenant_id, prefix, day, kafka_topic)
{ttl:networks_by_day.day};

CREATE MATERIALIZED VIEW IF NOT EXISTS networks_by_day_from_events{on_cluster} TO networks_by_day_states AS
SELECT
    tenant_id,
    prefix,
    toDate(event_time, 'UTC') AS day,
    kafka_topic,
    max(e.asn) AS asn,
    max(toString(e.as_org)) AS as_org,
    max(toString(e.network_kind)) AS network_kind,
    groupUniqArrayIf(toString(country), country != '') AS countries,
    groupBitmapState(bitShiftLeft(toUInt64(kafka_partition), 48) + kafka_offset) AS events,
    uniqExactState(sipHash64(user_id, session_uid)) AS sessions,
    uniqExactState(sipHash64(user_id)) AS users,
    min(event_time) AS first_seen,
    max(event_time) AS last_seen,
    max(e.risk_score) AS max_risk
FROM session_events AS e
GROUP BY tenant_id, prefix, day, kafka_topic;

CREATE TABLE IF NOT EXISTS users_by_day_states{on_cluster}
(
    tenant_id    LowCardinality(String) COMMENT 'Tenant',
    user_id      String CODEC(ZSTD) COMMENT 'User',
    day          Date COMMENT 'Day of event time, UTC',
    kafka_topic  LowCardinality(String) COMMENT 'Topic the records first arrived on',
    events       AggregateFunction(groupBitmap, UInt64) CODEC(ZSTD) COMMENT 'Events',
    sessions     AggregateFunction(uniqExact, UInt64) CODEC(ZSTD) COMMENT 'Sessions with an event',
    countries    SimpleAggregateFunction(groupUniqArrayArray, Array(String)) COMMENT 'Countries, the unknown left out',
    prefixes     SimpleAggregateFunction(groupUniqArrayArray, Array(String)) CODEC(ZSTD) COMMENT 'Networks, the unknown left out',
    asns         SimpleAggregateFunction(groupUniqArrayArray, Array(UInt32)) COMMENT 'Autonomous systems, the unknown left out',
    devices      SimpleAggregateFunction(groupUniqArrayArray, Array(String)) CODEC(ZSTD) COMMENT 'Client on operating system',
    first_seen   SimpleAggregateFunction(min, DateTime64(3, 'UTC')) COMMENT 'First event of the day',
    last_seen    SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'Last event of the day',
    max_risk     SimpleAggregateFunction(max, Float64) COMMENT 'Highest risk of a session, 0 to 100',
    INDEX prefixes_index prefixes TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {engine:AggregatingMergeTree}
PARTITION BY toYYYYMM(least(greatest(day, toDate('2020-01-01')), toDate('2050-01-01')))
ORDER BY (tenant_id, user_id, day, kafka_topic)
{ttl:users_by_day.day};

CREATE MATERIALIZED VIEW IF NOT EXISTS users_by_day_from_events{on_cluster} TO users_by_day_states AS
SELECT
    tenant_id,
    user_id,
    toDate(event_time, 'UTC') AS day,
    kafka_topic,
    groupBitmapState(bitShiftLeft(toUInt64(kafka_partition), 48) + kafka_offset) AS events,
    uniqExactState(sipHash64(user_id, session_uid)) AS sessions,
    groupUniqArrayIf(toString(country), country != '') AS countries,
    groupUniqArrayIf(prefix, prefix != '') AS prefixes,
    groupUniqArrayIf(asn, asn != 0) AS asns,
    groupUniqArrayIf(concat(ua_family, ' on ', os_family), ua_family != '' OR os_family != '') AS devices,
    min(event_time) AS first_seen,
    max(event_time) AS last_seen,
    max(e.risk_score) AS max_risk
FROM session_events AS e
GROUP BY tenant_id, user_id, day, kafka_topic;

CREATE VIEW IF NOT EXISTS events_by_minute{on_cluster} AS
SELECT
    tenant_id,
    minute,
    sum(s.events) AS events,
    sum(s.late_events) AS late_events,
    uniqExactMerge(s.new_sessions) AS new_sessions,
    uniqExactMerge(s.active_sessions) AS active_sessions,
    uniqExactMerge(s.users) AS users,
    length(groupUniqArrayArray(s.countries)) AS countries,
    toFloat64(max(s.max_risk)) AS max_risk
FROM
(
    SELECT
        tenant_id,
        minute,
        groupBitmapMerge(e.events) AS events,
        groupBitmapMerge(e.late_events) AS late_events,
        uniqExactMergeState(e.new_sessions) AS new_sessions,
        uniqExactMergeState(e.active_sessions) AS active_sessions,
        uniqExactMergeState(e.users) AS users,
        groupUniqArrayArray(e.countries) AS countries,
        max(e.max_risk) AS max_risk
    FROM events_by_minute_states AS e
    GROUP BY tenant_id, minute, kafka_topic
) AS s
GROUP BY tenant_id, minute;

-- The same over intervals of any length: distinct counts of minutes do not add up.
CREATE VIEW IF NOT EXISTS activity{on_cluster} AS
SELECT
    tenant_id,
    time,
    sum(s.events) AS events,
    sum(s.late_events) AS late_events,
    uniqExactMerge(s.new_sessions) AS new_sessions,
    uniqExactMerge(s.active_sessions) AS active_sessions,
    uniqExactMerge(s.users) AS users,
    length(groupUniqArrayArray(s.countries)) AS countries,
    toFloat64(max(s.max_risk)) AS max_risk
FROM
(
    SELECT
        tenant_id,
        toStartOfInterval(minute, toIntervalSecond({seconds:UInt32})) AS time,
        groupBitmapMerge(e.events) AS events,
        groupBitmapMerge(e.late_events) AS late_events,
        uniqExactMergeState(e.new_sessions) AS new_sessions,
        uniqExactMergeState(e.active_sessions) AS active_sessions,
        uniqExactMergeState(e.users) AS users,
        groupUniqArrayArray(e.countries) AS countries,
        max(e.max_risk) AS max_risk
    FROM events_by_minute_states AS e
    WHERE minute >= {from:DateTime64(3)} AND minute < {to:DateTime64(3)}
    GROUP BY tenant_id, time, kafka_topic
) AS s
GROUP BY tenant_id, time;

CREATE VIEW IF NOT EXISTS networks_by_day{on_cluster} AS
SELECT
    tenant_id,
    prefix,
    day,
    toUInt32(max(s.asn)) AS asn,
    toString(max(s.as_org)) AS as_org,
    toString(max(s.network_kind)) AS network_kind,
    arraySort(groupUniqArrayArray(s.countries)) AS countries,
    sum(s.events) AS events,
    uniqExactMerge(s.sessions) AS sessions,
    uniqExactMerge(s.users) AS users,
    toDateTime64(min(s.first_seen), 3, 'UTC') AS first_seen,
    toDateTime64(max(s.last_seen), 3, 'UTC') AS last_seen,
    toFloat64(max(s.max_risk)) AS max_risk
FROM
(
    SELECT
        tenant_id,
        prefix,
        day,
        max(n.asn) AS asn,
        max(n.as_org) AS as_org,
        max(n.network_kind) AS network_kind,
        groupUniqArrayArray(n.countries) AS countries,
        groupBitmapMerge(n.events) AS events,
        uniqExactMergeState(n.sessions) AS sessions,
        uniqExactMergeState(n.users) AS users,
        min(n.first_seen) AS first_seen,
        max(n.last_seen) AS last_seen,
        max(n.max_risk) AS max_risk
    FROM networks_by_day_states AS n
    GROUP BY tenant_id, prefix, day, kafka_topic
) AS s
GROUP BY tenant_id, prefix, day;

CREATE VIEW IF NOT EXISTS users_by_day{on_cluster} AS
SELECT
    tenant_id,
    user_id,
    day,
    sum(s.events) AS events,
    uniqExactMerge(s.sessions) AS sessions,
    arraySort(groupUniqArrayArray(s.countries)) AS countries,
    arraySort(groupUniqArrayArray(s.prefixes)) AS prefixes,
    arraySort(groupUniqArrayArray(s.asns)) AS asns,
    arraySort(groupUniqArrayArray(s.devices)) AS devices,
    toDateTime64(min(s.first_seen), 3, 'UTC') AS first_seen,
    toDateTime64(max(s.last_seen), 3, 'UTC') AS last_seen,
    toFloat64(max(s.max_risk)) AS max_risk
FROM
(
    SELECT
        tenant_id,
        user_id,
        day,
        groupBitmapMerge(u.events) AS events,
        uniqExactMergeState(u.sessions) AS sessions,
        groupUniqArrayArray(u.countries) AS countries,
        groupUniqArrayArray(u.prefixes) AS prefixes,
        groupUniqArrayArray(u.asns) AS asns,
        groupUniqArrayArray(u.devices) AS devices,
        min(u.first_seen) AS first_seen,
        max(u.last_seen) AS last_seen,
        max(u.max_risk) AS max_risk
    FROM users_by_day_states AS u
    GROUP BY tenant_id, user_id, day, kafka_topic
) AS s
GROUP BY tenant_id, user_id, day;

-- Findings change after they came, so they are counted when asked for: they are few.
CREATE VIEW IF NOT EXISTS findings_by_hour{on_cluster} AS
SELECT
    tenant_id,
    toStartOfHour(bucket_time) AS hour,
    detection,
    severity,
    status,
    is_alert,
    count() AS findings,
    sum(f.count) AS occurrences,
    uniqExact(user_id) AS users,
    max(f.risk_score) AS max_risk
FROM findings AS f FINAL
GROUP BY tenant_id, hour, detection, severity, status, is_alert;

-- ZSTD beats LZ4 everywhere by measurement (docs/clickhouse.md).
ALTER TABLE events_by_minute_states{on_cluster} MODIFY SETTING default_compression_codec = 'ZSTD(1)';
ALTER TABLE networks_by_day_states{on_cluster} MODIFY SETTING default_compression_codec = 'ZSTD(1)';
ALTER TABLE users_by_day_states{on_cluster} MODIFY SETTING default_compression_codec = 'ZSTD(1)'

-- down
DROP VIEW IF EXISTS findings_by_hour{on_cluster};
DROP VIEW IF EXISTS users_by_day{on_cluster};
DROP VIEW IF EXISTS networks_by_day{on_cluster};
DROP VIEW IF EXISTS activity{on_cluster};
DROP VIEW IF EXISTS events_by_minute{on_cluster};
DROP VIEW IF EXISTS users_by_day_from_events{on_cluster};
DROP TABLE IF EXISTS users_by_day_states{on_cluster};
DROP VIEW IF EXISTS networks_by_day_from_events{on_cluster};
DROP TABLE IF EXISTS networks_by_day_states{on_cluster};
DROP VIEW IF EXISTS events_by_minute_from_events{on_cluster};
DROP TABLE IF EXISTS events_by_minute_states{on_cluster}
