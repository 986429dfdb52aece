"""Compares rollups with the stored events, and adds events that were stored before the rollups existed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

TRUTH = {
    "events_by_minute": """
        SELECT tenant_id, toDateTime(toStartOfMinute(e.event_time), 'UTC') AS minute, count() AS events,
            countIf(is_late) AS late_events,
            uniqExactIf(user_id, session_uid, e.event_time = session_started_at) AS new_sessions,
            uniqExact(user_id, session_uid) AS active_sessions, uniqExact(user_id) AS users,
            uniqExactIf(country, country != '') AS countries, max(e.risk_score) AS max_risk
        FROM session_events AS e FINAL GROUP BY tenant_id, minute
    """,
    "networks_by_day": """
        SELECT tenant_id, prefix, toDate(e.event_time, 'UTC') AS day, max(e.asn) AS asn,
            max(toString(e.as_org)) AS as_org, max(toString(e.network_kind)) AS network_kind,
            arraySort(groupUniqArrayIf(toString(country), country != '')) AS countries, count() AS events,
            uniqExact(user_id, session_uid) AS sessions, uniqExact(user_id) AS users, min(e.event_time) AS first_seen,
            max(e.event_time) AS last_seen, max(e.risk_score) AS max_risk
        FROM session_events AS e FINAL GROUP BY tenant_id, prefix, day
    """,
    "users_by_day": """
        SELECT tenant_id, user_id, toDate(e.event_time, 'UTC') AS day, count() AS events,
            uniqExact(user_id, session_uid) AS sessions,
            arraySort(groupUniqArrayIf(toString(country), country != '')) AS countries,
            arraySort(groupUniqArrayIf(prefix, prefix != '')) AS prefixes,
            arraySort(groupUniqArrayIf(asn, asn != 0)) AS asns,
            arraySort(groupUniqArrayIf(concat(ua_family, ' on ', os_family), ua_family != '' OR os_family != ''))
                AS devices,
            min(e.event_time) AS first_seen, max(e.event_time) AS last_seen, max(e.risk_score) AS max_risk
        FROM session_events AS e FINAL GROUP BY tenant_id, user_id, day
    """,
}
"""The rows of each rollup, computed from the stored events with `FINAL`."""
EVENTS_AT_ONCE = 300_000
_MADE_OF_EVENTS = """
SELECT name, as_select FROM system.tables
WHERE database = currentDatabase() AND engine = 'MaterializedView' AND has({views:Array(String)}, name) ORDER BY name
"""


def differences(client: Client) -> dict[str, int]:
    """Return, by rollup, the number of rows that differ from the stored events; 0 means exact.

    Reads every event. Rollups that are kept longer than events differ by design.
    """
    events = client.query("SELECT count() FROM session_events").result_rows[0][0]
    # The groups of one query have to fit into memory.
    parts = 1 + int(events) // EVENTS_AT_ONCE
    return {
        name: sum(_differing(client, name, truth, part, parts) for part in range(parts))
        for name, truth in TRUTH.items()
    }


def _differing(client: Client, name: str, truth: str, part: int, parts: int) -> int:
    """Return the number of rows that differ, for the tenants of one part."""
    only = "WHERE cityHash64(tenant_id) % {parts:UInt32} = {part:UInt32}"
    true, rolled = f"SELECT * FROM ({truth}) {only}", f"SELECT * FROM {name} {only}"  # noqa: S608  names of our own
    sql = f"SELECT count() FROM (({true} EXCEPT {rolled}) UNION ALL ({rolled} EXCEPT {true}))"  # noqa: S608  as above
    return int(client.query(sql, parameters={"parts": parts, "part": part}).result_rows[0][0])


def fill(client: Client) -> list[str]:
    """Add all stored events to the rollups, and return the rollups' names.

    Events that a rollup has already do not change it.
    """
    views = {f"{name}_from_events": name for name in TRUTH}
    for view, select in client.query(_MADE_OF_EVENTS, parameters={"views": list(views)}).result_rows:
        client.command(f"INSERT INTO {views[view]}_states {select}")
    return list(TRUTH)
