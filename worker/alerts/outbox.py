"""The deliveries that wait and those that are settled, in order: pure state, made durable in the journal topic.

The delivery protocol:

1. An incident's state is read, routed, and one `AlertDelivery` for each destination is written to the journal: parked,
   due now. Then the offset of the incidents topic is committed. From here on a restart loses nothing.
2. A destination takes the deliveries that are due, critical ones first. Deliveries of one incident to one destination
   form a `Line`: one is under way at a time, in order of revision, and later ones wait while it is retried.
3. The outcome is written to the journal (delivered, or parked again with the next time, or failed after the last
   attempt) before the next delivery of the line begins.

The journal is compacted and has a record for each (destination, incident, revision). A record says one thing that
stays true whoever writes it, so that a process which lost its partition and writes late can cause a repeated delivery
and never a lost one. A crash between the receiver's answer and step 3 repeats the delivery with the same id.
"""

from __future__ import annotations

from bisect import insort
from enum import StrEnum
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from schemas.finding import Activity, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

SEPARATOR = "/"


class Standing(StrEnum):
    """The state of a delivery."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
    """No attempts are left, or the receiver said that it is gone."""
    LEFT_OUT = "left-out"
    """Not delivered on purpose; `reason` says why."""


class AlertDelivery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One state of one incident for one destination. Times are milliseconds since the epoch; 0 means none.

    Attributes:
        partition, offset: position of the state on the incidents topic.
        queued_at: when it was read. `next_at`: when the next attempt is due.
        changed_at: when this record came about.
        attempts: the number of attempts. `code`, `error`: the result of the last one.
        unavailable: the destination as a whole failed, not this message.
        replaced: earlier states of the incident that were left out in favour of this one.
        reason: why it is left out, or why it waits longer.
        digest: id of the digest that contained it.
        requested: `alerts replay` requested this delivery again.
    """

    destination: str
    incident_uid: str
    revision: int
    tenant_id: str
    activity: Activity
    severity: Severity
    partition: int
    offset: int
    queued_at: int
    next_at: int = 0
    changed_at: int = 0
    standing: Standing = Standing.WAITING
    attempts: int = 0
    code: int = 0
    error: str = ""
    unavailable: bool = False
    replaced: int = 0
    reason: str = ""
    digest: str = ""
    requested: bool = False

    @property
    def key(self) -> str:
        """Key of its record in the journal."""
        return SEPARATOR.join((self.destination, self.incident_uid, str(self.revision)))

    @property
    def message_id(self) -> str:
        """Id of the message, the same for all attempts, processes and restarts."""
        return f"{self.incident_uid}-{self.revision}"

    @property
    def closes(self) -> bool:
        """Whether it reports that the incident is resolved."""
        return self.activity is Activity.CLOSE

    def change(self, **changes: object) -> AlertDelivery:
        """Return it with some attributes changed."""
        return msgspec.structs.replace(self, **changes)


class LineKey(NamedTuple):
    """Destination and incident."""

    destination: str
    incident_uid: str


class Line:
    """The deliveries of one incident to one destination.

    Attributes:
        waiting: in order of revision. `busy`: the first of them is under way.
        settled, delivered: the highest revision that is settled, and that was delivered.
        triggered: the receiver knows the incident as not resolved.
        changed_at: when the last of them was settled. `records`: revisions that have a record in the journal.
    """

    __slots__ = ("busy", "changed_at", "delivered", "key", "partition", "records", "settled", "triggered", "waiting")

    def __init__(self, key: LineKey, partition: int) -> None:
        self.key = key
        self.partition = partition
        self.waiting: list[AlertDelivery] = []
        self.busy = False
        self.settled = self.delivered = -1
        self.triggered = False
        self.changed_at = 0
        self.records: set[int] = set()

    def record_keys(self) -> list[str]:
        """Return the keys of its records in the journal."""
        return [SEPARATOR.join((*self.key, str(revision))) for revision in sorted(self.records)]

    def knows(self, revision: int) -> bool:
        """Return whether a revision, or a later one, is settled or waits."""
        return revision <= max([self.settled, *(each.revision for each in self.waiting)])

    def settle(self, delivery: AlertDelivery) -> None:
        """Record that a delivery is settled."""
        self.waiting = [each for each in self.waiting if each.revision != delivery.revision]
        self.changed_at = max(self.changed_at, delivery.changed_at)
        self.records.add(delivery.revision)
        if delivery.revision >= self.settled:
            self.settled = delivery.revision
            if delivery.standing is Standing.DELIVERED:
                self.delivered, self.triggered = delivery.revision, not delivery.closes


class Queue:
    """The lines of one destination by when their first delivery is due, critical ones first among those due."""

    def __init__(self) -> None:
        self._numbers = count()
        self._due: list[tuple[bool, int, int, Line]] = []
        self._later: list[tuple[int, int, Line]] = []

    def push(self, line: Line) -> None:
        """Queue a line; an older entry of it is skipped later."""
        heappush(self._later, (line.waiting[0].next_at, next(self._numbers), line))

    def due(self, now: int) -> int:
        """Return the number of due entries, including outdated ones."""
        self._advance(now)
        return len(self._due)

    def next_at(self, now: int) -> int | None:
        """Return when the next line is due; None when there is none."""
        self._advance(now)
        return now if self._due else self._later[0][0] if self._later else None

    def pop(self, now: int) -> Line | None:
        """Remove and return the first line to serve."""
        self._advance(now)
        while self._due:
            *_, line = heappop(self._due)
            if _is_due(line, now):
                return line
        return None

    def drop(self, partition: int) -> None:
        """Remove the lines of a partition."""
        self._due = [each for each in self._due if each[-1].partition != partition]
        self._later = [each for each in self._later if each[-1].partition != partition]
        heapify(self._due)
        heapify(self._later)

    def _advance(self, now: int) -> None:
        while self._later and self._later[0][0] <= now:
            _, number, line = heappop(self._later)
            if _is_due(line, now):
                first = line.waiting[0]
                heappush(self._due, (first.severity < Severity.CRITICAL, first.queued_at, number, line))


def _is_due(line: Line, now: int) -> bool:
    return bool(line.waiting) and not line.busy and line.waiting[0].next_at <= now


class Outbox:
    """The deliveries of the partitions this process has.

    Args:
        max_waiting: states of one incident that wait for one destination, at most.
    """

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._lines: dict[LineKey, Line] = {}
        self._open: dict[str, dict[str, Line]] = {}
        self._by_incident: dict[str, set[str]] = {}
        self._queues: dict[str, Queue] = {}

    def queue(self, destination: str) -> Queue:
        """Return the queue of a destination."""
        return self._queues.setdefault(destination, Queue())

    def line(self, destination: str, incident_uid: str) -> Line | None:
        """Return the line of an incident at a destination, if there is one."""
        return self._lines.get(LineKey(destination, incident_uid))

    def open_lines(self, destination: str) -> list[Line]:
        """Return the lines of a destination that have something waiting."""
        lines = self._open.get(destination, {})
        for uid in [uid for uid, line in lines.items() if not line.waiting]:
            del lines[uid]
        return list(lines.values())

    def destinations(self) -> list[str]:
        """Return the destinations for which something waits."""
        return [name for name in self._open if self.open_lines(name)]

    def destinations_of(self, incident_uid: str) -> set[str]:
        """Return the destinations that got an incident, or for which it waits."""
        known = self._by_incident.get(incident_uid, ())
        lines = {name: self._lines[LineKey(name, incident_uid)] for name in known}
        return {name for name, line in lines.items() if line.triggered or line.waiting}

    def load(self, deliveries: Iterable[AlertDelivery]) -> list[AlertDelivery]:
        """Take in what the journal says about a partition, in any order; return those that do not wait any more.

        A state that waits though a later one was delivered was settled: a process that had lost the partition wrote
        once more that it waits.
        """
        touched: dict[LineKey, Line] = {}
        overtaken = []
        for each in sorted(deliveries, key=lambda delivery: (delivery.standing is Standing.WAITING, delivery.revision)):
            line = self._line(each)
            touched[line.key] = line
            if each.standing is not Standing.WAITING:
                line.settle(each)
            elif each.requested or each.revision > line.delivered:
                insort(line.waiting, each, key=lambda delivery: delivery.revision)
            else:
                reason = f"revision {line.delivered} was delivered"
                overtaken.append(each.change(standing=Standing.LEFT_OUT, reason=reason, next_at=0))
        for line in touched.values():
            self._offer(line)
        return overtaken

    def add(self, delivery: AlertDelivery) -> list[AlertDelivery]:
        """Put a new delivery at the end of its line; return those that are left out for it.

        It is offered to its destination at once: call this when it is durable.
        """
        line = self._line(delivery)
        if line.knows(delivery.revision):
            return []
        if delivery.standing is not Standing.WAITING:
            line.settle(delivery)
            return []
        insort(line.waiting, delivery, key=lambda each: each.revision)
        left_out = self._shorten(line, delivery.changed_at)
        if line.waiting[0] is delivery:
            self._offer(line)
        return left_out

    def request(self, delivery: AlertDelivery) -> None:
        """Put a delivery that failed or was left out back into its line, as an operator requested."""
        line = self._line(delivery)
        if all(each.revision != delivery.revision for each in line.waiting):
            insort(line.waiting, delivery, key=lambda each: each.revision)
            self._offer(line)

    def knows(self, destination: str, incident_uid: str, revision: int) -> bool:
        """Return whether a delivery is settled or waits already."""
        line = self.line(destination, incident_uid)
        return line is not None and line.knows(revision)

    def take(self, destination: str, now: int) -> Line | None:
        """Take the line whose first delivery is to be attempted next; it stays busy until `settle`."""
        line = self.queue(destination).pop(now)
        if line is not None:
            line.busy = True
        return line

    def settle(self, line: Line, outcome: AlertDelivery) -> None:
        """Apply the outcome of the first delivery of a line, after it was written to the journal."""
        line.busy = False
        if outcome.standing is Standing.WAITING:
            line.waiting = [outcome if each.revision == outcome.revision else each for each in line.waiting]
        else:
            line.settle(outcome)
        self._offer(line)

    def release(self, line: Line) -> None:
        """Put a line back unchanged."""
        line.busy = False
        self._offer(line)

    def hurry(self, destination: str, now: int) -> int:
        """Make deliveries due that wait because the destination was unavailable; return their number."""
        hurried = 0
        for line in self.open_lines(destination):
            if not line.busy and line.waiting[0].unavailable and line.waiting[0].next_at > now:
                line.waiting[0] = line.waiting[0].change(next_at=now)
                self._offer(line)
                hurried += 1
        return hurried

    def waiting(self, destination: str) -> tuple[int, int]:
        """Return the number of deliveries that wait for a destination, and the start of the oldest (0: none)."""
        found = [each.queued_at for line in self.open_lines(destination) for each in line.waiting]
        return len(found), min(found, default=0)

    def drop_partition(self, partition: int) -> None:
        """Remove everything of a partition."""
        for key in [key for key, line in self._lines.items() if line.partition == partition]:
            self._forget(key)
        for queue in self._queues.values():
            queue.drop(partition)

    def expire(self, before: int) -> list[Line]:
        """Remove the lines without waiting deliveries that were last changed before a time; return them."""
        old = [line for line in self._lines.values() if not line.waiting and line.changed_at < before]
        for line in old:
            self._forget(line.key)
        return old

    def _forget(self, key: LineKey) -> None:
        del self._lines[key]
        self._open.get(key.destination, {}).pop(key.incident_uid, None)
        names = self._by_incident[key.incident_uid]
        names.discard(key.destination)
        if not names:
            del self._by_incident[key.incident_uid]

    def _line(self, delivery: AlertDelivery) -> Line:
        key = LineKey(delivery.destination, delivery.incident_uid)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(key, delivery.partition)
            self._by_incident.setdefault(key.incident_uid, set()).add(key.destination)
        return line

    def _offer(self, line: Line) -> None:
        """Queue a line, unless its partition was revoked meanwhile."""
        if line.waiting and self._lines.get(line.key) is line:
            self._open.setdefault(line.key.destination, {})[line.key.incident_uid] = line
            if not line.busy:
                self.queue(line.key.destination).push(line)

    def _shorten(self, line: Line, now: int) -> list[AlertDelivery]:
        """Leave out states between the first and the last of a line that is too long."""
        if len(line.waiting) <= self._max_waiting:
            return []
        first, *middle, last = line.waiting
        reason = f"left out in favour of revision {last.revision}"
        left_out = [each.change(standing=Standing.LEFT_OUT, reason=reason, changed_at=now) for each in middle]
        replaced = last.replaced + sum(1 + each.replaced for each in middle)
        line.waiting = [first, last.change(replaced=replaced)]
        return [*left_out, line.waiting[1]]


_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(AlertDelivery).decode


def encode(delivery: AlertDelivery) -> bytes:
    """Return a delivery as a record of the journal."""
    return _encode(delivery)


def decode(value: bytes) -> AlertDelivery:
    """Return a delivery of the journal.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _decode(value)
