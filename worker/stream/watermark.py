"""The group's watermark: the time up to which its workers have processed all input."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faust.types import TP

MAX_NOTES = 10


class Progress(NamedTuple):
    """A group's progress on a partition: offset of the first record, after the last, and after the last committed."""

    begin: int
    end: int
    committed: int


@dataclass(slots=True)
class _Note:
    """End offsets that must be committed, for `stages` more stages, until all input from before `time` is processed."""

    time: int
    stages: int
    ends: Mapping[TP, int]


class Watermark:
    """The time before which all input is processed.

    The end offsets of all partitions are recorded together with the time. When the group has committed them, the
    records that they caused on other topics are there too. When those are committed as well, once for each stage, all
    input from before that time is processed.

    Args:
        stages: the number of topics a record passes through.

    Attributes:
        time: milliseconds; 0 while unknown.
    """

    def __init__(self, stages: int) -> None:
        self.time = 0
        self._first = 0
        self._stages = stages
        self._notes: deque[_Note] = deque()

    def behind(self, now: int) -> int:
        """Return how many milliseconds `time` is behind the clock, or for how long it has been unknown."""
        return max(0, now - (self.time or self._first or now))

    def look(self, now: int, progress: Mapping[TP, Progress]) -> None:
        """Update the watermark with the group's progress.

        Args:
            now: the time before the brokers were asked, milliseconds.
            progress: of all partitions; committed offsets were read before the ends.
        """
        self._first = self._first or now
        ends = {tp: at.end for tp, at in progress.items()}
        for note in self._notes:
            if all(max(at.begin, at.committed) >= note.ends.get(tp, 0) for tp, at in progress.items()):
                note.stages, note.ends = note.stages - 1, ends
        while self._notes and not self._notes[0].stages:
            self.time = max(self.time, self._notes.popleft().time)
        if len(self._notes) < MAX_NOTES:
            self._notes.append(_Note(now, self._stages, ends))
