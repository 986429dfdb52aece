"""Calculates the cost of one million users from measured figures and named assumptions."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

USERS = 1_000_000
EVENT_SECONDS = 240
"""Seconds between two refreshes of an active user's session in the steady mix."""
ACTIVE_HOURS = 8
LOAD = 0.6
"""Share of its maximum throughput at which a worker runs."""
COMPACTION = 2.0
"""Largest ratio of a compacted topic's size to that of its live records."""
PARTS_PER_SECOND = 7
"""Parts a second of a worker that inserts once a second into each table: `session_events` with its four materialized
views, `sessions` and `findings`."""


class Measured(NamedTuple):
    """Figures of one worker on the steady mix.

    Attributes:
        events_per_second: maximum throughput of one worker.
        program_us, store_us, broker_us: processor time of an event, in microseconds.
        state_us: processor time to decode, encode and publish the state of one user, in microseconds.
        resident_bytes, state_bytes: size of a session in memory and encoded.
        row_bytes: size of a row of `session_events` on disk.
    """

    events_per_second: float
    program_us: float
    store_us: float
    broker_us: float
    state_us: float
    resident_bytes: float
    state_bytes: float
    row_bytes: float


def million(one: Measured) -> list[tuple[str, str, str]]:
    """Return rows of a table: resource, amount, and how it is calculated.

    In the measured run many batches contain several events of a user, and the user's state is then read and written
    once. With a million users this is rare, so each event is charged for reading and writing a state.
    """
    rate, day = USERS / EVENT_SECONDS, USERS * ACTIVE_HOURS * 3600 / EVENT_SECONDS
    micros = one.program_us + one.state_us
    speed = one.events_per_second * one.program_us / micros
    workers = ceil(rate / (speed * LOAD))
    live = f"{one.state_bytes:,.0f} bytes a session"
    return [
        ("events a second, all users active", f"{rate:,.0f}", f"{USERS:,} users / {EVENT_SECONDS} s"),
        ("events a day", f"{day / 1e6:,.0f} million", f"{ACTIVE_HOURS} active hours a user"),
        ("workers", f"{workers}", f"{rate:,.0f} / ({LOAD:.0%} of {speed:,.0f} events/s), rounded up"),
        _cores("cores of workers, at most", rate, micros),
        _cores("cores of ClickHouse for inserts", rate, one.store_us),
        _cores("cores of Kafka", rate, one.broker_us),
        _bytes(
            "memory for state", USERS * one.resident_bytes, f"{one.resident_bytes:,.0f} bytes a session, one a user"
        ),
        _bytes("disk for the changelog", USERS * one.state_bytes * COMPACTION, f"{live}, twice that before compaction"),
        _bytes("changelog written a day, at most", day * one.state_bytes, f"{live}, each event writes one"),
        _bytes(
            "disk for a day of `session_events`", day * one.row_bytes, f"{one.row_bytes:,.0f} bytes a row, compressed"
        ),
        (
            "parts a second",
            f"{workers * PARTS_PER_SECOND}",
            f"{workers} workers, {PARTS_PER_SECOND} tables, once a second",
        ),
    ]


def _cores(what: str, rate: float, micros: float) -> tuple[str, str, str]:
    return what, f"{rate * micros / 1e6:.2f}", f"{rate:,.0f} events/s at {micros:,.0f} µs"


def _bytes(what: str, size: float, how: str) -> tuple[str, str, str]:
    return what, f"{size / 1e9:,.1f} GB", how
