-- access
-- up
-- Who may read which tenant; rows are added by whoever administers access.
CREATE TABLE IF NOT EXISTS tenant_readers{on_cluster}
(
    user_name String COMMENT 'A user of ClickHouse',
    tenant_id String COMMENT 'A tenant the user may read'
)
ENGINE = {engine:ReplacingMergeTree}
ORDER BY (user_name, tenant_id);

CREATE ROLE IF NOT EXISTS sessionwatch_writer{on_cluster};
-- A worker looks whether the tables are of its version, and reads nothing else.
GRANT{on_cluster} INSERT ON session_events, INSERT ON sessions, INSERT ON findings, INSERT ON feedback, SELECT ON schema_migrations TO sessionwatch_writer;

CREATE ROLE IF NOT EXISTS sessionwatch_eraser{on_cluster};
GRANT{on_cluster} SELECT, ALTER DELETE ON session_events, SELECT, ALTER DELETE ON sessions, SELECT, ALTER DELETE ON findings, SELECT, ALTER DELETE ON feedback, SELECT, ALTER DELETE ON users_by_day_states TO sessionwatch_eraser;

CREATE ROLE IF NOT EXISTS sessionwatch_reader{on_cluster};
GRANT{on_cluster} SELECT ON {database}.* TO sessionwatch_reader;

CREATE ROLE IF NOT EXISTS sessionwatch_tenant{on_cluster};
-- By name: a table without the policy below would show all tenants.
GRANT{on_cluster} SELECT ON session_events, SELECT ON sessions, SELECT ON findings, SELECT ON feedback, SELECT ON feedback_by_detection, SELECT ON tenant_readers TO sessionwatch_tenant;

CREATE SETTINGS PROFILE IF NOT EXISTS sessionwatch_reader{on_cluster} SETTINGS
    readonly = 2,
    max_execution_time = 30 MIN 1 MAX 30,
    max_memory_usage = 4000000000 MIN 1 MAX 4000000000,
    max_result_rows = 1000000 MIN 1 MAX 1000000,
    max_concurrent_queries_for_user = 16 MIN 1 MAX 16
TO sessionwatch_reader, sessionwatch_tenant;

CREATE QUOTA IF NOT EXISTS sessionwatch_reader{on_cluster} KEYED BY user_name
    FOR INTERVAL 1 minute MAX queries = 600,
    FOR INTERVAL 1 hour MAX execution_time = 3600
TO sessionwatch_reader, sessionwatch_tenant;

CREATE ROW POLICY IF NOT EXISTS sessionwatch_tenant{on_cluster} ON session_events, sessions, findings, feedback
    FOR SELECT USING tenant_id IN (SELECT tenant_id FROM {database}.tenant_readers WHERE user_name = currentUser())
TO sessionwatch_tenant;

CREATE ROW POLICY IF NOT EXISTS sessionwatch_own{on_cluster} ON tenant_readers
    FOR SELECT USING user_name = currentUser()
TO sessionwatch_tenant;

-- A table with policies is empty to whoever none of them is for.
CREATE ROW POLICY IF NOT EXISTS sessionwatch_others{on_cluster} ON session_events, sessions, findings, feedback, tenant_readers
    FOR SELECT USING 1
TO ALL EXCEPT sessionwatch_tenant;

GRANT{on_cluster} INSERT ON deliveries TO sessionwatch_writer;
GRANT{on_cluster} SELECT ON deliveries TO sessionwatch_tenant;

CREATE ROW POLICY IF NOT EXISTS sessionwatch_tenant_deliveries{on_cluster} ON deliveries
    FOR SELECT USING tenant_id IN (SELECT tenant_id FROM {database}.tenant_readers WHERE user_name = currentUser())
TO sessionwatch_tenant;

CREATE ROW POLICY IF NOT EXISTS sessionwatch_others_deliveries{on_cluster} ON deliveries
    FOR SELECT USING 1
TO ALL EXCEPT sessionwatch_tenant;

GRANT{on_cluster} INSERT ON incidents TO sessionwatch_writer;
GRANT{on_cluster} SELECT, ALTER DELETE ON incidents TO sessionwatch_eraser;
GRANT{on_cluster} SELECT ON incidents, SELECT ON incident_findings TO sessionwatch_tenant;

CREATE ROW POLICY IF NOT EXISTS sessionwatch_tenant{on_cluster} ON incidents
    FOR SELECT USING tenant_id IN (SELECT tenant_id FROM {database}.tenant_readers WHERE user_name = currentUser())
TO sessionwatch_tenant;

CREATE ROW POLICY IF NOT EXISTS sessionwatch_others{on_cluster} ON incidents
    FOR SELECT USING 1
TO ALL EXCEPT sessionwatch_tenant

-- down
DROP ROW POLICY IF EXISTS sessionwatch_others ON incidents{on_cluster};
DROP ROW POLICY IF EXISTS sessionwatch_tenant ON incidents{on_cluster};
DROP ROW POLICY IF EXISTS sessionwatch_others_deliveries ON deliveries{on_cluster};
DROP ROW POLICY IF EXISTS sessionwatch_tenant_deliveries ON deliveries{on_cluster};
DROP ROW POLICY IF EXISTS sessionwatch_others ON session_events, sessions, findings, feedback, tenant_readers{on_cluster};
DROP ROW POLICY IF EXISTS sessionwatch_own ON tenant_readers{on_cluster};
DROP ROW POLICY IF EXISTS sessionwatch_tenant ON session_events, sessions, findings, feedback{on_cluster};
DROP QUOTA IF EXISTS sessionwatch_reader{on_cluster};
DROP SETTINGS PROFILE IF EXISTS sessionwatch_reader{on_cluster};
DROP ROLE IF EXISTS sessionwatch_tenant{on_cluster};
DROP ROLE IF EXISTS sessionwatch_reader{on_cluster};
DROP ROLE IF EXISTS sessionwatch_eraser{on_cluster};
DROP ROLE IF EXISTS sessionwatch_writer{on_cluster};
DROP TABLE IF EXISTS tenant_readers{on_cluster}
