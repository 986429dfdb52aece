"""What a destination is given to send, and what it is to a dispatcher."""

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
        id: of the message, the same over all attempts.
        document: the OCSF document as it stands on the incidents topic.
        now: time of the attempt, milliseconds since the epoch.
    """

    id: str
    incident: Incident
    document: bytes
    message: AlertMessage
    policy: AlertingPolicy
    now: int


class Digest(NamedTuple):
    """Several incidents in one message, because there are more than the destination's rate allows.

    Attributes:
        messages: those that are shown, the most severe first. `total`: how many there are.
        link: to a list of all of them; empty when Grafana's address is not set.
    """

    id: str
    messages: tuple[AlertMessage, ...]
    total: int
    link: str

    @property
    def heading(self) -> str:
        """What it is, in one line."""
        return f"{self.total} incidents at once"

    @property
    def more(self) -> str:
        """What is said of those that are not shown; empty when all are."""
        hidden = self.total - len(self.messages)
        return f"and {hidden} more" if hidden else ""


class Sender(Protocol):
    """A destination."""

    async def send(self, alert: Alert) -> Result:
        """Make one attempt. Takes no longer than the destination's time-out, raises nothing that is expected."""

    async def send_digest(self, digest: Digest) -> Result:
        """Make one attempt at a digest; asked of those kinds alone that people read."""

    async def close(self) -> None:
        """Let go of connections."""
