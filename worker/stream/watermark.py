"""Up to when everything that was on the input has had its effect, whichever worker it was that processed it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faust.types import TP


class Progress(NamedTuple):
    """How far a group is with a partition: offsets of its first record, after its last, and after the last eaten."""

    begin: int
    end: int
    committed: int


class Watermark:
    """The time before which nothing is still to come.

    The ends of all partitions are noted. When the group, not this worker alone, has committed them, what those records
    brought about on other partitions lies there; when that is committed as well, once for each stage, everything from
    before the ends were noted has had its effect.

    Args:
        stages: topics a record passes through, each making records of the next.

    Attributes:
        time: milliseconds; 0 until something is known.
    """

    def __init__(self, stages: int) -> None:
        self.time = 0
        self._first = 0
        self._stages = self._left = stages
        self._noted = 0
        self._ends: dict[TP, int] = {}

    def behind(self, now: int) -> int:
        """Return how many milliseconds `time` is behind the clock, or for how long nothing has been known."""
        return max(0, now - (self.time or self._first or now))

    def look(self, now: int, progress: Mapping[TP, Progress]) -> None:
        """Take in how far the group is.

        Args:
            now: the time, milliseconds, before anything was asked for.
            progress: all partitions; what is committed was asked for before their ends were.
        """
        if not self._noted:
            self._noted = self._first = now
        elif all(max(at.begin, at.committed) >= self._ends.get(tp, 0) for tp, at in progress.items()):
            self._left -= 1
        else:
            return
        if not self._left:
            self.time, self._noted, self._left = max(self.time, self._noted), now, self._stages
        self._ends = {tp: at.end for tp, at in progress.items()}
