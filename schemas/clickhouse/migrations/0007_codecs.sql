-- up
-- By measurement (docs/clickhouse.md): ZSTD beats LZ4 everywhere and Delta on times, T64 packs small numbers, few agents
-- and places make up all traffic.
ALTER TABLE session_events{on_cluster} MODIFY SETTING default_compression_codec = 'ZSTD(1)';
ALTER TABLE sessions{on_cluster} MODIFY SETTING default_compression_codec = 'ZSTD(1)';
ALTER TABLE findings{on_cluster} MODIFY SETTING default_compression_codec = 'ZSTD(1)';
ALTER TABLE events_by_minute_states{on_cluster} MODIFY SETTING default_compression_codec = 'ZSTD(1)';
ALTER TABLE networks_by_day_states{on_cluster} MODIFY SETTING default_compression_codec = 'ZSTD(1)';
ALTER TABLE users_by_day_states{on_cluster} MODIFY SETTING default_compression_codec = 'ZSTD(1)';

ALTER TABLE session_events{on_cluster}
    MODIFY COLUMN IF EXISTS user_agent LowCardinality(String) CODEC(ZSTD),
    MODIFY COLUMN IF EXISTS location LowCardinality(String) CODEC(ZSTD),
    MODIFY COLUMN IF EXISTS event_time CODEC(ZSTD),
    MODIFY COLUMN IF EXISTS record_time CODEC(ZSTD),
    MODIFY COLUMN IF EXISTS kafka_offset CODEC(T64, ZSTD),
    MODIFY COLUMN IF EXISTS state_version CODEC(T64, ZSTD),
    MODIFY COLUMN IF EXISTS session_events CODEC(T64, ZSTD),
    MODIFY COLUMN IF EXISTS session_findings CODEC(T64, ZSTD),
    MODIFY COLUMN IF EXISTS ua_major CODEC(T64, ZSTD);

-- What the event says beside the known: `meta.client.app`, `meta.mfa.:String`. Parsed when it is read.
ALTER TABLE session_events{on_cluster} ADD COLUMN IF NOT EXISTS meta JSON ALIAS if(meta_data = '', '{}', meta_data)::JSON
    COMMENT 'meta_data as JSON'

-- down
ALTER TABLE session_events{on_cluster} DROP COLUMN IF EXISTS meta;

ALTER TABLE session_events{on_cluster}
    MODIFY COLUMN IF EXISTS user_agent String CODEC(ZSTD),
    MODIFY COLUMN IF EXISTS location String CODEC(ZSTD),
    MODIFY COLUMN IF EXISTS event_time CODEC(Delta, ZSTD),
    MODIFY COLUMN IF EXISTS record_time CODEC(Delta, ZSTD),
    MODIFY COLUMN IF EXISTS kafka_offset CODEC(Delta, ZSTD),
    MODIFY COLUMN IF EXISTS state_version CODEC(Delta, ZSTD),
    MODIFY COLUMN IF EXISTS session_events REMOVE CODEC,
    MODIFY COLUMN IF EXISTS session_findings REMOVE CODEC,
    MODIFY COLUMN IF EXISTS ua_major REMOVE CODEC;

ALTER TABLE users_by_day_states{on_cluster} RESET SETTING default_compression_codec;
ALTER TABLE networks_by_day_states{on_cluster} RESET SETTING default_compression_codec;
ALTER TABLE events_by_minute_states{on_cluster} RESET SETTING default_compression_codec;
ALTER TABLE findings{on_cluster} RESET SETTING default_compression_codec;
ALTER TABLE sessions{on_cluster} RESET SETTING default_compression_codec;
ALTER TABLE session_events{on_cluster} RESET SETTING default_compression_codec
