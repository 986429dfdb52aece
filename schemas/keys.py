"""Keys of users on Kafka topics, and the partition of a key."""

from __future__ import annotations

from functools import lru_cache

from aiokafka.partitioner import murmur2


def user_key(tenant_id: str, user_id: str) -> bytes:
    """Return the key of a user: `tenant/user`, with `%` and `/` percent-encoded in both.

    >>> user_key("acme", "u/1")
    b'acme/u%2F1'
    """
    return f"{_escape(tenant_id)}/{_escape(user_id)}".encode()


def _escape(part: str) -> str:
    if "%" in part or "/" in part:
        return part.replace("%", "%25").replace("/", "%2F")
    return part


@lru_cache(maxsize=1 << 16)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key, as Kafka's default partitioner computes it.

    Results are cached because aiokafka's murmur2 is pure Python and takes about 10 µs a key.

    >>> partition_of(b"acme/u1", 4) in range(4)
    True
    """
    hashed: int = murmur2(key)
    return (hashed & 0x7FFFFFFF) % partitions
