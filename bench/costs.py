"""What one million users cost: arithmetic over measured figures, with the assumptions named."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

USERS = 1_000_000
EVENT_SECONDS = 240
"""The steady mix: an active user's session is refreshed every four minutes."""
ACTIVE_HOURS = 8
LOAD = 0.6
"""Share of its full speed at which a worker is run."""
COMPACTION = 2.0
"""A compacted topic holds up to so many times its live records."""
INSERTS_PER_SECOND = 3
"""Of a worker: `session_events`, `sessions` and `findings`, each once a second."""


class Measured(NamedTuple):
    """Figures of one worker on the steady mix; the last four are per event, per session, per session and per row."""

    events_per_second: float
    program_us: float
    store_us: float
    broker_us: float
    changelog_bytes: float
    resident_bytes: float
    state_bytes: float
    row_bytes: float


def million(one: Measured) -> list[tuple[str, str, str]]:
    """Return rows of a table: what, how much, and how that comes about."""
    rate, day = USERS / EVENT_SECONDS, USERS * ACTIVE_HOURS * 3600 / EVENT_SECONDS
    workers = ceil(rate / (one.events_per_second * LOAD))
    return [
        ("events a second, all users active", f"{rate:,.0f}", f"{USERS:,} users / {EVENT_SECONDS} s"),
        ("events a day", f"{day / 1e6:,.0f} million", f"{ACTIVE_HOURS} active hours a user"),
        ("workers", f"{workers}", f"{rate:,.0f} / ({LOAD:.0%} of {one.events_per_second:,.0f}), rounded up"),
        _cores("cores of workers", rate, one.program_us),
        _cores("cores of ClickHouse for inserts", rate, one.store_us),
        _cores("cores of Kafka", rate, one.broker_us),
        _bytes(
            "memory for state", USERS * one.resident_bytes, f"{one.resident_bytes:,.0f} bytes a session, one a user"
        ),
        _bytes(
            "disk for the changelog",
            USERS * one.state_bytes * COMPACTION,
            f"{one.state_bytes:,.0f} bytes a session, twice that before compaction",
        ),
        _bytes("changelog written a day", day * one.changelog_bytes, f"{one.changelog_bytes:,.0f} bytes an event"),
        _bytes(
            "disk for a day of `session_events`", day * one.row_bytes, f"{one.row_bytes:,.0f} bytes a row, compressed"
        ),
        (
            "parts a second",
            f"{workers * INSERTS_PER_SECOND}",
            f"{workers} workers, {INSERTS_PER_SECOND} tables, once a second",
        ),
    ]


def _cores(what: str, rate: float, micros: float) -> tuple[str, str, str]:
    return what, f"{rate * micros / 1e6:.2f}", f"{rate:,.0f} events/s at {micros:,.0f} µs"


def _bytes(what: str, size: float, how: str) -> tuple[str, str, str]:
    return what, f"{size / 1e9:,.1f} GB", how
