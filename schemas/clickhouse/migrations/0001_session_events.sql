-- up
CREATE TABLE IF NOT EXISTS session_events{on_cluster}
(
    tenant_id          LowCardinality(String) COMMENT 'Tenant',
    user_id            String CODEC(ZSTD) COMMENT 'User',
    session_uid        String CODEC(ZSTD) COMMENT 'Session',
    event_time         DateTime64(3, 'UTC') CODEC(ZSTD) COMMENT 'Orders events: the latest of last_used_at, updated_at, created_at, clamped',
    activity_time      Nullable(DateTime64(3, 'UTC')) COMMENT 'When the user acted; null when the event is no activity',
    created_at         Nullable(DateTime64(3, 'UTC')) COMMENT 'As the event says',
    updated_at         Nullable(DateTime64(3, 'UTC')) COMMENT 'As the event says',
    last_used_at       Nullable(DateTime64(3, 'UTC')) COMMENT 'As the event says',
    kind               LowCardinality(String) COMMENT 'created, refreshed, changed or deleted',
    shape              LowCardinality(String) COMMENT 'snapshot, cloudevents or debezium',
    uid_derived        Bool COMMENT 'The event had no uid; this one is derived',
    is_deleted         Bool COMMENT 'The session was deleted',
    is_late            Bool COMMENT 'Later than the allowed lateness: stored, not judged',
    is_current         Bool COMMENT 'The newest event of a living session: `sessions` takes its state from it',
    user_agent         LowCardinality(String) CODEC(ZSTD) COMMENT 'As the event says',
    location           LowCardinality(String) CODEC(ZSTD) COMMENT 'As the event says',
    scopes             Array(LowCardinality(String)) COMMENT 'Sorted',
    amr                Array(LowCardinality(String)) COMMENT 'Authentication methods, sorted',
    has_scopes         Bool DEFAULT notEmpty(scopes) COMMENT 'The event names scopes, if only none',
    has_amr            Bool DEFAULT notEmpty(amr) COMMENT 'The event names authentication methods, if only none',
    aud                LowCardinality(String) COMMENT 'Audience',
    workspace_id       LowCardinality(String) COMMENT 'Workspace',
    session_type       LowCardinality(String) COMMENT 'Case-folded; empty when omitted',
    max_age_minutes    Nullable(Float64) COMMENT 'As the event says',
    expires_at         Nullable(DateTime64(3, 'UTC')) COMMENT 'Effective sliding expiry after this event',
    meta_data          String CODEC(ZSTD) COMMENT 'JSON text',
    repaired           Array(LowCardinality(String)) COMMENT 'Properties that were cut, cleaned or left out, as they could not be used as they were',
    future_by          UInt64 COMMENT 'Milliseconds the newest time lay ahead of the record''s own',
    risk_score         Float64 COMMENT 'Risk of the session after this event, 0 to 100',
    user_risk_score    Float64 COMMENT 'Risk of the user after this event, 0 to 100',
    detections         Array(LowCardinality(String)) COMMENT 'Detections this event changed a finding of',
    session_started_at Nullable(DateTime64(3, 'UTC')) COMMENT 'Event time of the session''s first event',
    session_events     UInt32 CODEC(T64, ZSTD) COMMENT 'Events of the session so far',
    session_findings   UInt32 CODEC(T64, ZSTD) COMMENT 'Findings of the session so far',
    state_version      UInt64 CODEC(T64, ZSTD) COMMENT 'Version of the user''s state after this event',
    record_time        DateTime64(3, 'UTC') CODEC(ZSTD) COMMENT 'Timestamp of the Kafka record',
    kafka_topic        LowCardinality(String) COMMENT 'Topic the record first arrived on',
    kafka_partition    UInt32 COMMENT 'Partition the record first arrived in',
    kafka_offset       UInt64 CODEC(T64, ZSTD) COMMENT 'Offset the record first arrived at',
    ip                 String CODEC(ZSTD) COMMENT 'Canonical address',
    family             UInt8 COMMENT '4 or 6',
    prefix             String CODEC(ZSTD) COMMENT 'The /24 or /64 around the address',
    asn                UInt32 COMMENT 'Autonomous system number; 0 unknown',
    as_org             LowCardinality(String) COMMENT 'Organisation of the autonomous system',
    network_kind       LowCardinality(String) COMMENT 'isp, mobile, hosting, vpn, tor, relay, satellite, proxy, private or empty',
    threat_list        LowCardinality(String) COMMENT 'Threat lists that the address was on when the event came; empty otherwise',
    country            LowCardinality(String) COMMENT 'ISO 3166-1 alpha-2; empty unknown',
    city               LowCardinality(String) COMMENT 'City; empty unknown',
    latitude           Nullable(Float64) COMMENT 'Degrees; null unknown',
    longitude          Nullable(Float64) COMMENT 'Degrees; null unknown',
    place_radius_km    Float64 COMMENT 'Accuracy of the coordinates',
    place_source       LowCardinality(String) COMMENT 'location, ip or empty',
    stated_country     LowCardinality(String) COMMENT 'Country of `location` where it contradicts the address''s; empty otherwise',
    ua_family          LowCardinality(String) COMMENT 'Browser or client family; empty unknown',
    ua_major           UInt32 CODEC(T64, ZSTD) COMMENT 'Its major version; 0 unknown',
    os_family          LowCardinality(String) COMMENT 'Operating system; empty unknown',
    os_major           LowCardinality(String) COMMENT 'Its major version',
    device             LowCardinality(String) COMMENT 'desktop, mobile, tablet, tv, bot, script or empty',
    is_scripted        Bool COMMENT 'A scripted client',
    -- Parsed when it is read: `meta.client.app`, `meta.mfa.:String`.
    meta               JSON ALIAS if(meta_data = '', '{}', meta_data)::JSON COMMENT 'meta_data as JSON'
)
ENGINE = {engine:ReplacingMergeTree}
-- By month, old times and far ones each in one partition: 361 at most, whatever the events say.
PARTITION BY toYYYYMM(least(greatest(event_time, toDateTime64('2020-01-01', 3, 'UTC')), toDateTime64('2050-01-01', 3, 'UTC')))
ORDER BY (tenant_id, toStartOfHour(event_time), user_id, event_time, kafka_topic, kafka_partition, kafka_offset)
{ttl:session_events.event_time};

-- ZSTD beats LZ4 everywhere by measurement (docs/clickhouse.md).
ALTER TABLE session_events{on_cluster} MODIFY SETTING default_compression_codec = 'ZSTD(1)'

-- down
DROP TABLE IF EXISTS session_events{on_cluster}
