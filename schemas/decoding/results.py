"""What comes of a record that is no session event, and what an envelope says of the event inside."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from schemas.event import EventKind


class RejectReason(StrEnum):
    """Why a record is no session event."""

    INVALID_JSON = "invalid-json"
    INVALID_UTF8 = "invalid-utf8"
    NOT_AN_OBJECT = "not-an-object"
    MISSING_FIELD = "missing-field"
    WRONG_TYPE = "wrong-type"
    INVALID_VALUE = "invalid-value"
    OUT_OF_RANGE = "out-of-range"
    TOO_LARGE = "too-large"
    TOO_DEEP = "too-deep"
    DUPLICATE_KEY = "duplicate-key"
    UNKNOWN_ENVELOPE = "unknown-envelope"


class Ignored(NamedTuple):
    """A record that says nothing about a session. `reason` is one of a known few: it is a metric's label."""

    reason: str


class Rejected(NamedTuple):
    """A record that cannot be used.

    Attributes:
        field: dotted path of the offending field, from the record's root; `""` for the record itself.
        message: for people; never repeats the input.
        row: the row that was deleted, when its key is all that the record says; who knows the row's user can use it.
    """

    reason: RejectReason
    field: str
    message: str
    row: DeletedRow | None = None


class DeletedRow(NamedTuple):
    """A row that was deleted, of which the key alone is known.

    Attributes:
        uid: the key: the session's uid.
        envelope: what surrounds it.
    """

    uid: str
    envelope: Envelope


class Envelope(NamedTuple):
    """What surrounds a session, and what that says.

    Attributes:
        shape: `snapshot`, `cloudevents`, `debezium`, or the name of the mapping that read the record.
        time: when the event happened, milliseconds; None when the envelope does not say.
        path: dotted path of the session within the record.
        kind: what happened; None when the envelope does not say.
        is_lenient: required properties may be missing or null: they are then empty, and unknown.
    """

    shape: str
    time: int | None = None
    path: str = ""
    kind: EventKind | None = None
    is_lenient: bool = False


class Opened(NamedTuple):
    """An envelope and the document inside it, not validated yet."""

    envelope: Envelope
    body: dict[str, Any]


Opening = Opened | Ignored | Rejected


def joined(path: str, name: str) -> str:
    """Return the dotted path of a field below a path."""
    return f"{path}.{name}" if path else name
