"""The pages of the worker's web server, as pure functions; the stream layer routes requests and finds the state.

Times are integer milliseconds since the epoch, UTC, as everywhere.
"""

from __future__ import annotations

from collections import Counter
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from worker.detections.evidence import context_evidence
from worker.observe.metrics import CONTENT_TYPE, READY, exposition
from worker.pipeline.rows import session_risk
from worker.sessions.fold import is_live
from worker.sessions.reorder import user_risk
from worker.sessions.state import Contexts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.sessions.limits import Limits
    from worker.sessions.state import Session, User

JSON = "application/json"


class Page(NamedTuple):
    """An HTTP answer."""

    status: int
    content_type: str
    body: bytes


def json_page(value: Any, status: int = 200) -> Page:
    """Return a page of JSON."""
    return Page(status, JSON, orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))


def metrics_page() -> Page:
    """`/metrics`: all metrics, in Prometheus' text format."""
    return Page(200, CONTENT_TYPE, exposition())


def live_page() -> Page:
    """`/health/live`: the event loop runs. If there is no answer, restart the worker."""
    return json_page({"status": "live"})


def ready_page(reasons: Sequence[str]) -> Page:
    """`/health/ready`: 200 when the worker is ready, 503 with the reasons when it is not."""
    READY.set(not reasons)
    return json_page({"status": "unready" if reasons else "ready", "reasons": list(reasons)}, 503 if reasons else 200)


def user_sessions(user: User, now: int, limits: Limits) -> dict[str, Any]:
    """`/api/tenants/{tenant}/users/{user}`: a user's active sessions, newest use first, and their risk."""
    live = [(uid, session) for uid, session in user.current.sessions.items() if is_live(session, now)]
    live.sort(key=lambda item: (-item[1].seen, item[0]))
    return {
        "tenant_id": user.tenant_id,
        "user_id": user.user_id,
        "as_of": now,
        "risk_score": round(user_risk(user, now, limits), 1),
        "active_sessions": len(live),
        "sessions": [session_view(user, uid, session, now, limits) for uid, session in live],
    }


def session_view(user: User, uid: str, session: Session, now: int, limits: Limits) -> dict[str, Any]:
    """Return one session as JSON values."""
    context = Contexts(user.contexts)[session.context]
    return {
        "session_uid": uid,
        "started_at": session.started,
        "last_seen_at": session.seen,
        "expires_at": session.expires or None,
        "session_type": context.session_type,
        "events": session.events,
        "finding_count": session.findings,
        "risk_score": round(session_risk(session, now, limits), 1),
        **context_evidence(context),
    }


class TenantSummary:
    """`/api/tenants/{tenant}`: the counts of a tenant on this worker, and its sessions of highest risk.

    Takes one user at a time, so that whoever reads the state may pause in between.

    Args:
        tenant_id: whose.
        now: as of when, milliseconds.
        limits: half-lives of the risk.
        top: how many sessions to name.
    """

    def __init__(self, tenant_id: str, now: int, limits: Limits, top: int = 50) -> None:
        self._tenant_id = tenant_id
        self._now = now
        self._limits = limits
        self._top = top
        self._riskiest: list[tuple[float, int, str, str]] = []
        self._users = Counter[str]()
        self._countries = Counter[str]()
        self._kinds = Counter[str]()
        self._views: dict[tuple[str, str], dict[str, Any]] = {}

    def add(self, user: User) -> None:
        """Count one user of the tenant."""
        live = [(uid, session) for uid, session in user.current.sessions.items() if is_live(session, self._now)]
        self._users["known"] += 1
        self._users["active"] += bool(live)
        for uid, session in live:
            context = Contexts(user.contexts)[session.context]
            self._countries[context.place.country] += 1
            self._kinds[context.network.kind] += 1
            self._rank(user, uid, session)

    def _rank(self, user: User, uid: str, session: Session) -> None:
        """Keep the session if it is among the riskiest; the newest first among equals."""
        rank = (session_risk(session, self._now, self._limits), session.seen, user.user_id, uid)
        if len(self._riskiest) < self._top:
            heappush(self._riskiest, rank)
        else:
            out = heappushpop(self._riskiest, rank)
            if out is rank:
                return
            del self._views[out[2:]]
        view = session_view(user, uid, session, self._now, self._limits)
        self._views[rank[2:]] = {"user_id": user.user_id, **view}

    def result(self) -> dict[str, Any]:
        """Return the summary as JSON values; the key `""` of a count is "unknown"."""
        return {
            "tenant_id": self._tenant_id,
            "as_of": self._now,
            "scope": "this worker",
            "users": self._users["known"],
            "active_users": self._users["active"],
            "active_sessions": self._countries.total(),
            "countries": dict(self._countries.most_common()),
            "network_kinds": dict(self._kinds.most_common()),
            "sessions": [self._views[rank[2:]] for rank in sorted(self._riskiest, reverse=True)],
        }
