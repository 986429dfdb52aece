"""Alert budget of a tenant in one partition: the alerts and the active users of the last days.

Both are kept as sets, so that a record that is applied twice after a crash counts once. Which alerts exceed the budget
depends on the order of arrival; nothing else in the worker's results does.

The unused part of a day's budget may be used within the six days after it. A small tenant has few alerts; without
this, a day with several alerts would exceed the budget although the days before had none.

One user may use a tenth of the day's budget, and always at least one alert. So one noisy user, or an intruder who
causes alerts on purpose, cannot hold back the alerts of others.
"""

from __future__ import annotations

from hashlib import blake2b
from math import log

import msgspec

from worker.sessions.codec import BUDGET, StateFormat
from worker.sessions.limits import DAY

WEEK = 7
"""Length of the period over which unused budget is carried over, in days."""
DAYS = 8
"""Number of days kept. Alerts of older days count against no budget."""
MOST = 5_000
"""Maximum number of alerts a day and partition, whatever the budget allows: the state keeps the id of each."""
SHARE = 10
"""One user may use at most 1/`SHARE` of a day's budget."""
BITS = 8_192
"""Size of the set of users, in bits: 1 KiB. The estimate is within 3% for up to 20,000 users a day and partition."""


class Day(msgspec.Struct, array_like=True):
    """One day, of event time.

    Attributes:
        users: bit set of the hashes of active users.
        told: findings that alerted: uid -> hash of the user; 0 for findings that are not about one user.
        by_user: hash of the user -> number of the user's findings in `told`.
    """

    users: bytearray = msgspec.field(default_factory=lambda: bytearray(BITS // 8))
    told: dict[str, int] = msgspec.field(default_factory=dict)
    by_user: dict[int, int] = msgspec.field(default_factory=dict)


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

    def admit(self, uid: str, user: bytes, time: int, per_thousand: float) -> bool:
        """Return whether a finding may alert: its day's budget is not used up, or the finding has alerted before.

        Args:
            uid: id of the finding.
            user: key of the user it is about; empty when it is not about one user, and then the limit per user does
                not apply.
            time: event time of its first occurrence, milliseconds.
            per_thousand: alerts a day per 1,000 users. The number of users is that of the finding's day or of the day
                before, whichever is larger. The unused budget of the six days before is added. At least one alert a
                day is allowed, and never more than `MOST`.
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
        """Return how many alerts a day may have, with the unused budget of the six days before it."""
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
    """Return an encoded budget; its timer deletes it when none of its days counts any more."""
    return _FORMAT.encode(budget, (max(budget.days, default=0) + DAYS + 1) * DAY)
