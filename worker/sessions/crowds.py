"""Who appears on one network of a tenant: users to whom it is new, and users who come back to it.

The state is a function of the set of arrivals. Time is cut into cells of five minutes and of an hour by the epoch, and
what is found of an hour depends on the arrivals in it and shortly after it alone; of the users of a cell those with the
smallest hashes are kept. So neither the order of arrival has a say nor how far the input's partitions are apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.sessions.announcements import Arrival
from worker.sessions.limits import DAY, HOUR, MINUTE
from worker.sessions.tenant_wide import REMEMBERED, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.sessions.announcements import SessionStart

CELL = 5 * MINUTE
CELL_USERS = 16
"""Most users remembered of a cell to whom the network is new."""
REGULARS = 128
"""Most users remembered who came to the network, whether they came back or not."""
REGULAR_AFTER, REGULAR_FOR = DAY, 30 * DAY
"""A user who came back to a network after a day or more is a regular of it, until a month after the last arrival.

Once is not enough: the victims of a spray would make its network shared egress for the next one.
"""
_DAYS = 3
"""Of a user's first days so many are kept: the first of the third is a day after the first of the first."""
_BITS = 64


class Crowd(msgspec.Struct, array_like=True):
    """What is kept of one network.

    Attributes:
        new: number of a cell since the epoch -> user to whom the network is new -> time of the first arrival in it.
        known: number of a cell -> the other users of it, a bit for each hash.
        visits: user (a hash) -> number of one of the first days -> time of the first arrival on it.
        last: user (a hash) -> time of the last arrival.
    """

    new: dict[int, dict[str, int]] = msgspec.field(default_factory=dict)
    known: dict[int, int] = msgspec.field(default_factory=dict)
    visits: dict[int, dict[int, int]] = msgspec.field(default_factory=dict)
    last: dict[int, int] = msgspec.field(default_factory=dict)


def add(crowd: Crowd, start: SessionStart, newest: int) -> None:
    """Add an arrival; one that was announced with another time before takes its place."""
    _forget(crowd, newest)
    _visit(crowd, start)
    if start.replaces:
        _take_back(crowd, start)
    if not start.is_learned or start.time < newest - REMEMBERED:
        return
    cell = start.time // CELL
    if not start.is_new:
        crowd.known[cell] = crowd.known.get(cell, 0) | bit_of(start.user_id)
        return
    users = {**crowd.new.get(cell, {})}
    users[start.user_id] = min(start.time, users.get(start.user_id, start.time))
    crowd.new[cell] = {user: users[user] for user in sorted(users, key=lambda each: (name_of(each), each))[:CELL_USERS]}


def arrivals(crowd: Crowd, since: int, until: int) -> list[Arrival]:
    """Return the arrivals between two times of users to whom the network is new, in order of time."""
    cells = range(since // CELL, -(-until // CELL))
    found = (Arrival(at, user) for cell in cells for user, at in crowd.new.get(cell, {}).items())
    return sorted(each for each in found if since <= each.time < until)


def regulars(crowd: Crowd, at: int) -> int:
    """Count the users who had come back to the network after a day or more, as of a time."""
    return sum(at - crowd.last[user] < REGULAR_FOR and _is_back(days, at) for user, days in crowd.visits.items())


def _is_back(days: Mapping[int, int], at: int) -> bool:
    since = min(days.values()) + REGULAR_AFTER
    return any(since <= back <= at for back in days.values())


def earlier(crowd: Crowd, at: int) -> int:
    """Count the users whose first arrival was before a time."""
    return sum(min(days.values()) < at for days in crowd.visits.values())


def bit_of(user_id: str) -> int:
    """Return the bit of a user in `Crowd.known`."""
    return 1 << name_of(user_id) % _BITS


def hours_of(start: SessionStart) -> Iterator[int]:
    """Yield the hours, by number, whose findings an arrival may change: its own and the one before."""
    for time in {start.time, start.replaces or start.time}:
        yield from (time // HOUR - 1, time // HOUR)


def _visit(crowd: Crowd, start: SessionStart) -> None:
    name, day = name_of(start.user_id), start.time // DAY
    days = {**crowd.visits.get(name, {})}
    days[day] = min(start.time, days.get(day, start.time))
    crowd.visits[name] = {each: days[each] for each in sorted(days)[:_DAYS]}
    crowd.last[name] = max(start.time, crowd.last.get(name, 0))
    if len(crowd.visits) > REGULARS:
        furthest = max(crowd.visits)
        del crowd.visits[furthest], crowd.last[furthest]


def _take_back(crowd: Crowd, start: SessionStart) -> None:
    cell = start.replaces // CELL
    users = crowd.new.get(cell, {})
    users.pop(start.user_id, None)
    if not users:
        crowd.new.pop(cell, None)


def _forget(crowd: Crowd, newest: int) -> None:
    """Let go of cells no announcement can come close to, and of users who have stayed away."""
    horizon = (newest - REMEMBERED) // CELL
    if any(cell < horizon for cells in (crowd.new, crowd.known) for cell in cells):
        crowd.new = {cell: users for cell, users in crowd.new.items() if cell >= horizon}
        crowd.known = {cell: bits for cell, bits in crowd.known.items() if cell >= horizon}
    gone = [user for user, last in crowd.last.items() if newest - last >= REGULAR_FOR + REMEMBERED]
    for user in gone:
        del crowd.visits[user], crowd.last[user]
