"""Timers of keys: minute buckets over the timer times in the headers of the states.

A state begins with one byte of format version and eight bytes of timer time, big-endian unsigned milliseconds since the
epoch; `NEVER` means no timer. The queue stores no times except the bucket a key is in: moving a timer later (the common
case, sliding expiration) costs nothing, because a key that comes up early is put into a later bucket then.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from worker.sessions.codec import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable


MINUTE = 60_000


def timer_of(state: bytes) -> int:
    """Return the timer time in a state's header, milliseconds.

    >>> timer_of(bytes([1]) + (1500).to_bytes(8, "big") + b"...")
    1500
    """
    return int.from_bytes(state[1:9], "big")


class TimerQueue:
    """Keys by timer time.

    Invariant: a live key with a timer is queued no later than that time, or was returned by `pop_due` and not scheduled
    since. A key that `pop_due` returned and that was neither scheduled nor cancelled comes again with the next
    `pop_due`, so a failure while timers fire loses nothing.

    Args:
        state_of: returns the newest state of a key, None when there is none.
    """

    __slots__ = ("_buckets", "_heap", "_horizon", "_state_of", "_taken")

    def __init__(self, state_of: Callable[[bytes], bytes | None]) -> None:
        self._state_of = state_of
        self._buckets: dict[int, set[bytes]] = {}
        self._heap: list[tuple[int, bytes]] = []
        self._horizon = -1
        self._taken: set[bytes] = set()

    def schedule(self, key: bytes, old: bytes | None, new: bytes) -> None:
        """Schedule the timer of `key`, whose state went from `old` to `new`."""
        taken = self._taken and key in self._taken
        if taken:
            self._taken.discard(key)
        # Headers are big-endian, so they compare like the times in them.
        if old is None or taken or new[1:9] < old[1:9]:
            self._queue(key, timer_of(new))

    def cancel(self, key: bytes) -> None:
        """Cancel the timer of `key`, which was deleted; it is removed from its bucket when the bucket is due."""
        self._taken.discard(key)

    def pop_due(self, now: int, limit: int) -> list[bytes]:
        """Return at most `limit` keys whose timer is due at `now`, earliest first."""
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
        """Empty the buckets up to `minute`: due keys go into the heap, those with a later timer into later buckets."""
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
