-- access
-- up
GRANT{on_cluster} INSERT ON deliveries TO sessionwatch_writer;
GRANT{on_cluster} SELECT ON deliveries TO sessionwatch_tenant;

CREATE ROW POLICY IF NOT EXISTS sessionwatch_tenant_deliveries{on_cluster} ON deliveries
    FOR SELECT USING tenant_id IN (SELECT tenant_id FROM {database}.tenant_readers WHERE user_name = currentUser())
TO sessionwatch_tenant;

CREATE ROW POLICY IF NOT EXISTS sessionwatch_others_deliveries{on_cluster} ON deliveries
    FOR SELECT USING 1
TO ALL EXCEPT sessionwatch_tenant

-- down
DROP ROW POLICY IF EXISTS sessionwatch_others_deliveries ON deliveries{on_cluster};
DROP ROW POLICY IF EXISTS sessionwatch_tenant_deliveries ON deliveries{on_cluster}
