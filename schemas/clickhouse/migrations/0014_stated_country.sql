-- up
-- A location that contradicts the address's country is not the place of an event, and is kept beside it.
ALTER TABLE session_events{on_cluster} ADD COLUMN IF NOT EXISTS stated_country LowCardinality(String)
    COMMENT 'Country of `location` where it contradicts the address''s; empty otherwise' AFTER place_source

-- down
ALTER TABLE session_events{on_cluster} DROP COLUMN IF EXISTS stated_country
