-- up
CREATE TABLE IF NOT EXISTS findings{on_cluster}
(
    finding_uid         String CODEC(ZSTD) COMMENT 'The same for the same cause, whoever finds it',
    detection           LowCardinality(String) COMMENT 'Id of the detection',
    title               LowCardinality(String) COMMENT 'Its title',
    severity            LowCardinality(String) COMMENT 'informational, low, medium, high or critical',
    severity_id         UInt8 COMMENT 'OCSF: 1 informational to 5 critical',
    risk_score          UInt8 COMMENT '0 to 100',
    status              LowCardinality(String) COMMENT 'new, updated, suppressed or closed',
    status_id           UInt8 COMMENT 'OCSF: 1 new, 2 in progress, 3 suppressed, 4 resolved',
    activity_id         UInt8 COMMENT 'OCSF: 1 create, 2 update, 3 close',
    is_alert            Bool COMMENT 'Somebody should look now',
    is_shadow           Bool COMMENT 'Stored, not alerted, by policy',
    suppressed_by       Array(LowCardinality(String)) COMMENT 'Why it is no alarm',
    tenant_id           LowCardinality(String) COMMENT 'Tenant',
    user_id             String CODEC(ZSTD) COMMENT 'User',
    session_uid         String CODEC(ZSTD) COMMENT 'Session; empty for findings about the user',
    subject             String CODEC(ZSTD) COMMENT 'What within the session or user it is about',
    bucket_time         DateTime64(3, 'UTC') COMMENT 'Start of the event-time bucket repeats are grouped by',
    event_time          DateTime64(3, 'UTC') CODEC(Delta, ZSTD) COMMENT 'First occurrence',
    last_event_time     DateTime64(3, 'UTC') COMMENT 'Last occurrence',
    detected_at         DateTime64(3, 'UTC') COMMENT 'Timestamp of the record that brought this state about',
    count               UInt32 COMMENT 'Occurrences',
    revision            UInt64 COMMENT 'Grows with every state',
    summary             String CODEC(ZSTD) COMMENT 'What was seen against what was expected, in one line',
    attacks             Array(LowCardinality(String)) COMMENT 'MITRE ATT&CK techniques',
    evidence            String CODEC(ZSTD) COMMENT 'JSON: observed, expected, after, before',
    ip                  String CODEC(ZSTD) COMMENT 'Address of the event',
    asn                 UInt32 COMMENT 'Autonomous system of the event',
    as_org              LowCardinality(String) COMMENT 'Its organisation of the event',
    network_kind        LowCardinality(String) COMMENT 'Kind of network of the event',
    country             LowCardinality(String) COMMENT 'Country of the event',
    city                LowCardinality(String) COMMENT 'City of the event',
    ua_family           LowCardinality(String) COMMENT 'Client of the event',
    os_family           LowCardinality(String) COMMENT 'Operating system of the event',
    device              LowCardinality(String) COMMENT 'Device class of the event',
    ip_before           String CODEC(ZSTD) COMMENT 'Address it is held against',
    asn_before          UInt32 COMMENT 'Autonomous system it is held against',
    as_org_before       LowCardinality(String) COMMENT 'Its organisation it is held against',
    network_kind_before LowCardinality(String) COMMENT 'Kind of network it is held against',
    country_before      LowCardinality(String) COMMENT 'Country it is held against',
    city_before         LowCardinality(String) COMMENT 'City it is held against',
    ua_family_before    LowCardinality(String) COMMENT 'Client it is held against',
    os_family_before    LowCardinality(String) COMMENT 'Operating system it is held against',
    device_before       LowCardinality(String) COMMENT 'Device class it is held against',
    distance_km         Nullable(Float64) COMMENT 'Between the two places',
    speed_kmh           Nullable(Float64) COMMENT 'Between the two places',
    kafka_topic         LowCardinality(String) COMMENT 'Topic the record first arrived on',
    kafka_partition     UInt32 COMMENT 'Partition the record first arrived in',
    kafka_offset        UInt64 CODEC(Delta, ZSTD) COMMENT 'Offset the record first arrived at',
    is_retroactive Bool COMMENT 'Found by a backfill, not when it happened'
)
ENGINE = {engine:ReplacingMergeTree(revision)}
-- By month, old times and far ones each in one partition: 361 at most, whatever the events say.
PARTITION BY toYYYYMM(least(greatest(bucket_time, toDateTime64('2020-01-01', 3, 'UTC')), toDateTime64('2050-01-01', 3, 'UTC')))
ORDER BY (tenant_id, finding_uid)
{ttl:findings.bucket_time};

-- ZSTD beats LZ4 everywhere by measurement (docs/clickhouse.md).
ALTER TABLE findings{on_cluster} MODIFY SETTING default_compression_codec = 'ZSTD(1)'

-- down
DROP TABLE IF EXISTS findings{on_cluster}
