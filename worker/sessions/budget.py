"""How many alerts a tenant had of late, and how many users, in one partition: what an alert budget is held against.

Both are kept as sets, so that what is applied twice after a crash counts once. Which alert comes too late for the
budget depends on the order of arrival: the one thing that does.

What is left of a day's budget may be used within the six days after it: a small tenant has few alerts, and a day with
several would otherwise hold back what quiet days had room for.

A user may use a tenth of the day's budget, and at least one alert of it, so that one noisy user, or an intruder who
makes noise on purpose, does not hold back the alerts of the others.
"""

from __future__ import annotations

from hashlib import blake2b
from math import log

import msgspec

from worker.sessions.codec import BUDGET, StateFormat
from worker.sessions.limits import DAY

WEEK = 7
"""Days whose budgets are one: what is left of the earlier ones may be used on the last."""
DAYS = 8
"""Days remembered. Alerts older than these are held against no budget."""
MOST = 5_000
"""Most alerts of a day and partition, whatever the budget allows: all of them are kept in the state."""
SHARE = 10
"""One part in so many of a day's budget is the most that one user may use."""
BITS = 8_192
"""Of the set of users: 1 KiB. The estimate is within 3% for up to 20,000 users a day and partition."""


class Day(msgspec.Struct, array_like=True):
    """One day, of event time.

    Attributes:
        users: a bit for every hash of a user who was active.
        told: findings that alerted: uid -> hash of the user; 0 for findings about no one user.
        by_user: hash of the user -> how many of these are the user's.
    """

    users: bytearray = msgspec.field(default_factory=lambda: bytearray(BITS // 8))
    told: dict[str, int] = msgspec.field(default_factory=dict)
    by_user: dict[int, int] = msgspec.field(default_factory=dict)


class Budget(msgspec.Struct, array_like=True):
    """The last days, by number since the epoch."""

    days: dict[int, Day] = msgspec.field(default_factory=dict)

    def see(self, user: bytes, time: int) -> bool:
        """Take in that a user was active; tell whether that is news."""
        day = self._day(time)
        if day is None:
            return False
        byte, bit = divmod(_hash(user) % BITS, 8)
        if day.users[byte] >> bit & 1:
            return False
        day.users[byte] |= 1 << bit
        return True

    def admit(self, uid: str, user: bytes, time: int, per_thousand: float) -> bool:
        """Return whether a finding may alert: there is still room on its day, or it has alerted before.

        Args:
            uid: of the finding.
            user: key of the user it is about; empty when it is about no one user, and then no share bounds it.
            time: of its first occurrence, milliseconds.
            per_thousand: alerts a day per 1,000 users; of users there are as many as on that day or the day before,
                whichever had more. What the six days before have left is added. One alert a day is always allowed,
                and never more than `MOST`.
        """
        day = self._day(time)
        if day is None or uid in day.told:
            return True
        before = self.days.get(time // DAY - 1)
        users = max(count(day), count(before) if before else 0.0)
        allowed = min(max(1, int(per_thousand * users / 1000)), MOST)
        holder = _hash(user) or 1 if user else 0
        own = day.by_user.get(holder, 0)
        if holder and own >= max(1, allowed // SHARE):
            return False
        if len(day.told) >= allowed and len(day.told) >= self._saved(time // DAY, users, per_thousand):
            return False
        day.told[uid] = holder
        day.by_user[holder] = own + 1
        return True

    def _saved(self, today: int, users: float, per_thousand: float) -> int:
        """Return how many alerts a day may have when the six days before it are counted in."""
        week = [day for number, day in self.days.items() if today - WEEK < number < today]
        allowed = int(per_thousand * (users + sum(map(count, week))) / 1000)
        return min(allowed - sum(len(day.told) for day in week), MOST)

    def _day(self, time: int) -> Day | None:
        number = time // DAY
        newest = max(self.days, default=number)
        if number <= newest - DAYS:
            return None
        if number > newest:
            self.days = {each: day for each, day in self.days.items() if each > number - DAYS}
        return self.days.setdefault(number, Day())


def _hash(user: bytes) -> int:
    return int.from_bytes(blake2b(user, digest_size=4).digest(), "big")


def count(day: Day) -> float:
    """Estimate a day's users by linear counting (Whang et al. 1990, doi:10.1145/78922.78925)."""
    empty = BITS - int.from_bytes(day.users, "big").bit_count()
    return BITS * log(BITS / max(empty, 1))


_FORMAT = StateFormat(BUDGET, Budget)
is_budget, decode_budget = _FORMAT.matches, _FORMAT.decode


def encode_budget(budget: Budget) -> bytes:
    """Return an encoded budget; its timer deletes it when its days no longer count."""
    return _FORMAT.encode(budget, (max(budget.days, default=0) + DAYS + 1) * DAY)
