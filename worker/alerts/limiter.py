"""A token bucket: limits the average rate of messages, and the burst after a pause."""

from __future__ import annotations


class Limiter:
    """Allows `rate` messages a second, and `burst` at once. Times are milliseconds."""

    def __init__(self, rate: float, burst: int) -> None:
        self._per_ms = rate / 1000
        self._burst = burst
        self._tokens = float(burst)
        self._at = 0

    def allows_at(self, now: int) -> float:
        """Return the earliest time of the next message, milliseconds."""
        self._refill(now)
        return now if self._tokens >= 1 else now + (1 - self._tokens) / self._per_ms

    def spend(self, now: int) -> None:
        """Record that a message is sent."""
        self._refill(now)
        self._tokens -= 1

    def _refill(self, now: int) -> None:
        if self._at:
            self._tokens = min(self._tokens + max(now - self._at, 0) * self._per_ms, self._burst)
        self._at = max(now, self._at)
