"""Webhooks according to Standard Webhooks 1.0.0 (https://www.standardwebhooks.com): signed, at most 20 kB."""

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
"""Size of a body, in bytes, that every receiver must accept according to the specification."""
LONGEST_LINK = 1_500
BOUNDS = ((20, 1_000), (10, 500), (5, 300), (3, 200), (2, 120), (1, 60))
"""Maximum number of list items and of characters in a text; the first pair with which the body fits is used."""
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
    """Return the body with the incident, shortened if it exceeds the limit."""
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
        "links": {link.label: link.url for link in message.links if len(link.url) <= LONGEST_LINK},
        "feedback": message.feedback,
        "notes": [note for note in message.notes if "left out" in note],
    }


def _ever_less(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the document in full, then with shorter and shorter lists and texts."""
    yield document
    for items, letters in BOUNDS:
        short: dict[str, Any] = _shortened(document, items, letters)
        yield {**short, "unmapped": {**short.get("unmapped", {}), "truncated": True}}
    yield {**_shortened({**document, "unmapped": {}}, 1, 60), "unmapped": {"truncated": True}}


def _shortened(value: Any, items: int, letters: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= letters else f"{value[:letters]}…"
    if isinstance(value, list):
        return [_shortened(each, items, letters) for each in value[:items]]
    if isinstance(value, dict):
        return {name: _shortened(each, items, letters) for name, each in value.items()}
    return value
