"""Incidents as ClickHouse has them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec

from schemas.finding import SEVERITIES
from schemas.incident import Incident
from worker.clickhouse.writer import connect

if TYPE_CHECKING:
    from collections.abc import Mapping

_decode = msgspec.json.Decoder(Incident).decode
_LIST = """
SELECT document FROM incidents FINAL
WHERE (tenant_id = {tenant:String} OR {tenant:String} = '') AND (user_id = {user:String} OR {user:String} = '')
    AND (status != 'resolved' OR {resolved:Bool}) AND resolution NOT IN ('merged', 'withdrawn')
    AND severity_id >= {severity:UInt8}
ORDER BY started_at DESC, incident_uid LIMIT {limit:UInt32}
"""
_ONE = "SELECT document FROM incidents FINAL WHERE startsWith(incident_uid, {uid:String}) LIMIT 2"


def list_incidents(
    dsn: str,
    options: Mapping[str, Any],
    *,
    tenant: str = "",
    user: str = "",
    severity: str = "informational",
    resolved: bool = False,
    limit: int = 50,
) -> list[Incident]:
    """Return the incidents there are, the newest first.

    Args:
        dsn: of the store.
        options: of the connection.
        tenant: only of this tenant, unless empty.
        user: only of this user, unless empty.
        severity: only of this severity and above.
        resolved: resolved ones, too.
        limit: at most so many.

    Raises:
        StoreUnreachableError: ClickHouse does not answer.
        ClickHouseError: it refuses.
    """
    return _query(
        dsn, options, _LIST, tenant=tenant, user=user, resolved=resolved, limit=limit,
        severity=SEVERITIES.index(severity) + 1,
    )  # fmt: skip


def find_incident(dsn: str, options: Mapping[str, Any], uid: str) -> Incident | None:
    """Return the incident whose id begins so; None when there is none, or more than one."""
    found = _query(dsn, options, _ONE, uid=uid)
    return found[0] if len(found) == 1 else None


def _query(dsn: str, options: Mapping[str, Any], sql: str, **parameters: Any) -> list[Incident]:
    with closing(connect(dsn, **options)) as client:
        return [_decode(document) for (document,) in client.query(sql, parameters=parameters).result_rows]
