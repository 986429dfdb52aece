"""Partitions of further input topics, told apart from those of the first."""

from __future__ import annotations

from functools import lru_cache
from zlib import crc32


@lru_cache(maxsize=1 << 12)
def source_number(topic: str, partition: int = 0) -> int:
    """Return a number for a partition of a further input topic, above the numbers of all partitions.

    >>> source_number("okta.events", 1) - source_number("okta.events")
    1
    """
    return (crc32(topic.encode()) + 1 << 16) + partition
