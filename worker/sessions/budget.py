"""Alert budget of a tenant in one partition: the alerted incidents and the active users of the last days.

Only the first alert of an incident counts. Alerts of one user within the quiet time of each other belong to one
incident and cost nothing more. An incident with a critical finding or a hard invariant costs nothing.

The unused part of a day's budget may be used later: within a week by findings of medium severity, within two weeks by
those of high severity. A small tenant has few alerts; without this, a day with several alerts would exceed the budget
although the days before had none. Unused budget of the second week is only for findings of high severity, which are
more certain.

One user may use a tenth of the budget of these days, and always at least two incidents. So one noisy user, or an
intruder who causes alerts on purpose, cannot hold back the alerts of others.

All times are event time. An alert that is applied twice after a crash counts once, because an alert within an incident
costs nothing. Which alerts exceed the budget depends on the order of arrival; nothing else in the worker's results
does.
"""

from __future__ import annotations

from hashlib import blake2b
from math import log
from typing import NamedTuple

import msgspec

from worker.sessions.codec import BUDGET, StateFormat
from worker.sessions.limits import DAY, MINUTE

WEEK = 7
"""Length of the period, in days, over which unused budget is carried over."""
TWO_WEEKS = 14
"""Length of that period for findings of high severity, in days."""
DAYS = TWO_WEEKS + 1
"""Number of days kept. Alerts of older days count against no budget."""
MOST = 5_000
"""Maximum number of incidents a day and partition, whatever the budget allows: the state keeps all of them."""
SHARE = 10
"""One user may use at most 1/`SHARE` of the budget."""
LEAST = 2
"""Number of incidents that one user may always have, if the budget is not used up."""
BITS = 8_192
"""Size of the set of users, in bits: 1 KiB. The estimate is within 3% for up to 20,000 users a day and partition."""


class AlertRequest(NamedTuple):
    """A finding that would alert, with the properties that a budget needs.

    Attributes:
        uid: id of the finding.
        user: key of the user it is about; empty when it is not about one user, and then the limit per user does not
            apply.
        time: event time of its first occurrence, milliseconds.
        is_high: whether its severity is high.
        is_exempt: whether it alerts regardless of the budget, and its incident costs nothing.
    """

    uid: str
    user: bytes
    time: int
    is_high: bool = False
    is_exempt: bool = False


class AlertedIncident(msgspec.Struct, array_like=True):
    """Alerts of one user close to each other: times of the first and the last one, and whether they cost nothing."""

    first: int
    last: int
    is_free: bool


class Day(msgspec.Struct, array_like=True):
    """One day, of event time.

    Attributes:
        users: a bit for every hash of a user who was active.
        incidents: hash of the user -> incidents that began on this day.
        others: uids of alerted findings that are not about one user.
        size: number of incidents and of others. `spent`: number of these that count against the budget.
    """

    users: bytearray = msgspec.field(default_factory=lambda: bytearray(BITS // 8))
    incidents: dict[int, list[AlertedIncident]] = msgspec.field(default_factory=dict)
    others: dict[str, None] = msgspec.field(default_factory=dict)
    size: int = 0
    spent: int = 0

    def spent_by(self, holder: int) -> int:
        """Return how many incidents of one user count against the budget."""
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
        """Return whether a finding may alert: it is exempt, belongs to an alerted incident, or the budget allows it.

        Args:
            alert: the finding.
            per_thousand: incidents a day per 1,000 users. The number of users is that of the finding's day or of the
                day before, whichever is larger. The unused budget of the days before is added. At least one incident a
                day is allowed, and never more than `MOST`.
            quiet: alerts of one user at most this far apart are one incident, milliseconds.
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
        """Extend the user's incident that an alert belongs to, if there is one; return whether there is."""
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
    """Add an incident to a day. On a full day an exempt incident is not stored."""
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
