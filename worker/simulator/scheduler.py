"""The scheduler between the simulated systems and Kafka: records leave it in the order of their arrival.

A heap of (time, number, task) drives everything. A task is a generator that acts when its time has come and yields
the next one, or a record that is still under way.
"""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace
from math import exp, log
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from orjson import dumps

from worker.simulator.config import MINUTE, SECOND, SimulatorConfig
from worker.simulator.session import SimulatedSession, cloudevent, debezium, mangled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from worker.simulator.labels import Label
    from worker.simulator.people import SimulatedUser

LATEST_MS: Final = 110 * MINUTE
"""No benign record arrives later than this: inside the default allowed lateness of two hours."""


class SimEvent(NamedTuple):
    """One record in arrival order.

    Attributes:
        arrival_ms: the record's own timestamp.
        key: tenant and user, `%` and `/` in each escaped, with `/` between.
        value: JSON.
        label: the attack that made it; None for everything benign.
        malformed: broken on purpose; belongs into the dead letters.
    """

    arrival_ms: int
    key: bytes
    value: bytes
    label: Label | None = None
    malformed: bool = False


class Scheduler:
    """Runs tasks in time and carries records: on time, or late, doubled, broken, enveloped, each by its share."""

    def __init__(self, config: SimulatorConfig, rng: Random) -> None:
        self.config = config
        self.rng = rng
        self._random = rng.random
        self._heap: list[tuple[float, int, Any]] = []
        self._number = 0
        self._now = 0.0
        self._out: list[SimEvent] = []
        self._odds = _odds(config)
        self._odd = self._odds[-1]

    def push(self, at: float, task: Any) -> None:
        """Let a task act, or a record arrive, at a time; at once if that is past."""
        self._number += 1
        heappush(self._heap, (max(at, self._now), self._number, task))

    def run(self) -> Iterator[SimEvent]:
        """Yield the records until no task is left.

        The top of the heap stays the running task while it acts: what it pushes is later, or has a higher number.
        """
        heap, out = self._heap, self._out
        while heap:
            now, _, task = heap[0]
            self._now = now
            if type(task) is SimEvent:
                heappop(heap)
                yield _arrived(task)
                continue
            wake = next(task, None)
            if wake is None:
                heappop(heap)
            else:
                self._number += 1
                heapreplace(heap, (max(wake, now), self._number, task))
            if out:
                yield from out
                out.clear()

    def emit(self, session: SimulatedSession, t: int, kind: str) -> None:
        """Publish a benign snapshot, arriving at `t` unless chance has it otherwise."""
        draw = self._random()
        if draw >= self._odd:
            self._out.append(SimEvent(t, session.user.key, dumps(session.doc)))
        else:
            self._emit_oddly(session, t, kind, draw)

    def _emit_oddly(self, session: SimulatedSession, t: int, kind: str, draw: float) -> None:
        enveloped, broken, doubled, _ = self._odds
        if draw < enveloped:
            self._at_once(session, t, self._envelope(session, t, kind))
        elif draw < broken:
            self._broken(session, t)
        elif draw < doubled:
            self._doubled(session, t)
        else:
            self._late(session, t)

    def _at_once(self, session: SimulatedSession, t: int, value: bytes) -> None:
        self._out.append(SimEvent(t, session.user.key, value))

    def _broken(self, session: SimulatedSession, t: int) -> None:
        """A producer's broken attempt, then the proper record."""
        value = dumps(session.doc)
        broken = mangled(value, self._random())
        self._out.append(SimEvent(t, session.user.key, broken, None, malformed=True))
        self._at_once(session, t, value)

    def _doubled(self, session: SimulatedSession, t: int) -> None:
        value = dumps(session.doc)
        session.note("duplicate")
        self._at_once(session, t, value)
        self.send(session.user, value, t + 20 + int(self._random() ** 3 * 5 * MINUTE))

    def _late(self, session: SimulatedSession, t: int) -> None:
        """Seconds to hours late, every order of magnitude as likely."""
        session.note("late")
        delay = SECOND + int(exp(self._random() * log(LATEST_MS - SECOND)))
        self.send(session.user, dumps(session.doc), t + delay)

    def send(self, user: SimulatedUser, value: bytes, arrival: int, label: Label | None = None) -> None:
        """Let a record arrive at a time to come."""
        if label is not None:
            label.pending += 1
        self.push(arrival, SimEvent(arrival, user.key, value, label))

    def render(self, session: SimulatedSession, t: int, kind: str) -> bytes:
        """The session's newest snapshot in one of the shapes, by their shares."""
        if self._random() >= self._odds[0]:
            return dumps(session.doc)
        return self._envelope(session, t, kind)

    def _envelope(self, session: SimulatedSession, t: int, kind: str) -> bytes:
        if self._random() * self._odds[0] < self.config.cloudevents_share:
            return cloudevent(session.doc, kind, t, self._number)
        return debezium(session.doc, kind, t, wrapped=self._random() < 0.5)


def _arrived(event: SimEvent) -> SimEvent:
    if event.label is not None:
        event.label.pending -= 1
    return event


def _odds(config: SimulatorConfig) -> tuple[float, float, float, float]:
    """Cumulated shares: enveloped, then broken, then doubled, then late."""
    enveloped = config.cloudevents_share + config.debezium_share
    broken = enveloped + config.malformed_share
    doubled = broken + config.duplicate_share
    return enveloped, broken, doubled, doubled + config.late_share
