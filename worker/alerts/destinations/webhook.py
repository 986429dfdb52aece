"""Webhooks by Standard Webhooks 1.0.0 (https://www.standardwebhooks.com): stable ids, signed, under 20 kB."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from standardwebhooks import Webhook as Signer

from schemas.finding import Activity
from worker.alerts.destinations.base import JSON, HttpSender, as_json
from worker.alerts.http import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.alerts.alert import Alert
    from worker.alerts.config import Webhook

LARGEST = 20_000
"""Bytes of a body that receivers have to take, by the specification."""
TYPES = {Activity.CREATE: "incident.created", Activity.UPDATE: "incident.updated", Activity.CLOSE: "incident.resolved"}


class WebhookSender(HttpSender):
    """Posts incidents as `{"type", "timestamp", "data"}`; `data` is the OCSF Incident Finding."""

    def __init__(self, config: Webhook, clock: Callable[[], int]) -> None:
        super().__init__(config, clock)
        self._url = config.url.get_secret_value()
        self._signers = [Signer(secret.get_secret_value()) for secret in config.secrets]
        self._headers = {name: value.get_secret_value() for name, value in config.headers.items()}

    def requests(self, alert: Alert) -> Sequence[Request]:
        """Return the signed request."""
        body = payload(alert)
        moment = datetime.fromtimestamp(alert.now / 1000, UTC)
        headers = {
            **JSON,
            **self._headers,
            "webhook-id": alert.id,
            "webhook-timestamp": str(int(moment.timestamp())),
        }
        if self._signers:
            signatures = (signer.sign(alert.id, moment, body.decode()) for signer in self._signers)
            headers["webhook-signature"] = " ".join(signatures)
        return [Request(self._url, body, headers)]


def payload(alert: Alert) -> bytes:
    """Return the body: as much of the incident as fits."""
    body = b""
    for data in _ever_less(orjson.loads(alert.document)):
        body = as_json(_envelope(alert, data))
        if len(body) < LARGEST:
            break
    return body


def _envelope(alert: Alert, data: dict[str, Any]) -> dict[str, Any]:
    incident, message = alert.incident, alert.message
    return {
        "type": TYPES[incident.activity],
        "timestamp": datetime.fromtimestamp(incident.detected_at / 1000, UTC).isoformat(),
        "data": data,
        "links": {link.label: link.url for link in message.links},
        "feedback": message.feedback,
        "notes": [note for note in message.notes if "left out" in note],
    }


def _ever_less(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a document in full, and then with ever less detail."""
    yield document
    whole = document.get("unmapped") or {}
    lists = ("suppressed", "sightings", "timeline", "findings", "networks", "devices", "places", "sessions")
    for number in range(1, len(lists) + 1):
        short = {name: value[:3] if name in lists[:number] else value for name, value in whole.items()}
        yield {**document, "unmapped": {**short, "truncated": True}}
    essence = {name: value for name, value in document.items() if name not in {"unmapped", "attacks"}}
    infos = document.get("finding_info_list") or []
    yield {**essence, "finding_info_list": infos[:5], "unmapped": {"truncated": True}}
    yield {**essence, "finding_info_list": [], "message": str(document.get("message"))[:500],
           "unmapped": {"truncated": True}}  # fmt: skip
