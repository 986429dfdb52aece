"""The messages that a destination sends, and the interface of a destination."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from schemas.alerting import AlertingPolicy
    from schemas.incident import Incident
    from worker.alerts.message import AlertMessage
    from worker.alerts.outcome import Result


class Alert(NamedTuple):
    """One state of one incident for one destination.

    Attributes:
        id: id of the message, the same for all attempts.
        document: the OCSF document as on the incidents topic.
        now: time of the attempt, milliseconds since the epoch.
    """

    id: str
    incident: Incident
    document: bytes
    message: AlertMessage
    policy: AlertingPolicy
    now: int


class Digest(NamedTuple):
    """Several incidents in one message, because the destination's rate does not allow one message each.

    Attributes:
        messages: the listed incidents, the most severe first. `total`: the number of all.
        link: a link to the list of all of them; empty when Grafana's address is not set.
    """

    id: str
    messages: tuple[AlertMessage, ...]
    total: int
    link: str

    @property
    def heading(self) -> str:
        """The digest in one line."""
        return f"{self.total} incidents at once"

    @property
    def more(self) -> str:
        """The line about incidents that are not listed; empty when all are."""
        hidden = self.total - len(self.messages)
        return f"and {hidden} more" if hidden else ""


class Sender(Protocol):
    """A destination."""

    async def send(self, alert: Alert) -> Result:
        """Make one attempt within the destination's time-out; expected errors are returned, not raised."""

    async def send_digest(self, digest: Digest) -> Result:
        """Make one attempt at a digest; called only for kinds that people read."""

    async def close(self) -> None:
        """Close connections."""
