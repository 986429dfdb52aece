"""The keys of Kafka records and of the state kept for them."""

from __future__ import annotations


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
