"""The times of retries."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

JITTER = 0.1
LONGEST_WAIT_S = 24 * 3_600.0
"""Longest `Retry-After` of a receiver that is followed, seconds."""


def next_attempt(delays_s: Sequence[float], attempts: int, now: int, retry_after_s: float | None, key: str) -> int:
    """Return the time of the next attempt, milliseconds since the epoch; 0 when no attempts are left.

    Args:
        delays_s: seconds after the first, second, … attempt.
        attempts: how many were made.
        now: milliseconds since the epoch.
        retry_after_s: seconds the receiver asked to wait, if it did.
        key: of the delivery; spreads attempts that failed together, the same way each time.
    """
    if attempts > len(delays_s):
        return 0
    delay = delays_s[attempts - 1] * (1 + JITTER * _spread(f"{key}#{attempts}"))
    return now + int(max(delay, retry_after_s or 0) * 1000)


def _spread(key: str) -> float:
    """Return a number from 0 to 1 that depends on the key alone."""
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogateescape"), digest_size=4).digest(), "big") / 0xFFFFFFFF


def retry_after(value: str | None, now: int) -> float | None:
    """Return the seconds that a `Retry-After` header asks for; None when it says nothing usable.

    >>> retry_after("120", 0)
    120.0
    >>> retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 0)
    60.0
    """
    if not value:
        return None
    try:
        wait = float(value) if value.strip().isdecimal() else parsedate_to_datetime(value).timestamp() - now / 1000
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait, 0.0), LONGEST_WAIT_S)
