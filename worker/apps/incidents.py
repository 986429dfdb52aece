"""`incidents`: reads incidents from ClickHouse or from an embedded store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from schemas.finding import SEVERITIES
from schemas.incident import Incident
from worker.apps.errors import CheckFailedError
from worker.apps.query import run

if TYPE_CHECKING:
    from pathlib import Path

    from worker.settings import Settings


class _Row(msgspec.Struct):
    document: str


_decode_row = msgspec.json.Decoder(_Row).decode
_decode = msgspec.json.Decoder(Incident).decode


def list_incidents(
    settings: Settings, data_dir: Path | None, *, tenant: str, user: str, severity: str, resolved: bool, limit: int
) -> list[Incident]:
    """Return incidents, the newest first.

    Args:
        settings: where the store is.
        data_dir: directory of the store of `demo`, `replay` or `worker --embedded`, instead of the settings' store.
        tenant: only incidents of this tenant, unless empty.
        user: only incidents of this user, unless empty.
        severity: only incidents of this severity and above.
        resolved: include resolved incidents.
        limit: the most incidents to return.

    Raises:
        NoDirectoryError: there is no store in the directory.
        ClickHouseError: the store refuses the query.
    """
    wanted = ["resolution NOT IN ('merged', 'withdrawn')", f"severity_id >= {SEVERITIES.index(severity) + 1}"]
    wanted += [f"tenant_id = {_text(tenant)}"] * bool(tenant) + [f"user_id = {_text(user)}"] * bool(user)
    wanted += [] if resolved else ["status != 'resolved'"]
    where = " AND ".join(wanted)
    return _read(settings, data_dir, f"WHERE {where} ORDER BY started_at DESC, incident_uid LIMIT {int(limit)}")


def find_incident(settings: Settings, data_dir: Path | None, uid: str) -> Incident:
    """Return the incident whose id begins with `uid`.

    Raises:
        CheckFailedError: there is none, or more than one.
    """
    found = _read(settings, data_dir, f"WHERE startsWith(incident_uid, {_text(uid)}) LIMIT 2")
    if not found:
        raise CheckFailedError(
            f"no incident has an id that begins with {uid}; `sessionwatch incidents list --all` shows the ids"
        )
    if len(found) > 1:
        raise CheckFailedError(f"several incidents have an id that begins with {uid}; give more of the id")
    return found[0]


def _read(settings: Settings, data_dir: Path | None, condition: str) -> list[Incident]:
    sql = f"SELECT document FROM incidents FINAL {condition}"  # noqa: S608  values are hexadecimal, see `_text`
    answer = run(settings, data_dir, sql, "JSONEachRow", write=False)
    return [_decode(_decode_row(line).document) for line in answer.body.splitlines() if line]


def _text(value: str) -> str:
    """Return a text as an SQL expression; hexadecimal digits cannot contain SQL."""
    return f"unhex('{value.encode().hex()}')"
