"""Incoming webhooks of chats: each message is one JSON document in the layout of the chat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from worker.alerts.destinations import slack, teams
from worker.alerts.destinations.base import HttpSender, json_request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.alerts.alert import Alert, Digest
    from worker.alerts.config import Slack, Teams
    from worker.alerts.http import Request
    from worker.alerts.message import AlertMessage


class ChatLayout(NamedTuple):
    """Functions that return the JSON of a message, with a custom template if there is one, and of a digest."""

    payload: Callable[[AlertMessage, str | None], dict[str, Any]]
    digest: Callable[[Digest], dict[str, Any]]


LAYOUTS = {
    "slack": ChatLayout(slack.payload, slack.digest_payload),
    "teams": ChatLayout(teams.payload, teams.digest_payload),
}
"""Layouts by kind of destination."""


class ChatSender(HttpSender):
    """Posts messages to a channel."""

    def __init__(self, config: Slack | Teams, clock: Callable[[], int], template: str | None) -> None:
        super().__init__(config, clock)
        self._url = config.url.get_secret_value()
        self._layout = LAYOUTS[config.kind]
        self._template = template

    def requests(self, alert: Alert) -> Sequence[Request]:
        """Return the message."""
        return [json_request(self._url, self._layout.payload(alert.message, self._template))]

    def digest_requests(self, digest: Digest) -> Sequence[Request]:
        """Return the digest."""
        return [json_request(self._url, self._layout.digest(digest))]
