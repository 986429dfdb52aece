-- up
-- What a client controls never makes an event unusable: what was done to it is said.
ALTER TABLE session_events{on_cluster} ADD COLUMN IF NOT EXISTS repaired Array(LowCardinality(String))
    COMMENT 'Properties that were cut, cleaned or left out, as they could not be used as they were' AFTER meta_data

-- down
ALTER TABLE session_events{on_cluster} DROP COLUMN IF EXISTS repaired
