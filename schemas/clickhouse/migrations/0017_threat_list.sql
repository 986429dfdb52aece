-- up
-- Threat lists are looked up when an event comes: what they said then is kept with it.
ALTER TABLE session_events{on_cluster} ADD COLUMN IF NOT EXISTS threat_list LowCardinality(String)
    COMMENT 'Threat lists that the address was on when the event came; empty otherwise' AFTER network_kind

-- down
ALTER TABLE session_events{on_cluster} DROP COLUMN IF EXISTS threat_list
