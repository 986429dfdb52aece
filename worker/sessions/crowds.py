"""Users who appear on one network of a tenant: users to whom it is new, and users who come back to it.

The state is a function of the set of arrivals. Time is divided into cells of five minutes and of one hour, aligned to
the epoch. The findings of an hour depend only on the arrivals in that hour and shortly after it. Of each cell the users
with the smallest hashes are kept. So the result depends neither on the order of arrival nor on how far the partitions
of the input are apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.sessions.announcements import Arrival
from worker.sessions.limits import DAY, HOUR, MINUTE
from worker.sessions.tenant_wide import REMEMBERED, name_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.sessions.announcements import SessionStart

CELL = 5 * MINUTE
CELL_USERS = 16
"""Maximum number of users kept per cell to whom the network is new."""
REGULARS = 128
"""Maximum number of users kept who came to the network, whether or not they came back: the earliest ones."""
REGULAR_AFTER, REGULAR_FOR = DAY, 30 * DAY
"""A user who comes back to a network after a day or more is a regular of it until 30 days after their last arrival.

One arrival is not enough: the victims of one password spray would make its network shared egress for the next spray.
"""
RATE_HASHES, HASHES = 16, 1 << 56
"""Number of user hashes kept per hour, and number of possible hashes."""
USUAL_HOURS = 7 * DAY // HOUR
"""Number of hours before an hour that its usual number of users is computed from: one week."""
_DAYS = 3
"""Days kept of each user, the first ones: an arrival on the third is at least 24 hours after any on the first."""
_BITS = 64


class Crowd(msgspec.Struct, array_like=True):
    """State of one network.

    Attributes:
        new: number of a cell since the epoch -> user to whom the network is new -> time of their first arrival in it.
        known: number of a cell since the epoch -> its other users, as a bit set of their hashes.
        visits: hash of a user -> number of the day, for their first days -> time of the first arrival on that day.
        last: hash of a user -> time of their last arrival.
        rates: number of an hour since the epoch -> the smallest hashes of the users who signed in.
    """

    new: dict[int, dict[str, int]] = msgspec.field(default_factory=dict)
    known: dict[int, int] = msgspec.field(default_factory=dict)
    visits: dict[int, dict[int, int]] = msgspec.field(default_factory=dict)
    last: dict[int, int] = msgspec.field(default_factory=dict)
    rates: dict[int, list[int]] = msgspec.field(default_factory=dict)


def add(crowd: Crowd, start: SessionStart, newest: int) -> None:
    """Add an arrival. If it was announced with another time before, it replaces that announcement."""
    _forget(crowd, newest)
    _visit(crowd, start)
    _rate(crowd, start)
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
    """Return the arrivals from `since` to before `until` of users to whom the network is new, in order of time."""
    cells = range(since // CELL, -(-until // CELL))
    found = (Arrival(at, user) for cell in cells for user, at in crowd.new.get(cell, {}).items())
    return sorted(each for each in found if since <= each.time < until)


def users_by_hour(crowd: Crowd, since: int, until: int) -> dict[int, float]:
    """Return the estimated number of users who signed in, by number of the hour, from `since` to before `until`."""
    return {hour: estimate(kept) for hour, kept in crowd.rates.items() if since <= hour < until}


def estimate(kept: Sequence[int]) -> float:
    """Estimate the number of users from the smallest of their hashes: exact below `RATE_HASHES`, else within 27%.

    The estimate is k - 1 divided by the k-th smallest hash as a fraction of all possible hashes (Bar-Yossef et al.
    2002, doi:10.1007/3-540-45726-7_1).
    """
    return float(len(kept)) if len(kept) < RATE_HASHES else (RATE_HASHES - 1) * HASHES / kept[-1]


def surge_hours(crowd: Crowd, start: SessionStart, newest: int, least: int) -> list[int]:
    """Return the hours, by number, for which an arrival may create or remove a surge.

    These are the arrival's own hour, and the hours of the week after it with at least `least` users.
    """
    first = start.time // HOUR
    if start.time < newest - REMEMBERED // 2:
        return []
    later = (
        hour for hour, kept in crowd.rates.items() if first < hour <= first + USUAL_HOURS and estimate(kept) >= least
    )
    return [first, *later]


def regulars(crowd: Crowd, at: int) -> int:
    """Count the users who, as of `at`, had come back to the network after a day or more."""
    return sum(at - crowd.last[user] < REGULAR_FOR and _is_back(days, at) for user, days in crowd.visits.items())


def _is_back(days: Mapping[int, int], at: int) -> bool:
    since = min(days.values()) + REGULAR_AFTER
    return any(since <= back <= at for back in days.values())


def earlier(crowd: Crowd, at: int) -> int:
    """Count the users whose first arrival was before `at`."""
    return sum(min(days.values()) < at for days in crowd.visits.values())


def bit_of(user_id: str) -> int:
    """Return the bit of a user in the bit sets of `Crowd.known`."""
    return 1 << name_of(user_id) % _BITS


def hours_of(crowd: Crowd, start: SessionStart) -> set[int]:
    """Return the hours, by number, whose findings an arrival may change.

    These are its own hour and the one before. If it is the user's first arrival of the day, also all later hours with
    arrivals, because the visit counts for them.
    """
    hours = {each // HOUR - back for each in (start.time, start.replaces or start.time) for back in (0, 1)}
    if start.time < crowd.visits.get(name_of(start.user_id), {}).get(start.time // DAY, start.time + 1):
        hours.update(cell * CELL // HOUR for cell in crowd.new if cell * CELL > start.time)
    return hours


def _visit(crowd: Crowd, start: SessionStart) -> None:
    name, day = name_of(start.user_id), start.time // DAY
    days = {**crowd.visits.get(name, {})}
    days[day] = min(start.time, days.get(day, start.time))
    crowd.visits[name] = {each: days[each] for each in sorted(days)[:_DAYS]}
    crowd.last[name] = max(start.time, crowd.last.get(name, 0))
    if len(crowd.visits) > REGULARS:
        # The earliest users are kept, so that `earlier` is exact for every time, up to this number of users.
        latest = max(crowd.visits, key=lambda each: (min(crowd.visits[each].values()), each))
        del crowd.visits[latest], crowd.last[latest]


def _rate(crowd: Crowd, start: SessionStart) -> None:
    hour = start.time // HOUR
    crowd.rates[hour] = sorted({*crowd.rates.get(hour, ()), name_of(start.user_id)})[:RATE_HASHES]


def _take_back(crowd: Crowd, start: SessionStart) -> None:
    cell = start.replaces // CELL
    users = crowd.new.get(cell, {})
    users.pop(start.user_id, None)
    if not users:
        crowd.new.pop(cell, None)


def _forget(crowd: Crowd, newest: int) -> None:
    """Drop cells that no further announcement can affect, and users who have not come back."""
    horizon = (newest - REMEMBERED) // CELL
    if any(cell < horizon for cells in (crowd.new, crowd.known) for cell in cells):
        crowd.new = {cell: users for cell, users in crowd.new.items() if cell >= horizon}
        crowd.known = {cell: bits for cell, bits in crowd.known.items() if cell >= horizon}
    if any(hour < horizon * CELL // HOUR for hour in crowd.rates):
        crowd.rates = {hour: kept for hour, kept in crowd.rates.items() if hour >= horizon * CELL // HOUR}
    gone = [user for user, last in crowd.last.items() if newest - last >= REGULAR_FOR + REMEMBERED]
    for user in gone:
        del crowd.visits[user], crowd.last[user]
