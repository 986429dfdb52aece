"""How simulated systems write timestamps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

Stamp = Callable[[int], str | int]


@lru_cache(maxsize=8_192)
def _minute(minutes: int) -> str:
    return datetime.fromtimestamp(minutes * 60, UTC).strftime("%Y-%m-%dT%H:%M:")


def _iso(ms: int) -> str:
    seconds, milli = divmod(ms, 1_000)
    minutes, second = divmod(seconds, 60)
    return f"{_minute(minutes)}{second:02d}.{milli:03d}"


def iso_z(ms: int) -> str:
    """ISO 8601 in UTC with `Z`."""
    return _iso(ms) + "Z"


def iso_offset(ms: int) -> str:
    """ISO 8601 with a numeric offset, two hours ahead of UTC."""
    return _iso(ms + 7_200_000) + "+02:00"


def iso_naive(ms: int) -> str:
    """ISO 8601 without a zone, which means UTC."""
    return _iso(ms)


def epoch_ms(ms: int) -> int:
    """Milliseconds since the epoch."""
    return ms


STYLES: Final[tuple[Stamp, ...]] = (iso_z, iso_offset, iso_naive, epoch_ms)
