"""Ready-made simulations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from worker.simulator.config import DAY, HOUR, MINUTE, SECOND, SimulatorConfig

PROFILES: Final[dict[str, SimulatorConfig]] = {
    # Lively and endless: a handful of tenants, an attack every few seconds, quick to warm up.
    "demo": SimulatorConfig(
        tenants=6,
        users=1_200,
        rate=200.0,
        duration_ms=None,
        attack_interval_ms=5 * SECOND,
        cool_off_ms=5 * MINUTE,
        collect_benign=False,
    ),
    # A million events of a hundred thousand users within four hours, few attacks, no labels kept.
    "benchmark": SimulatorConfig(
        tenants=200,
        users=100_000,
        rate=75.0,
        duration_ms=6 * HOUR,
        max_events=1_000_000,
        warmup_days=0.0,
        attacks_per_kind=10,
        collect_benign=False,
    ),
    # Long sessions of people who change little: sixty refreshes a session, one finding in two hundred events. A user's
    # event every four minutes; 120 events of each of 2,500 users.
    "steady": SimulatorConfig(
        tenants=50,
        users=2_500,
        rate=2_500 / 240,
        session_refreshes=60,
        duration_ms=DAY,
        max_events=300_000,
        warmup_days=0.0,
        attacks_per_kind=2,
        collect_benign=False,
        benign_shares={
            "ordinary": 0.62,
            "service": 0.10,
            "dual-stack": 0.10,
            "browser-upgrade": 0.10,
            "corporate-egress": 0.08,
        },
    ),
    # Three weeks of history, then two days with at least fifty attacks of every kind, each on a user of its own.
    "evaluation": SimulatorConfig(
        tenants=40,
        users=8_000,
        rate=0.5,
        duration_ms=2 * DAY,
        attacks_per_kind=52,
    ),
}
"""Configurations by name."""


def profile(name: str, **changes: Any) -> SimulatorConfig:
    """A profile with some of its settings changed.

    Raises:
        KeyError: no profile has this name.
        TypeError: no setting has one of these names.
    """
    return replace(PROFILES[name], **changes)
