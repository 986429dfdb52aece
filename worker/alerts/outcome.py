"""The result of an attempt."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Outcome(StrEnum):
    """The outcome of an attempt."""

    DELIVERED = "delivered"
    UNAVAILABLE = "unavailable"
    """The destination did not accept the message, but may accept it later."""
    REFUSED = "refused"
    """The destination did not accept this message, and will not without a correction."""
    GONE = "gone"
    """The destination does not accept messages any more."""
    NOTHING = "nothing"
    """This state has nothing to send to this destination."""


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
    """Return the text with secrets removed."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return text[:500]
