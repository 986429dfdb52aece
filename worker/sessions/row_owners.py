"""Owners of database rows: the user of each row, for deletions that carry only the row's key.

A connector writes all changes of a row to one partition, in order. The worker of that partition stores the row's user
in its state, whichever partition holds the user's own state.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from worker.sessions.codec import ROW_OWNER, StateFormat
from worker.sessions.limits import DAY

KEPT = 30 * DAY
"""How long an entry is kept after the row last changed, milliseconds."""
RENEWED = DAY
"""An entry is written again when the row changed at least this long after the time in the entry, milliseconds."""
PREFIX = b"/row/"
"""Prefix of these keys. A user's key never begins with a slash, because a tenant id is never empty."""


class RowOwner(msgspec.Struct, frozen=True, array_like=True):
    """The user of a row, and the event time of the change that named the user, milliseconds.

    If two tenants have claimed the row, `tenant_id` and `user_id` are empty: neither may decide about the other's row.
    """

    tenant_id: str
    user_id: str
    time: int

    @property
    def is_contested(self) -> bool:
        """Whether two tenants have claimed the row."""
        return not self.tenant_id


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
    """Return the state to write for an owner; None when the existing state need not change."""
    if state is not None:
        known = decode_row_owner(state)
        if known.is_contested or known.tenant_id != owner.tenant_id:
            owner = RowOwner("", "", max(known.time, owner.time))
        is_same = (known.tenant_id, known.user_id) == (owner.tenant_id, owner.user_id)
        if (is_same and owner.time < known.time + RENEWED) or (not is_same and owner.time < known.time):
            return None
    return encode_row_owner(owner)
