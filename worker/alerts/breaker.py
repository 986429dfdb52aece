"""A circuit breaker: after failures, a destination gets no messages for a while, then a single one as a probe."""

from __future__ import annotations

from math import inf


class Breaker:
    """Closed while attempts succeed; open after failures in a row; then one probe at a time.

    Args:
        failures: consecutive failures after which it opens.
        first_wait, longest_wait: milliseconds that it stays open; doubled with each failed probe.
    """

    def __init__(self, failures: int, first_wait: int, longest_wait: int) -> None:
        self._threshold = failures
        self._first, self._longest = first_wait, longest_wait
        self._failures = 0
        self._wait = first_wait
        self._open_until: float = 0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open, or probing."""
        return self._failures >= self._threshold

    def allows_at(self) -> float:
        """Return the earliest time of the next attempt, milliseconds; infinity while a probe is in progress."""
        if not self.is_open:
            return self._open_until
        return inf if self._probing else self._open_until

    def begin(self) -> None:
        """Record the start of an attempt."""
        self._probing = self.is_open

    def succeed(self) -> bool:
        """Record a success; return whether it closed the breaker."""
        was_open = self.is_open
        self._failures, self._wait, self._probing = 0, self._first, False
        self._open_until = 0
        return was_open

    def fail(self, now: int) -> bool:
        """Record a failure of the destination as a whole; return whether it opened the breaker."""
        was_open, was_probe = self.is_open, self._probing
        self._failures, self._probing = self._failures + 1, False
        if was_probe:
            self._wait = min(self._wait * 2, self._longest)
        if self.is_open and (was_probe or not was_open):
            self._open_until = now + self._wait
        return self.is_open and not was_open

    def abandon(self) -> None:
        """Record the end of an attempt that says nothing about the destination."""
        self._probing = False

    def pause(self, until: float) -> None:
        """Start no attempt before a time, milliseconds, as the receiver requested."""
        self._open_until = max(self._open_until, until)
