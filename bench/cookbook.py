"""The queries of `docs/cookbook.md`, with a tenant, user, session, network and time that occur in the store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

PAGE = Path(__file__).parent.parent / "docs" / "cookbook.md"
_SECTION = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_SQL = re.compile(r"^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)
# A user with much data.
_SUBJECT = """
SELECT f.tenant_id, f.user_id, f.session_uid, e.prefix
FROM (SELECT * FROM findings FINAL WHERE detection = 'session-hijack' AND status != 'closed') AS f
INNER JOIN (SELECT * FROM session_events FINAL) AS e
    ON e.tenant_id = f.tenant_id AND e.user_id = f.user_id AND e.session_uid = f.session_uid
WHERE e.prefix != '' ORDER BY f.finding_uid, e.event_time LIMIT 1
"""


def queries() -> dict[str, str]:
    """Return the queries by title."""
    return {title: _SQL.search(text)[1] for title, text in _SECTION.findall(PAGE.read_text("utf-8"))}  # type: ignore[index]


def subjects(client: Client) -> dict[str, str]:
    """Return the values in the page, and the values of the store that replace them."""
    (now,) = client.query("SELECT toString(toDateTime(max(event_time)) + 1) FROM session_events").result_rows[0]
    found = client.query(_SUBJECT).result_rows[0]
    literals = ("'acme'", "'u-17'", "'8c1f'", "'203.0.113.0/24'")
    named = {literal: f"'{value}'" for literal, value in zip(literals, found, strict=True)}
    return {**named, "now()": f"toDateTime('{now}', 'UTC')", "today()": f"toDate('{now[:10]}')"}


def put(sql: str, places: dict[str, str]) -> str:
    """Return a query with the values replaced."""
    for literal, value in places.items():
        sql = sql.replace(literal, value)
    return sql
