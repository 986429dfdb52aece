-- up
-- Events as Sigma rules like them: every column a plain value, lists as words between spaces. See docs/sigma.md.
CREATE VIEW IF NOT EXISTS sigma_events{on_cluster} AS
SELECT
    e.event_time AS timestamp,
    tenant_id,
    user_id,
    session_uid,
    toString(e.kind) AS kind,
    ip,
    prefix,
    asn,
    toString(e.as_org) AS as_org,
    toString(e.network_kind) AS network_kind,
    toString(e.country) AS country,
    toString(e.city) AS city,
    toString(e.user_agent) AS user_agent,
    toString(e.ua_family) AS client,
    toString(e.os_family) AS system,
    toString(e.device) AS device,
    is_scripted,
    concat(' ', arrayStringConcat(e.scopes, ' '), ' ') AS scopes,
    concat(' ', arrayStringConcat(e.amr, ' '), ' ') AS amr,
    toString(e.aud) AS aud,
    toString(e.workspace_id) AS workspace_id,
    toString(e.session_type) AS session_type,
    max_age_minutes,
    risk_score,
    meta_data
FROM session_events AS e FINAL

-- down
DROP VIEW IF EXISTS sigma_events{on_cluster}
