-- up
-- Parameterised views: one call for what is asked again and again; docs/cookbook.md shows each.
CREATE VIEW IF NOT EXISTS session_timeline{on_cluster} AS
SELECT
    e.event_time AS event_time,
    kind,
    ip,
    asn,
    as_org,
    network_kind,
    country,
    city,
    concat(ua_family, ' ', toString(ua_major)) AS client,
    concat(os_family, ' ', os_major) AS system,
    scopes,
    amr,
    risk_score,
    detections,
    is_late
FROM session_events AS e FINAL
WHERE tenant_id = {tenant:String} AND user_id = {user:String} AND session_uid = {session:String}
ORDER BY e.event_time, kafka_offset;

CREATE VIEW IF NOT EXISTS network_users{on_cluster} AS
SELECT
    user_id,
    min(u.first_seen) AS first_seen,
    max(u.last_seen) AS last_seen,
    count() AS days,
    sum(u.events) AS events,
    max(u.max_risk) AS max_risk
FROM users_by_day AS u
WHERE tenant_id = {tenant:String} AND day >= toDate({from:DateTime64(3)}) AND day <= toDate({to:DateTime64(3)})
    AND has(prefixes, {prefix:String})
GROUP BY user_id;

-- Sessions live in each interval: begun before its end, and not over before its beginning.
CREATE VIEW IF NOT EXISTS concurrency{on_cluster} AS
SELECT
    tenant_id,
    toDateTime(arrayJoin(range(
        toUInt32(intDiv(greatest(toUnixTimestamp(started_at), toUnixTimestamp({from:DateTime64(3)})), {seconds:UInt32})),
        toUInt32(intDiv(least(toUnixTimestamp(until), toUnixTimestamp({to:DateTime64(3)}) - 1), {seconds:UInt32})) + 1
    )) * {seconds:UInt32}, 'UTC') AS time,
    count() AS sessions,
    uniqExact(user_id) AS users
FROM
(
    SELECT
        tenant_id,
        user_id,
        started_at,
        coalesce(ended_at, expires_at, last_seen_at) AS until
    FROM sessions FINAL
)
WHERE started_at < {to:DateTime64(3)} AND until >= {from:DateTime64(3)}
GROUP BY tenant_id, time

-- down
DROP VIEW IF EXISTS concurrency{on_cluster};
DROP VIEW IF EXISTS network_users{on_cluster};
DROP VIEW IF EXISTS session_timeline{on_cluster}
