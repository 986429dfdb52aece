-- up
CREATE TABLE IF NOT EXISTS deliveries{on_cluster}
(
    tenant_id    LowCardinality(String) COMMENT 'Tenant',
    incident_uid String CODEC(ZSTD) COMMENT 'The incident',
    revision     UInt64 COMMENT 'Its state',
    message_id   String CODEC(ZSTD) COMMENT 'Id of the message, the same over all attempts',
    destination  LowCardinality(String) COMMENT 'Name of the destination; those of tenants begin with their id and a colon',
    kind         LowCardinality(String) COMMENT 'webhook, slack, email, …',
    activity     LowCardinality(String) COMMENT 'create, update or close',
    severity     LowCardinality(String) COMMENT 'informational, low, medium, high or critical',
    attempt      UInt16 COMMENT 'Number of the attempt; 0 when it was left out',
    result       LowCardinality(String) COMMENT 'delivered, retry, failed or left-out',
    code         UInt16 COMMENT 'Status code of the protocol; 0 when there is none',
    error        String CODEC(ZSTD) COMMENT 'Why it was not taken',
    reason       String CODEC(ZSTD) COMMENT 'Why it was left out or held back',
    digest       String CODEC(ZSTD) COMMENT 'Id of the digest it was told in; empty when it was told by itself',
    replaced     UInt32 COMMENT 'Earlier states left out in favour of this one',
    duration_ms  UInt32 COMMENT 'Time the attempt took',
    queued_at    DateTime64(3, 'UTC') COMMENT 'When the state was read',
    attempted_at DateTime64(3, 'UTC') COMMENT 'When the attempt ended',
    next_at      Nullable(DateTime64(3, 'UTC')) COMMENT 'When the next attempt is due'
)
ENGINE = {engine:ReplacingMergeTree(attempted_at)}
PARTITION BY toYYYYMM(queued_at)
ORDER BY (incident_uid, destination, revision, attempt)
{ttl:deliveries.queued_at}

-- down
DROP TABLE IF EXISTS deliveries{on_cluster}
