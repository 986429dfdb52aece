"""How many incidents of users a tenant was alerted to of late, in one partition: what an alert budget limits.

What wakes a person counts: the first alert of a user. Alerts of the same user within the quiet time of each other
belong to one incident and cost nothing more. An incident with a critical finding or a hard invariant costs nothing.

What is left of a day's budget may be used later: within a week by findings of medium severity, within two by those of
high severity. A small tenant has few alerts, and a day with several would otherwise hold back what quiet days had room
for; the rest of the second week is for findings that are surer.

Of the budget of these days a user may use a tenth, and at least two incidents, so that one noisy user, or an intruder
who makes noise on purpose, does not hold back the alerts of the others.

All times are event time. What is applied twice after a crash counts once, because an alert within an incident costs
nothing. Which alert comes too late for the budget depends on the order of arrival: the one thing that does.
"""

from __future__ import annotations

from hashlib import blake2b
from math import log
from typing import NamedTuple

import msgspec

from worker.sessions.codec import BUDGET, StateFormat
from worker.sessions.limits import DAY, MINUTE

WEEK = 7
"""Days whose budgets are one: what is left of the earlier ones may be used on the last."""
TWO_WEEKS = 14
"""The same for findings of high severity."""
DAYS = TWO_WEEKS + 1
"""Days remembered. Alerts older than these are held against no budget."""
MOST = 5_000
"""Most incidents of a day and partition, whatever the budget allows: all of them are kept in the state."""
SHARE = 10
"""One part in so many of the budget is the most that one user may use."""
LEAST = 2
"""Incidents that one user may have whatever its share, when there is room."""
BITS = 8_192
"""Size of the set of users, in bits: 1 KiB. The estimate is within 3% for up to 20,000 users a day and partition."""


class AlertRequest(NamedTuple):
    """A finding that would alert, as a budget sees it.

    Attributes:
        uid: of the finding.
        user: key of the user it is about; empty when it is about no one user, and then no share bounds it.
        time: of its first occurrence, milliseconds.
        is_high: it is of high severity.
        is_exempt: it alerts whatever the budget, and its incident costs nothing.
    """

    uid: str
    user: bytes
    time: int
    is_high: bool = False
    is_exempt: bool = False


class AlertedIncident(msgspec.Struct, array_like=True):
    """Alerts of one user close to each other: the times of the first and the last, and whether it costs nothing."""

    first: int
    last: int
    is_free: bool


class Day(msgspec.Struct, array_like=True):
    """One day, of event time.

    Attributes:
        users: a bit for every hash of a user who was active.
        incidents: hash of the user -> incidents that began on this day.
        others: findings about no one user that alerted, by uid.
        size: number of incidents and of others. `spent`: how many of them count.
    """

    users: bytearray = msgspec.field(default_factory=lambda: bytearray(BITS // 8))
    incidents: dict[int, list[AlertedIncident]] = msgspec.field(default_factory=dict)
    others: dict[str, None] = msgspec.field(default_factory=dict)
    size: int = 0
    spent: int = 0

    def spent_by(self, holder: int) -> int:
        """Return how many incidents of one user count."""
        return sum(not each.is_free for each in self.incidents.get(holder, ()))


class Budget(msgspec.Struct, array_like=True):
    """The last days, by number since the epoch."""

    days: dict[int, Day] = msgspec.field(default_factory=dict)

    def see(self, user: bytes, time: int) -> bool:
        """Record that a user was active; return whether the state changed."""
        day = self._day(time)
        if day is None:
            return False
        byte, bit = divmod(_hash(user) % BITS, 8)
        if day.users[byte] >> bit & 1:
            return False
        day.users[byte] |= 1 << bit
        return True

    def admit(self, alert: AlertRequest, per_thousand: float, quiet: int = 240 * MINUTE) -> bool:
        """Return whether a finding may alert: it is exempt, belongs to an incident that alerted, or there is room.

        Args:
            alert: the finding.
            per_thousand: incidents a day per 1,000 users; of users there are as many as on that day or the day before,
                whichever had more. What the days before have left is added. One a day is always allowed, and never
                more than `MOST`.
            quiet: alerts of one user this close to each other are one incident, milliseconds.
        """
        day = self._day(alert.time)
        if day is None:
            return True
        if alert.uid in day.others or self._join(alert, quiet):
            return True
        if not alert.is_exempt and not self._has_room(day, alert, per_thousand):
            return False
        _open(day, alert)
        return True

    def _join(self, alert: AlertRequest, quiet: int) -> bool:
        """Extend the user's incident that an alert belongs to; return whether there is one."""
        holder = _hash(alert.user)
        for day in self.days.values() if alert.user else ():
            for each in day.incidents.get(holder, ()):
                if each.first - quiet <= alert.time <= each.last + quiet:
                    # An exempt alert gives back what the incident cost.
                    day.spent -= alert.is_exempt and not each.is_free
                    each.is_free = each.is_free or alert.is_exempt
                    each.first, each.last = min(each.first, alert.time), max(each.last, alert.time)
                    return True
        return False

    def _has_room(self, day: Day, alert: AlertRequest, per_thousand: float) -> bool:
        today = alert.time // DAY
        before = self.days.get(today - 1)
        users = max(count(day), count(before) if before else 0.0)
        span = TWO_WEEKS if alert.is_high else WEEK
        recent = [each for number, each in self.days.items() if today - span < number < today]
        allowed = int(per_thousand * (users + sum(map(count, recent))) / 1000)
        if alert.user:
            holder = _hash(alert.user)
            own = sum(each.spent_by(holder) for each in (day, *recent))
            if own >= max(LEAST, allowed // SHARE):
                return False
        left = max(allowed - sum(each.spent for each in recent), int(per_thousand * users / 1000), 1)
        return day.size < MOST and day.spent < left

    def _day(self, time: int) -> Day | None:
        number = time // DAY
        newest = max(self.days, default=number)
        if number <= newest - DAYS:
            return None
        if number > newest:
            self.days = {each: day for each, day in self.days.items() if each > number - DAYS}
        return self.days.setdefault(number, Day())


def _open(day: Day, alert: AlertRequest) -> None:
    """Begin an incident; an exempt one is not kept when the day is full."""
    if day.size >= MOST:
        return
    if alert.user:
        begun = AlertedIncident(alert.time, alert.time, alert.is_exempt)
        day.incidents.setdefault(_hash(alert.user), []).append(begun)
    else:
        day.others[alert.uid] = None
    day.size += 1
    day.spent += not alert.is_exempt


def _hash(user: bytes) -> int:
    return int.from_bytes(blake2b(user, digest_size=4).digest(), "big")


def count(day: Day) -> float:
    """Estimate a day's users by linear counting (Whang et al. 1990, doi:10.1145/78922.78925)."""
    empty = BITS - int.from_bytes(day.users, "big").bit_count()
    return BITS * log(BITS / max(empty, 1))


_FORMAT = StateFormat(BUDGET, Budget)
is_budget, decode_budget = _FORMAT.matches, _FORMAT.decode


def encode_budget(budget: Budget) -> bytes:
    """Return an encoded budget; its timer deletes it when none of its days counts any more."""
    return _FORMAT.encode(budget, (max(budget.days, default=0) + DAYS + 1) * DAY)
