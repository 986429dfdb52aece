-- up
CREATE TABLE IF NOT EXISTS sessions{on_cluster}
(
    tenant_id       LowCardinality(String) COMMENT 'Tenant',
    user_id         String CODEC(ZSTD) COMMENT 'User',
    session_uid     String CODEC(ZSTD) COMMENT 'Session',
    status          LowCardinality(String) COMMENT 'active or ended',
    started_at      DateTime64(3, 'UTC') COMMENT 'Event time of the first event',
    last_seen_at    DateTime64(3, 'UTC') COMMENT 'Event time of the newest event',
    ended_at        Nullable(DateTime64(3, 'UTC')) COMMENT 'When it ended',
    end_reason      LowCardinality(String) COMMENT 'deleted, expired, idle, evicted or empty',
    expires_at      Nullable(DateTime64(3, 'UTC')) COMMENT 'Effective sliding expiry',
    session_type    LowCardinality(String) COMMENT 'Case-folded; empty when omitted',
    ip              String CODEC(ZSTD) COMMENT 'Newest address',
    asn             UInt32 COMMENT 'Its autonomous system',
    as_org          LowCardinality(String) COMMENT 'Its organisation',
    network_kind    LowCardinality(String) COMMENT 'Its kind',
    country         LowCardinality(String) COMMENT 'Newest country',
    city            LowCardinality(String) COMMENT 'Newest city',
    latitude        Nullable(Float64) COMMENT 'Degrees',
    longitude       Nullable(Float64) COMMENT 'Degrees',
    ua_family       LowCardinality(String) COMMENT 'Newest client',
    os_family       LowCardinality(String) COMMENT 'Newest operating system',
    device          LowCardinality(String) COMMENT 'Newest device class',
    scopes          Array(LowCardinality(String)) COMMENT 'Newest scopes',
    amr             Array(LowCardinality(String)) COMMENT 'Newest authentication methods',
    aud             LowCardinality(String) COMMENT 'Newest audience',
    risk_score      Float64 COMMENT 'Risk at last_seen_at, 0 to 100',
    user_risk_score Float64 COMMENT 'Risk of the user then',
    finding_count   UInt32 COMMENT 'Findings of the session',
    event_count     UInt32 COMMENT 'Events of the session',
    version         UInt64 COMMENT 'Grows with every state'
)
ENGINE = {engine:ReplacingMergeTree(version)}
ORDER BY (tenant_id, user_id, session_uid)
{ttl:sessions.last_seen_at};

-- The newest event of a living session tells its state; ends are written by the worker.
CREATE MATERIALIZED VIEW IF NOT EXISTS sessions_from_events{on_cluster} TO sessions AS
SELECT
    tenant_id,
    user_id,
    session_uid,
    'active' AS status,
    session_started_at AS started_at,
    event_time AS last_seen_at,
    CAST(NULL, 'Nullable(DateTime64(3, \'UTC\'))') AS ended_at,
    '' AS end_reason,
    expires_at,
    session_type,
    ip,
    asn,
    as_org,
    network_kind,
    country,
    city,
    latitude,
    longitude,
    ua_family,
    os_family,
    device,
    scopes,
    amr,
    aud,
    risk_score,
    user_risk_score,
    session_findings AS finding_count,
    session_events AS event_count,
    state_version AS version
FROM session_events
WHERE is_current;

-- ZSTD beats LZ4 everywhere by measurement (docs/clickhouse.md).
ALTER TABLE sessions{on_cluster} MODIFY SETTING default_compression_codec = 'ZSTD(1)'

-- down
DROP VIEW IF EXISTS sessions_from_events{on_cluster};
DROP TABLE IF EXISTS sessions{on_cluster}
