"""Revocation of sessions at the system that issued them, with one HTTP request for each session."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from worker.alerts.destinations.base import HttpSender, as_json
from worker.alerts.http import GONE, Request
from worker.alerts.routing import revocable_sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.alerts.alert import Alert
    from worker.alerts.config import Revoke


NO_SEGMENTS = frozenset({"", ".", ".."})
"""Values that cannot be a segment of a path: clients remove dot segments, and the call would reach another URL."""


class RevokeSender(HttpSender):
    """Calls the endpoint if the tenant's policy allows it, and only for sessions with findings of hard invariants."""

    accept = frozenset({404, GONE})
    """Status codes that mean that the session no longer exists."""

    def __init__(self, config: Revoke, clock: Callable[[], int]) -> None:
        super().__init__(config, clock)
        self._url, self._method = config.url.get_secret_value(), config.method
        self._headers = {name: value.get_secret_value() for name, value in config.headers.items()}
        if config.token is not None:
            self._headers["Authorization"] = f"Bearer {config.token.get_secret_value()}"

    def requests(self, alert: Alert) -> Sequence[Request]:
        """Return a request for each session."""
        if not alert.policy.revoke or alert.incident.is_resolved:
            return []
        incident = alert.incident
        named = {"user": incident.user_id, "tenant": incident.tenant_id}
        if any(f"{{{name}}}" in self._url and value in NO_SEGMENTS for name, value in named.items()):
            return []
        return [self._request(alert, uid) for uid in revocable_sessions(incident) if uid not in NO_SEGMENTS]

    def _request(self, alert: Alert, session_uid: str) -> Request:
        incident = alert.incident
        url = filled(self._url, session=session_uid, user=incident.user_id, tenant=incident.tenant_id)
        body = {
            "session": session_uid,
            "user": incident.user_id,
            "tenant": incident.tenant_id,
            "incident": incident.uid,
        }
        headers = {**self._headers, "Idempotency-Key": f"{incident.uid}-{session_uid}"[:255]}
        if self._method == "DELETE":
            return Request(url, b"", headers, "DELETE")
        return Request(url, as_json(body), {**headers, "Content-Type": "application/json"})


def filled(template: str, **values: str) -> str:
    """Return a URL template with its values filled in. Each value is percent-encoded completely.

    >>> filled("https://idp/sessions/{session}", session="../a")
    'https://idp/sessions/..%2Fa'
    """
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", quote(value, safe="", errors="replace"))
    return template
