"""Digests: one message for many incidents, when a destination cannot take them one by one."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from schemas.finding import SEVERITIES
from worker.alerts.alert import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from schemas.incident import Incident
    from worker.alerts.message import AlertMessage

SHOWN = 10
"""Most incidents that a digest lists."""


def build_digest(messages: Sequence[AlertMessage], incidents: Sequence[Incident], grafana: str) -> Digest:
    """Return the digest of some incidents; its id depends only on their messages."""
    order = sorted(messages, key=lambda each: (-SEVERITIES.index(each.severity), -each.risk_score, each.id))
    return Digest(
        digest_id(each.id for each in messages), tuple(order[:SHOWN]), len(messages), _link(incidents, grafana)
    )


def digest_id(ids: Iterable[str]) -> str:
    """Return the id of the digest of some messages, in any order."""
    return blake2b("\n".join(sorted(ids)).encode(), digest_size=16).hexdigest()


def _link(incidents: Sequence[Incident], grafana: str) -> str:
    if not grafana:
        return ""
    span = {
        "from": min(each.started_at for each in incidents),
        "to": max(each.last_event_at for each in incidents) + 60_000,
    }
    return f"{grafana.rstrip('/')}/d/sessionwatch-findings?{urlencode(span)}"
