"""Change events of Debezium, with or without their envelope, and rows of Kafka Connect's JDBC source.

Sources: Debezium 2.7 documentation (change event, `ExtractNewRecordState`, `unavailable.value.placeholder`), and
reports of users: debezium/debezium#120, #601, #1126, #1262, #3948, #4863, #5069; kafka-connect-jdbc#574.
"""

from __future__ import annotations

from typing import Any

from schemas.decoding.document import load
from schemas.decoding.fields import Fields
from schemas.decoding.results import DeletedRow, Envelope, Ignored, Opened, Rejected, RejectReason, joined
from schemas.decoding.times import envelope_time
from schemas.event import EventKind, Shape

IDENTITY = (
    "the row holds only its key: run ALTER TABLE … REPLICA IDENTITY FULL at the source, so that a deletion names the "
    "user of the session"
)
_KINDS = {"d": EventKind.DELETED, "c": EventKind.CREATED, "u": EventKind.CHANGED}
_OPERATIONS = ("c", "r", "u", "d")
_SILENT = ("t", "m")
"""Operations that name no session: truncate and logical decoding messages."""

_EXTENDED = frozenset({"$oid", "$uuid", "$date", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal"})
"""Types of MongoDB's Extended JSON that the value of a property may have
(https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/)."""


def is_change(document: dict[str, Any]) -> bool:
    """Return whether a document is a change event."""
    return "op" in document and ("before" in document or "after" in document or document["op"] in _SILENT)


def is_row(document: dict[str, Any]) -> bool:
    """Return whether a document is a row extracted from its change event, with fields that say what happened."""
    return "__op" in document or "__deleted" in document


def open_change(change: dict[str, Any], path: str) -> Opened | Ignored | Rejected:
    """Open a change event at a path of the record."""
    operation = change["op"]
    if operation in _SILENT:
        return Ignored(f"debezium-{operation}")
    if operation not in _OPERATIONS:
        return Rejected(RejectReason.UNKNOWN_ENVELOPE, joined(path, "op"), "must be one of c, r, u, d, t, m")
    time = _time(change, path, "")
    if isinstance(time, Rejected):
        return time
    side = "before" if operation == "d" else "after"
    body, where = _row(change.get(side)), joined(path, side)
    envelope = Envelope(Shape.DEBEZIUM, time, where, _KINDS.get(operation))
    if operation == "d" and (known := _key_alone(body)) is not None:
        return _refused(known, envelope)
    if not isinstance(body, dict):
        return Rejected(RejectReason.MISSING_FIELD, where, "the change event contains no row")
    return Opened(envelope, body)


def open_row(row: dict[str, Any], path: str) -> Opened | Ignored | Rejected:
    """Open an extracted row: `__op`, `__deleted` and `__ts_ms` say what happened and when."""
    operation = row.get("__op")
    if operation in _SILENT:
        return Ignored(f"debezium-{operation}")
    time = _time(row, path, "__")
    if isinstance(time, Rejected):
        return time
    deleted = operation == "d" or str(row.get("__deleted")).lower() in ("true", "1", "t")
    kind = EventKind.DELETED if deleted else _KINDS.get(str(operation))
    envelope = Envelope(Shape.DEBEZIUM, time, path, kind)
    if deleted and (known := _key_alone(row)) is not None:
        return _refused(known, envelope)
    return Opened(envelope, row)


def _row(side: Any) -> Any:
    """Return the row. The MongoDB connector writes it as Extended JSON text, from which plain values are extracted."""
    if not isinstance(side, str):
        return side
    document = load(side.encode("utf-8", "surrogatepass"))
    return {name: _plain(value) for name, value in document.items()} if isinstance(document, dict) else document


def _plain(value: Any) -> Any:
    while isinstance(value, dict) and len(value) == 1 and value.keys() <= _EXTENDED:
        (value,) = value.values()
    return value


def _is_filled(value: Any) -> bool:
    """Return whether a value is what Debezium writes for a column that was not logged: null, or the type's zero."""
    return not value or value in ("{}", "[]") or (isinstance(value, str) and value.startswith("1970-01-01T00:00:00"))


def _key_alone(row: Any) -> dict[str, Any] | None:
    """Return the known columns of a row if they are at most its key, else None.

    By default a database logs only the key of a deleted row. Debezium fills the other columns with null or, where a
    column cannot be null, with an empty value.
    """
    if row is None:
        return {}
    if not isinstance(row, dict):
        return None
    known = {name: value for name, value in row.items() if not _is_filled(value) and not name.startswith("__")}
    return known if not known.keys() & {"tenant_id", "user_id"} and len(known) <= 1 else None


def _refused(known: dict[str, Any], envelope: Envelope) -> Rejected:
    """Reject a deletion of which at most the key is known; the result names the row."""
    uid = Fields().uid("uid", next(iter(known.values()), None))
    row = DeletedRow(uid, envelope) if isinstance(uid, str) and uid.strip() else None
    return Rejected(RejectReason.MISSING_FIELD, envelope.path, IDENTITY, row)


def _time(document: dict[str, Any], path: str, prefix: str) -> int | Rejected | None:
    """Return when the change was made, in milliseconds, from whichever unit the document has."""
    for unit in ("ts_ms", "ts_us", "ts_ns"):
        name = f"{prefix}{unit}"
        if document.get(name) is not None:
            return envelope_time(document[name], joined(path, name))
    return None
