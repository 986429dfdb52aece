"""Who is attacked, how and when."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from worker.simulator import scripts_session, scripts_user  # noqa: F401  # they register their kinds
from worker.simulator.attacks import KINDS, AttackCase
from worker.simulator.config import DAY, MINUTE, SimulatorConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from random import Random

    from worker.simulator.attacks import AttackKind
    from worker.simulator.geo import Internet
    from worker.simulator.labels import Label
    from worker.simulator.people import SimulatedUser
    from worker.simulator.scheduler import Scheduler


class CampaignScheduler:
    """Plans the attacks and finds their victims; each attack is a task on the scheduler."""

    def __init__(
        self, config: SimulatorConfig, rng: Random, world: Internet, scheduler: Scheduler, users: list[SimulatedUser]
    ) -> None:
        self.config = config
        self.rng = rng
        self.world = world
        self.scheduler = scheduler
        self.attacks: list[Label] = []
        self.users = users
        self._random = rng.random
        self._begin = config.start_ms - config.warmup_ms
        self._pool = sorted(range(len(users)), key=lambda _: rng.random())
        self._next_victim = 0

    def start(self) -> None:
        """Put every campaign on the scheduler."""
        for kind in self._kinds():
            self.scheduler.push(self._begin, self._campaign(kind))

    def _kinds(self) -> list[AttackKind]:
        wanted = self.config.attack_kinds or tuple(KINDS)
        kinds = [KINDS[name] for name in wanted]
        on = self.config.attacks_per_kind or self.config.attack_interval_ms
        return [k for k in kinds if on and (self.config.warmup_ms or not k.history)]

    def _campaign(self, kind: AttackKind) -> Generator[float, None, None]:
        """Start every attack of a kind, each early enough to strike when it should."""
        for number, strike in enumerate(self._strikes(kind)):
            yield max(strike - kind.lead_ms, self._begin)
            self._attack(kind, number, int(max(strike, self._begin + kind.lead_ms)))

    def _strikes(self, kind: AttackKind) -> Iterator[float]:
        interval, kinds = self.config.attack_interval_ms, self._kinds()
        if interval is None:
            return iter(self._drawn_strikes(kind))
        return _regular(self.config.start_ms, kinds.index(kind), len(kinds), interval, self.config.end_ms)

    def _drawn_strikes(self, kind: AttackKind) -> list[float]:
        first = self.config.start_ms + (0 if self.config.warmup_ms else kind.lead_ms)
        room = max(0.0, min(self.config.end_ms - 90 * MINUTE, first + 30 * DAY) - first)
        return sorted(first + self._random() * room for _ in range(self.config.attacks_per_kind))

    def _attack(self, kind: AttackKind, number: int, strike: int) -> None:
        start = strike - kind.lead_ms
        victims = self._victims(kind, start)
        if victims:
            case = AttackCase(self, kind, f"{_name(kind)}-{number:05d}", victims, strike)
            self.attacks.append(case.label)
            self.scheduler.push(start, case.run())

    def _victims(self, kind: AttackKind, t: int) -> list[SimulatedUser]:
        first = self.victim(lambda user: kind.suits(user, t), t)
        if first is None or kind.crowd == 1:
            return [] if first is None else [first]
        others = [self.victim(lambda user: kind.joins(first, user, t), t) for _ in range(kind.crowd - 1)]
        found = [first, *(user for user in others if user is not None)]
        return found if len(found) == kind.crowd else []

    def victim(self, suits: Callable[[SimulatedUser], bool], t: int) -> SimulatedUser | None:
        """Reserve the next user that suits, one never attacked before if there is one."""
        return self._reserve(suits, t, fresh=True) or self._reserve(suits, t, fresh=False)

    def _reserve(self, suits: Callable[[SimulatedUser], bool], t: int, *, fresh: bool) -> SimulatedUser | None:
        count = len(self._pool)
        for step in range(count):
            user = self.users[self._pool[(self._next_victim + step) % count]]
            if user.taken_until <= t and not (fresh and user.struck) and suits(user):
                self._next_victim += step + 1
                user.taken_until = inf
                return user
        return None

    def release(self, user: SimulatedUser, t: int) -> None:
        """Let an attacked user's life go on after the cool-off."""
        user.struck = True
        user.open.clear()
        user.taken_until = t + self.config.cool_off_ms

    def settle_dormant(self) -> None:
        """Set some users aside whose history ends a hundred days before the main phase."""
        wanted = self.config.attacks_per_kind or (len(self.users) // 50 if self.config.attack_interval_ms else 0)
        if not any(kind.dormant for kind in self._kinds()):
            return
        plain = [user for user in self.users if user.benign == "ordinary"]
        for user in plain[: min(wanted, len(plain) // 2)]:
            user.dormant = True


def _name(kind: AttackKind) -> str:
    """The kind's name in the register, fit for an id."""
    return next(name for name, each in KINDS.items() if each is kind).replace("/", "-")


def _regular(start: int, turn: int, turns: int, interval: int, end: float) -> Iterator[float]:
    """Strike times of one kind when the kinds take turns."""
    at = start + (turn + 1) * interval
    while at < end:
        yield at
        at += turns * interval
