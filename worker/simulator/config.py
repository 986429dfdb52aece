"""Configuration of a simulation."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import Final

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

BENIGN_SHARES: Final[dict[str, float]] = {
    "ordinary": 0.20,
    "roaming": 0.18,
    "corporate-egress": 0.16,
    "dual-stack": 0.11,
    "browser-upgrade": 0.08,
    "cgnat": 0.06,
    "carrier-churn": 0.06,
    "relay": 0.05,
    "service": 0.04,
    "flight": 0.03,
    "private-address": 0.01,
    "unknown-geo": 0.01,
    "placeholder": 0.01,
}
"""Share of the users by benign class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """Settings of a simulation. Equal configurations give equal bytes.

    Attributes:
        seed: of every random draw.
        start_ms: event time at which the main phase begins; the warm-up lies before it.
        tenants, users: how many. Users are spread evenly over tenants.
        rate: events per second of simulated time in the main phase, before attacks and duplicates.
        session_refreshes: refreshes a session in the main phase, on average; None: as few as the rate asks for.
        duration_ms: length of the main phase; None is endless.
        max_events: stop after this many events, warm-up included; None is no limit.
        warmup_days: days of history before `start_ms` (0: none); new-* detections need 14.
        history_sessions: sessions a user has in the warm-up, about.
        attacks_per_kind: attack instances of each kind, spread over the main phase.
        attack_interval_ms: in place of that, one attack of the next kind this often; None is off.
        attack_kinds: restrict to these; empty is all.
        attack_late_share: share of the attacks that hide in late events, where the kind allows.
        late_share, duplicate_share, malformed_share: shares of the benign events.
        cloudevents_share, debezium_share: shares of all events in these envelopes; the rest are snapshots.
        jitter_share: share of the sessions whose clock is up to 4 s off.
        back_office_share: share of the refreshes followed by a change that is no user activity.
        first_visit_share: share of the flights that go to a country the user has never been to.
        cool_off_ms: quiet time of a user after an attack.
        collect_benign: keep a label for every benign session (memory grows with their number).
        benign_shares: see `BENIGN_SHARES`.
    """

    seed: int = 1
    start_ms: int = 1_748_822_400_000  # 2025-06-02, a Monday
    tenants: int = 20
    users: int = 1_000
    rate: float = 50.0
    session_refreshes: int | None = None
    duration_ms: int | None = HOUR
    max_events: int | None = None
    warmup_days: float = 21.0
    history_sessions: int = 14
    attacks_per_kind: int = 0
    attack_interval_ms: int | None = None
    attack_kinds: tuple[str, ...] = ()
    attack_late_share: float = 0.2
    late_share: float = 0.01
    duplicate_share: float = 0.005
    malformed_share: float = 0.0
    cloudevents_share: float = 0.02
    debezium_share: float = 0.02
    jitter_share: float = 0.05
    back_office_share: float = 0.01
    first_visit_share: float = 0.05
    cool_off_ms: int = DAY
    collect_benign: bool = True
    benign_shares: dict[str, float] = field(default_factory=lambda: dict(BENIGN_SHARES))

    @property
    def end_ms(self) -> float:
        """Event time at which the main phase ends; infinity when it does not."""
        return float("inf") if self.duration_ms is None else self.start_ms + self.duration_ms

    @property
    def warmup_ms(self) -> int:
        """Length of the warm-up."""
        return int(self.warmup_days * DAY)


@dataclass(frozen=True, slots=True)
class TrafficPace:
    """How often one user acts: refreshes a session, their mean gap, and the mean gap between sessions."""

    refreshes: int
    gap_ms: float
    pause_ms: float

    @property
    def cycle_ms(self) -> float:
        """Mean time from one session's start to the next."""
        return self.refreshes * self.gap_ms + self.pause_ms


def main_pace(config: SimulatorConfig) -> TrafficPace:
    """Spread the rate over the users.

    At least ten minutes from one session to the next, at most ten from one refresh to the next.
    """
    per_event = SECOND * (config.users - _resting(config)) / config.rate
    events = 1 + (config.session_refreshes or max(5, ceil(10 * MINUTE / per_event) - 1))
    gap = min(0.6 * per_event, 10 * MINUTE)
    return TrafficPace(events - 1, gap, events * per_event - (events - 1) * gap)


def _resting(config: SimulatorConfig) -> float:
    """Return how many users attacks occupy at a time: 1.3 users for each attack, for its prelude and the time after."""
    if config.attack_interval_ms is None:
        return 0.0
    return min(0.5 * config.users, 1.3 * (30 * MINUTE + config.cool_off_ms) / config.attack_interval_ms)


def history_pace(config: SimulatorConfig) -> TrafficPace:
    """Spread the history's sessions over the warm-up; short sessions, so that it stays cheap."""
    cycle = config.warmup_ms / (config.history_sessions + 1)
    return TrafficPace(1, 8 * MINUTE, max(cycle - 8 * MINUTE, 10 * MINUTE))
