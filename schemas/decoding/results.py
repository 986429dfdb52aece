"""Results of decoding other than an event, and the information of an envelope."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from schemas.event import EventKind


class RejectReason(StrEnum):
    """Why a record was rejected."""

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
    """A record that says nothing about a session. `reason` has few values, because it is the label of a metric."""

    reason: str


class Rejected(NamedTuple):
    """A record that cannot be used.

    Attributes:
        field: dotted path of the offending field, from the record's root; `""` for the record itself.
        message: text for people; it never repeats the input.
        row: the deleted row, if the record holds only its key. The record can be used if the row's user is known.
    """

    reason: RejectReason
    field: str
    message: str
    row: DeletedRow | None = None


class DeletedRow(NamedTuple):
    """A deleted row of which only the key is known.

    Attributes:
        uid: the key, which is the session's uid.
        envelope: the envelope of the record.
    """

    uid: str
    envelope: Envelope


class Envelope(NamedTuple):
    """The information around a session in its record.

    Attributes:
        shape: `snapshot`, `cloudevents`, `debezium`, or the name of the mapping that read the record.
        time: when the event happened, milliseconds; None when the envelope does not contain it.
        path: dotted path of the session within the record.
        kind: what happened; None when the envelope does not contain it.
        is_lenient: required properties may be missing or null; they are then empty, which means unknown.
    """

    shape: str
    time: int | None = None
    path: str = ""
    kind: EventKind | None = None
    is_lenient: bool = False


class Opened(NamedTuple):
    """An envelope and the document in it, before validation."""

    envelope: Envelope
    body: dict[str, Any]


Opening = Opened | Ignored | Rejected


def joined(path: str, name: str) -> str:
    """Return the dotted path of a field below a path."""
    return f"{path}.{name}" if path else name
