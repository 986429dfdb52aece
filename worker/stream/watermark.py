"""Up to when everything that was on the input has had its effect, whichever worker it was that processed it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faust.types import TP

MOST_NOTES = 10


class Progress(NamedTuple):
    """How far a group is with a partition: offsets of its first record, after its last, and after the last eaten."""

    begin: int
    end: int
    committed: int


@dataclass(slots=True)
class _Note:
    """The ends of all partitions that are waited for, for so many stages yet, for all from before `time` to be done."""

    time: int
    stages: int
    ends: Mapping[TP, int]


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
        self._stages = stages
        self._notes: deque[_Note] = deque()

    def behind(self, now: int) -> int:
        """Return how many milliseconds `time` is behind the clock, or for how long nothing has been known."""
        return max(0, now - (self.time or self._first or now))

    def look(self, now: int, progress: Mapping[TP, Progress]) -> None:
        """Take in how far the group is.

        Args:
            now: the time, milliseconds, before anything was asked for.
            progress: all partitions; what is committed was asked for before their ends were.
        """
        self._first = self._first or now
        ends = {tp: at.end for tp, at in progress.items()}
        for note in self._notes:
            if all(max(at.begin, at.committed) >= note.ends.get(tp, 0) for tp, at in progress.items()):
                note.stages, note.ends = note.stages - 1, ends
        while self._notes and not self._notes[0].stages:
            self.time = max(self.time, self._notes.popleft().time)
        if len(self._notes) < MOST_NOTES:
            self._notes.append(_Note(now, self._stages, ends))
