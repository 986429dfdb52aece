"""Numbers of source partitions: those of further input topics do not collide with those of the first topic."""

from __future__ import annotations

from functools import lru_cache
from zlib import crc32


@lru_cache(maxsize=1 << 12)
def source_number(topic: str, partition: int = 0) -> int:
    """Return the number of a partition of a further input topic. It is larger than any partition number in Kafka.

    >>> source_number("okta.events", 1) - source_number("okta.events")
    1
    """
    return (crc32(topic.encode()) + 1 << 16) + partition
