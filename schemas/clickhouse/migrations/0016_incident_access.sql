-- access
-- up
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
DROP ROW POLICY IF EXISTS sessionwatch_tenant ON incidents{on_cluster}
