"""PagerDuty, Events API v2: an incident is triggered, acknowledged and resolved under one deduplication key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from schemas.finding import Activity
from worker.alerts.destinations.base import HttpSender, json_request
from worker.alerts.message import commands
from worker.alerts.rendering import change_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.alerts.alert import Alert
    from worker.alerts.config import PagerDuty
    from worker.alerts.http import Request

SEVERITIES = {"critical": "critical", "high": "error", "medium": "warning", "low": "info", "informational": "info"}
LONGEST_SUMMARY, LONGEST_KEY = 1_024, 255


class PagerDutySender(HttpSender):
    """Posts events to PagerDuty."""

    def __init__(self, config: PagerDuty, clock: Callable[[], int]) -> None:
        super().__init__(config, clock)
        self._url = config.url.get_secret_value()
        self._key = config.routing_key.get_secret_value()

    def requests(self, alert: Alert) -> Sequence[Request]:
        """Return the events."""
        return [json_request(self._url, each) for each in events(alert, self._key)]


def events(alert: Alert, routing_key: str) -> list[dict[str, Any]]:
    """Return the JSON of the events that bring PagerDuty to the state of an incident.

    An acknowledged incident is triggered first, because PagerDuty drops the acknowledgement of an unknown alert. If it
    knows the alert, it adds the repeated trigger to the alert's log without a notification.
    """
    incident = alert.incident
    head = {"routing_key": routing_key, "dedup_key": incident.uid[:LONGEST_KEY]}
    if incident.activity is Activity.CLOSE:
        return [{**head, "event_action": "resolve"}]
    triggered = {**head, **_trigger(alert)}
    return [triggered, {**head, "event_action": "acknowledge"}] if incident.acknowledged_at else [triggered]


def _trigger(alert: Alert) -> dict[str, Any]:
    incident, message = alert.incident, alert.message
    return {
        "event_action": "trigger",
        "client": "sessionwatch",
        "links": [{"href": link.url, "text": link.label} for link in message.links],
        "payload": {
            "summary": message.title[:LONGEST_SUMMARY],
            "source": message.user_id or incident.subject or "network",
            "severity": SEVERITIES[message.severity],
            "timestamp": datetime.fromtimestamp(incident.last_event_at / 1000, UTC).isoformat(),
            "component": message.tenant_id,
            "group": message.user_id or "network",
            "class": incident.leading,
            "custom_details": _details(alert),
        },
    }


def _details(alert: Alert) -> dict[str, Any]:
    message = alert.message
    return {
        **dict(message.facts),
        "What changed": [change_text(each) for each in message.changes],
        "What was found": list(message.findings),
        "What to do": list(message.steps),
        "Notes": list(message.notes),
        **dict(commands(message)),
        "Events": message.sql,
        "Message": message.id,
    }
