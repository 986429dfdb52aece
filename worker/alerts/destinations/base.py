"""Common parts of destinations that are reached over HTTP."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import orjson

from worker.alerts.http import HttpClient, Request
from worker.alerts.outcome import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from worker.alerts.alert import Alert, Digest
    from worker.alerts.config import HttpDestination

JSON = {"Content-Type": "application/json"}
NOTHING = Result(Outcome.NOTHING)


def as_json(value: Any) -> bytes:
    """Return JSON; text that is not valid Unicode is repaired."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return orjson.dumps(_valid(value))


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_valid(key): _valid(each) for key, each in value.items()}
    return [_valid(each) for each in value] if isinstance(value, list | tuple) else value


def json_request(url: str, value: Any, headers: Mapping[str, str] | None = None) -> Request:
    """Return a request that posts JSON."""
    return Request(url, as_json(value), {**JSON, **(headers or {})})


class HttpSender(ABC):
    """Base class of destinations that get one or several HTTP requests for each alert.

    Args:
        config: the destination's settings.
        clock: milliseconds since the epoch.
    """

    accept: frozenset[int] = frozenset()
    """Status codes besides 2xx that mean success."""

    def __init__(self, config: HttpDestination, clock: Callable[[], int]) -> None:
        self._client = HttpClient(config, clock)

    @abstractmethod
    def requests(self, alert: Alert) -> Sequence[Request]:
        """Return the requests for an alert, in order; an empty sequence when there is nothing to send."""

    def digest_requests(self, digest: Digest) -> Sequence[Request]:
        """Return the requests for a digest."""
        del digest
        return ()

    async def send(self, alert: Alert) -> Result:
        """Send the requests one after the other; stop at the first that the receiver does not accept."""
        return await self._send(self.requests(alert))

    async def send_digest(self, digest: Digest) -> Result:
        """Send a digest."""
        return await self._send(self.digest_requests(digest))

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    async def _send(self, requests: Sequence[Request]) -> Result:
        result = NOTHING
        for request in requests:
            result = await self._client.send(request, self.accept)
            if result.outcome is not Outcome.DELIVERED:
                break
        return result
