"""Whose session a database row is, for deletions that name nothing but the row's key.

A connector puts all changes of a row into one partition, in order. The state of that partition remembers the user of
each row, wherever the user's own state is kept.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from worker.sessions.codec import ROW_OWNER, StateFormat
from worker.sessions.limits import DAY

KEPT = 30 * DAY
"""Since the row last changed."""
RENEWED = DAY
"""An entry is written anew when the row changed this much later than its entry says."""
PREFIX = b"/row/"
"""Begins with a slash, as no user's key does: tenants have names."""


class RowOwner(msgspec.Struct, frozen=True, array_like=True):
    """The user of a row, and the event time of the change that says so, milliseconds."""

    tenant_id: str
    user_id: str
    time: int


_FORMAT = StateFormat(ROW_OWNER, RowOwner)
is_row_owner, decode_row_owner = _FORMAT.matches, _FORMAT.decode


def row_owner_key(topic: str, uid: str) -> bytes:
    """Return the key of the state that remembers a row's user.

    Args:
        topic: the input topic with the table's changes.
        uid: the row's key, which is the session's uid.
    """
    return PREFIX + blake2b(f"{len(topic)}:{topic}{uid}".encode(), digest_size=16).digest()


def encode_row_owner(owner: RowOwner) -> bytes:
    """Return an encoded owner; its timer deletes it `KEPT` milliseconds after the change."""
    return _FORMAT.encode(owner, owner.time + KEPT)


def renewed(state: bytes | None, owner: RowOwner) -> bytes | None:
    """Return the state that remembers an owner, None when the one there is does."""
    if state is not None:
        known = decode_row_owner(state)
        is_same = (known.tenant_id, known.user_id) == (owner.tenant_id, owner.user_id)
        if (is_same and owner.time < known.time + RENEWED) or (not is_same and owner.time < known.time):
            return None
    return encode_row_owner(owner)
