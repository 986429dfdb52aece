"""Prometheus Alertmanager, API v2."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import BasicAuth

from schemas.finding import SEVERITIES
from worker.alerts.destinations.base import HttpSender, json_request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.alerts.alert import Alert
    from worker.alerts.config import Alertmanager
    from worker.alerts.http import Request

ALERT_NAME = "SessionwatchIncident"


class AlertmanagerSender(HttpSender):
    """Posts alerts to Alertmanager."""

    def __init__(self, config: Alertmanager, clock: Callable[[], int]) -> None:
        super().__init__(config, clock)
        self._url = f"{config.url.get_secret_value().rstrip('/')}/api/v2/alerts"
        self._labels = config.labels
        self._hold_ms = int(config.hold_hours * 3_600_000)
        self._headers: dict[str, str] = {}
        if config.username is not None and config.password is not None:
            self._headers["Authorization"] = BasicAuth(config.username, config.password.get_secret_value()).encode()

    def requests(self, alert: Alert) -> Sequence[Request]:
        """Return the alerts."""
        return [json_request(self._url, alerts(alert, self._labels, self._hold_ms), self._headers)]


def alerts(alert: Alert, labels: dict[str, str], hold_ms: int) -> list[dict[str, Any]]:
    """Return the alerts of an incident.

    Alertmanager identifies an alert by its labels. The severity is one of them, so another severity is another alert.
    Therefore each state also ends the alerts with all other severities. Alertmanager sends no notification for those
    that never began.
    """
    now = alert.incident.severity if not alert.incident.is_resolved else None
    return [
        _alert(alert, labels, severity, alert.now + hold_ms if index == now else alert.now - 1)
        for index, severity in enumerate(SEVERITIES)
    ]


def _alert(alert: Alert, labels: dict[str, str], severity: str, ends_at: int) -> dict[str, Any]:
    incident, message = alert.incident, alert.message
    return {
        "labels": {
            **labels,
            "alertname": ALERT_NAME,
            "severity": severity,
            "tenant": message.tenant_id or "unknown",
            "incident": incident.uid,
        },
        "annotations": {
            "summary": message.title,
            "description": "\n".join(message.findings) or message.heading,
            "user": message.user_id,
            "detection": incident.leading,
            "risk": str(incident.risk_score),
            "what_to_do": "\n".join(f"{number}. {step}" for number, step in enumerate(message.steps, 1)),
            "feedback": message.feedback,
        },
        "startsAt": _rfc3339(min(incident.started_at, ends_at)),
        "endsAt": _rfc3339(ends_at),
        "generatorURL": message.links[0].url if message.links else "",
    }


def _rfc3339(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat().replace("+00:00", "Z")
