"""When to look at a key again: a wheel of minute buckets over the wake-up times in the states' headers.

A state begins with one byte of format version and eight bytes of wake-up time, big-endian unsigned milliseconds
since the epoch; `NEVER` means that time alone asks for nothing. The wheel stores no times of its own beyond the
bucket a key lies in: moving a wake-up later (the common case, sliding expiration) costs nothing, because a key
that comes up early is looked at and moved on.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER = (1 << 64) - 1
MINUTE = 60_000


def timer_of(state: bytes) -> int:
    """Return the wake-up time in a state's header, milliseconds.

    >>> timer_of(bytes([1]) + (1500).to_bytes(8, "big") + b"...")
    1500
    """
    return int.from_bytes(state[1:9], "big")


class TimerQueue:
    """Keys by wake-up time.

    Invariant: a key that is alive and has a wake-up time is queued no later than that time, or has been handed
    out by `due` and not been noted since. What `due` handed out and nobody noted or forgot comes again with the
    next `due`, so a fire_timers that fails loses nothing.

    Args:
        state_of: the newest state of a key, None when it is gone.
    """

    __slots__ = ("_buckets", "_heap", "_horizon", "_state_of", "_taken")

    def __init__(self, state_of: Callable[[bytes], bytes | None]) -> None:
        self._state_of = state_of
        self._buckets: dict[int, set[bytes]] = {}
        self._heap: list[tuple[int, bytes]] = []
        self._horizon = -1
        self._taken: set[bytes] = set()

    def schedule(self, key: bytes, old: bytes | None, new: bytes) -> None:
        """Take in that the state of `key` went from `old` to `new`."""
        taken = self._taken and key in self._taken
        if taken:
            self._taken.discard(key)
        # Headers are big-endian, so they compare like the times in them.
        if old is None or taken or new[1:9] < old[1:9]:
            self._queue(key, timer_of(new))

    def cancel(self, key: bytes) -> None:
        """Take in that `key` is gone; its place in a bucket is cleared when the bucket comes up."""
        self._taken.discard(key)

    def pop_due(self, now: int, limit: int) -> list[bytes]:
        """Hand out at most `limit` keys whose wake-up time is not after `now`, earliest first."""
        self._hand_back()
        self._advance(now // MINUTE)
        due: list[bytes] = []
        while len(due) < limit and self._heap and self._heap[0][0] <= now:
            _, key = heapq.heappop(self._heap)
            if self._is_due(key, now):
                due.append(key)
        self._taken.update(due)
        return due

    def _is_due(self, key: bytes, now: int) -> bool:
        if key in self._taken or (state := self._state_of(key)) is None:
            return False
        if (wake := timer_of(state)) > now:
            self._queue(key, wake)
            return False
        self._taken.add(key)
        return True

    def _hand_back(self) -> None:
        taken, self._taken = self._taken, set()
        for key in taken:
            self._requeue(key)

    def _advance(self, minute: int) -> None:
        """Spread the buckets up to `minute`: what is due soon into the heap, what was put off onwards."""
        if minute <= self._horizon:
            return
        self._horizon = minute
        for ripe in [bucket for bucket in self._buckets if bucket <= minute]:
            for key in self._buckets.pop(ripe):
                self._requeue(key)

    def _requeue(self, key: bytes) -> None:
        if (state := self._state_of(key)) is not None:
            self._queue(key, timer_of(state))

    def _queue(self, key: bytes, wake: int) -> None:
        if wake == NEVER:
            return
        minute = wake // MINUTE
        if minute <= self._horizon:
            heapq.heappush(self._heap, (wake, key))
        elif (bucket := self._buckets.get(minute)) is None:
            self._buckets[minute] = {key}
        else:
            bucket.add(key)
