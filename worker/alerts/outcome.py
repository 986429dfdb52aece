"""What an attempt came to."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Outcome(StrEnum):
    """What an attempt to deliver came to."""

    DELIVERED = "delivered"
    UNAVAILABLE = "unavailable"
    """The destination as a whole did not take it; it may later."""
    REFUSED = "refused"
    """The destination did not take this message; it may when somebody corrected something."""
    GONE = "gone"
    """The destination wants no more messages."""
    NOTHING = "nothing"
    """There is nothing to tell this destination about this state."""


class Result(NamedTuple):
    """Outcome of an attempt.

    Attributes:
        code: protocol's status code, 0 when there is none.
        error: one sentence, without addresses and secrets.
        wait_s: seconds the receiver asked to wait.
    """

    outcome: Outcome
    code: int = 0
    error: str = ""
    wait_s: float | None = None


def scrubbed(text: str, secrets: list[str]) -> str:
    """Return the text without the secrets, should one be in it."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return text[:500]
