-- up
-- What a stored event lacked to be judged again as it was: an omitted list is not an empty one.
ALTER TABLE session_events{on_cluster} ADD COLUMN IF NOT EXISTS has_scopes Bool DEFAULT notEmpty(scopes)
    COMMENT 'The event names scopes, if only none' AFTER amr;

ALTER TABLE session_events{on_cluster} ADD COLUMN IF NOT EXISTS has_amr Bool DEFAULT notEmpty(amr)
    COMMENT 'The event names authentication methods, if only none' AFTER has_scopes;

ALTER TABLE findings{on_cluster} ADD COLUMN IF NOT EXISTS is_retroactive Bool
    COMMENT 'Found by a backfill, not when it happened'

-- down
ALTER TABLE findings{on_cluster} DROP COLUMN IF EXISTS is_retroactive;
ALTER TABLE session_events{on_cluster} DROP COLUMN IF EXISTS has_amr;
ALTER TABLE session_events{on_cluster} DROP COLUMN IF EXISTS has_scopes
