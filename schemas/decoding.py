"""From the raw bytes of a record to a `SessionEvent`, in any of the three accepted shapes. Never raises.

A bare AuthSession snapshot, a CloudEvents 1.0 structured JSON envelope around one, or a Debezium change event
(`before`/`after`/`op`/`ts_ms`, with or without the `payload` around it).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from pydantic import ValidationError

from schemas.event import EventKind, SessionEvent, Shape
from schemas.session import SESSION, OutOfRangeError, canonical_ip, milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.session import AuthSession

MAX_BYTES = 1 << 20
MAX_META_DATA = 64 << 10
MAX_DEPTH = 128
"""Levels a record may be nested: half of what orjson writes, and far from the interpreter's own limit."""
SKEW = 60_000
NO_TIME = "is neither ISO 8601 text nor a number since the epoch"
# The escape of NUL, its backslash not being escaped itself.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000").search


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
    """A record that says nothing about a session."""

    reason: str


class Rejected(NamedTuple):
    """A record that cannot be used.

    Attributes:
        field: dotted path of the offending field, from the record's root; `""` for the record itself.
        message: for people; never repeats the input.
    """

    reason: RejectReason
    field: str
    message: str


TOO_DEEP = Rejected(RejectReason.TOO_DEEP, "", f"nested deeper than {MAX_DEPTH} levels")


class _Envelope(NamedTuple):
    shape: Shape
    time: int | None
    path: str
    kind: EventKind | None


_BARE = _Envelope(Shape.SNAPSHOT, None, "", None)
_BACKSLASH = ord("\\")
# The compiled core: the adapter's own methods look up the caller's names at each call.
_validate_json = SESSION.validator.validate_json
_validate_python = SESSION.validator.validate_python


def decode(
    value: bytes | None, *, record_time: int, skew_ms: int = SKEW, max_bytes: int = MAX_BYTES
) -> SessionEvent | Ignored | Rejected:
    """Decode one record.

    Args:
        value: the record's value; None is a tombstone.
        record_time: the record's own timestamp, milliseconds.
        skew_ms: how far ahead of it a time may lie before it is clamped to it.
        max_bytes: longer values are rejected unread.
    """
    if value is None:
        return Ignored("tombstone")
    if len(value) > max_bytes:
        return Rejected(RejectReason.TOO_LARGE, "", f"longer than {max_bytes} bytes")
    # What a bare snapshot hardly holds: looking costs less than failing to read an envelope as one.
    if b'"specversion"' not in value and b'"op"' not in value:
        try:
            session = _validate_json(value)
        except ValidationError:
            return _decode_slowly(value, record_time, skew_ms)
        if _is_plain(value, session):
            return _event(session, _BARE, record_time, skew_ms)
    return _decode_slowly(value, record_time, skew_ms)


def _is_plain(value: bytes, session: AuthSession) -> bool:
    """Tell for sure that a valid snapshot has no unknown or doubled keys, no NUL, and is not nested too deeply."""
    if _BACKSLASH in value and b"\\u0000" in value:
        return False
    meta_data = session.get("meta_data")
    if meta_data and (b"NaN" in value or b"Infinity" in value):
        # pydantic takes them for numbers; they are no JSON.
        return False
    try:
        return _are_single(len(session) + (_keys(meta_data, 2) if meta_data else 0), value)
    except _TooDeepError:
        return False


def _are_single(keys: int, value: bytes) -> bool:
    """Tell for sure that no object within a value, in which `keys` were found, names one twice; False when not sure.

    Every key is followed by `":`; where there are no more of these than keys were understood, no key stands twice.
    """
    return value.count(b'":') == keys and not _is_spaced(value)


def _is_spaced(value: bytes) -> bool:
    """Tell whether a key may be spelled so that counting `":` would miss it."""
    return b'" ' in value or b'"\n' in value or b'"\r' in value or b'"\t' in value


class _TooDeepError(Exception):
    pass


def _keys(document: Any, depth: int = 1) -> int:
    """Count the keys of nested objects.

    Raises:
        _TooDeepError: they are nested deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise _TooDeepError
    if isinstance(document, dict):
        return len(document) + sum([_keys(each, depth + 1) for each in document.values() if each.__class__ in _NESTED])
    return sum([_keys(each, depth + 1) for each in document if each.__class__ in _NESTED])


_NESTED = frozenset({dict, list})


def _decode_slowly(value: bytes, record_time: int, skew_ms: int) -> SessionEvent | Ignored | Rejected:
    """Decode what is, or may be, anything but a plain valid snapshot."""
    document = _load(value)
    if isinstance(document, Rejected):
        return document
    if document is None:
        return Ignored("null")
    if not isinstance(document, dict):
        return Rejected(RejectReason.NOT_AN_OBJECT, "", "the record is not a JSON object")
    opened = _open(document)
    if isinstance(opened, Ignored | Rejected):
        return opened
    envelope, body = opened
    try:
        session = _validate_python(body)
    except ValidationError as error:
        return rejection(error, envelope.path)
    return _event(session, envelope, record_time, skew_ms)


def _nul(value: bytes, document: Any) -> Rejected | None:
    """Reject NUL characters: databases and logs cut text at them."""
    if _BACKSLASH in value and _NUL(orjson.dumps(document)):
        return Rejected(RejectReason.INVALID_VALUE, "", "text must not contain NUL characters")
    return None


def _load(value: bytes) -> Any:
    """Return the document a text stands for, or why it is none that can be used."""
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        if not _is_utf8(value):
            return Rejected(RejectReason.INVALID_UTF8, "", "the record is not UTF-8")
        if "depth" in str(error) or "recursion" in str(error):
            return TOO_DEEP
        return Rejected(RejectReason.INVALID_JSON, "", f"not JSON: {error.msg} at byte {error.pos}")
    if not isinstance(document, dict | list):
        return document
    try:
        doubled = None if _are_single(_keys(document), value) else _doubled(value)
    except _TooDeepError:
        return TOO_DEEP
    return doubled or _nul(value, document) or document


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


class _DoubledKeyError(Exception):
    pass


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _DoubledKeyError(name[:64])
        found[name] = value
    return found


def _doubled(value: bytes) -> Rejected | None:
    """Reject objects that name a key twice: parsers disagree on which one counts, and attackers know it."""
    try:
        json.loads(value, object_pairs_hook=_no_doubles)
    except _DoubledKeyError as error:
        return Rejected(RejectReason.DUPLICATE_KEY, str(error), "the key stands twice in one object")
    except (ValueError, RecursionError):
        return TOO_DEEP
    return None


def _open(document: dict[str, Any]) -> tuple[_Envelope, Any] | Ignored | Rejected:
    if "specversion" in document:
        return _open_cloudevent(document)
    for path, change in (("", document), ("payload.", document.get("payload"))):
        if isinstance(change, dict) and "op" in change and ("before" in change or "after" in change):
            return _open_change(change, path)
        if isinstance(change, dict) and change.get("op") in ("t", "m"):
            return Ignored(f"debezium-{change['op']}")
    return _BARE, document


def _open_cloudevent(document: dict[str, Any]) -> tuple[_Envelope, Any] | Rejected:
    if document["specversion"] != "1.0":
        return Rejected(RejectReason.UNKNOWN_ENVELOPE, "specversion", "only CloudEvents 1.0 is understood")
    time = _envelope_time(document.get("time"), "time")
    if isinstance(time, Rejected):
        return time
    body = document.get("data")
    if body is None and "data_base64" in document:
        body = _unpack(document["data_base64"])
        if isinstance(body, Rejected):
            return body
    if not isinstance(body, dict):
        return Rejected(RejectReason.MISSING_FIELD, "data", "the envelope holds no JSON object")
    if "op" in body and ("before" in body or "after" in body):
        return Rejected(RejectReason.UNKNOWN_ENVELOPE, "data", "an envelope within an envelope")
    hint = str(document.get("type", "")).lower().rpartition(".")[2]
    return _Envelope(Shape.CLOUDEVENTS, time, "data", _HINTS.get(hint)), body


_HINTS = {
    "deleted": EventKind.DELETED,
    "revoked": EventKind.DELETED,
    "ended": EventKind.DELETED,
    "created": EventKind.CREATED,
    "refreshed": EventKind.REFRESHED,
}


def _unpack(text: Any) -> Any:
    try:
        body = _load(base64.b64decode(text, validate=True))
    except (TypeError, ValueError, binascii.Error):
        return Rejected(RejectReason.INVALID_VALUE, "data_base64", "not base64")
    return body._replace(field="data_base64") if isinstance(body, Rejected) else body


def _envelope_time(value: Any, field: str) -> int | Rejected | None:
    if value is None:
        return None
    if not isinstance(value, str | int | float):
        return Rejected(RejectReason.WRONG_TYPE, field, "a timestamp is text or a number")
    try:
        return milliseconds(value)
    except OutOfRangeError as error:
        return Rejected(RejectReason.OUT_OF_RANGE, field, str(error))
    except (ValueError, OverflowError):
        return Rejected(RejectReason.INVALID_VALUE, field, NO_TIME)


def _open_change(change: dict[str, Any], path: str) -> tuple[_Envelope, Any] | Ignored | Rejected:
    operation = change["op"]
    if operation not in ("c", "r", "u", "d"):
        return Rejected(RejectReason.UNKNOWN_ENVELOPE, f"{path}op", "the operation is none of c, r, u, d, t, m")
    time = _envelope_time(change.get("ts_ms"), f"{path}ts_ms")
    if isinstance(time, Rejected):
        return time
    side = "before" if operation == "d" else "after"
    body = change.get(side)
    if body is None and change.get("before") is None and change.get("after") is None:
        return Ignored("debezium-empty")
    if not isinstance(body, dict):
        return Rejected(RejectReason.MISSING_FIELD, f"{path}{side}", "the change holds no row")
    kind = {"d": EventKind.DELETED, "c": EventKind.CREATED, "u": EventKind.CHANGED}.get(operation)
    return _Envelope(Shape.DEBEZIUM, time, f"{path}{side}", kind), body


def _event(session: AuthSession, envelope: _Envelope, record_time: int, skew_ms: int) -> SessionEvent | Rejected:
    created_at, updated_at, used_at = session.get("created_at"), session.get("updated_at"), session.get("last_used_at")
    document = session.get("meta_data")
    try:
        created = None if created_at is None else milliseconds(created_at)
        # Two of the three are often the same text.
        updated = created if updated_at == created_at else None if updated_at is None else milliseconds(updated_at)
        used = updated if used_at == updated_at else None if used_at is None else milliseconds(used_at)
        meta_data = None if document is None else _canonical(document)
        ip = canonical_ip(session["ip"])
    except (ValueError, OverflowError):
        return _culprit(session, envelope)
    newest = max(created or 0, updated or 0, used or 0)
    kind = _kind(session, envelope, created or 0, updated or 0, used or 0)
    deleted = kind is _DELETED
    if deleted and envelope.time is not None:
        newest = max(newest, envelope.time)
    latest = newest or envelope.time or record_time
    ahead = latest - record_time
    limit = latest if ahead <= skew_ms else record_time
    acted = None if deleted else used or created
    if acted is not None and acted > limit:
        acted = limit
    scopes, amr, types, uid = session.get("scopes"), session.get("amr"), session.get("session_type"), session.get("uid")
    return SessionEvent(
        tenant_id=session["tenant_id"],
        user_id=session["user_id"],
        session_uid=uid or derived_uid(session, created),
        uid_derived=not uid,
        kind=kind,
        shape=envelope.shape,
        event_time=limit,
        activity_time=acted,
        created_at=created,
        updated_at=updated,
        last_used_at=used,
        future_by=ahead if ahead > skew_ms else 0,
        is_deleted=deleted,
        max_age_minutes=session.get("max_age_minutes"),
        ip=ip,
        user_agent=session["user_agent"],
        location=session.get("location"),
        scopes=None if scopes is None else _unique(tuple(scopes.split() if isinstance(scopes, str) else scopes)),
        amr=None if amr is None else _unique(tuple(amr)),
        aud=session.get("aud"),
        workspace_id=session.get("workspace_id"),
        session_type=types.casefold() if types else None,
        meta_data=meta_data,
    )


# Few combinations of words make up all traffic, and most times come twice in a record and again in later ones.
@lru_cache(maxsize=1 << 14)
def _unique(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(words)))


def _path(envelope: _Envelope, name: str) -> str:
    return f"{envelope.path}.{name}" if envelope.path else name


def _culprit(session: AuthSession, envelope: _Envelope) -> Rejected:
    """Name the first field that is well formed and yet no use."""
    checks: tuple[tuple[str, Callable[[Any], object], str], ...] = (
        ("created_at", milliseconds, NO_TIME),
        ("updated_at", milliseconds, NO_TIME),
        ("last_used_at", milliseconds, NO_TIME),
        ("meta_data", _canonical, f"longer than {MAX_META_DATA} bytes, or with numbers out of range"),
        ("ip", canonical_ip, "is not an IPv4 or IPv6 address"),
    )
    for name, check, wrong in checks:
        try:
            if (value := session.get(name)) is not None:
                check(value)
        except OutOfRangeError as error:
            return Rejected(RejectReason.OUT_OF_RANGE, _path(envelope, name), str(error))
        except (ValueError, OverflowError):
            # What the libraries say repeats the input.
            return Rejected(RejectReason.INVALID_VALUE, _path(envelope, name), wrong)
    raise AssertionError("a culprit was asked for where there is none")


_CREATED, _REFRESHED, _CHANGED, _DELETED = EventKind


def _kind(session: AuthSession, envelope: _Envelope, created: int, updated: int, used: int) -> EventKind:
    hinted = envelope.kind
    if session.get("is_deleted") or hinted is _DELETED:
        return _DELETED
    if hinted is _CREATED:
        return _CREATED
    if used > created and used >= updated:
        return _REFRESHED
    if updated > created and updated > used:
        return _CHANGED
    return hinted or _CREATED


def derived_uid(session: AuthSession, created: int | None) -> str:
    """Return the uid of a session that has none: `d-` and 32 hex digits of what identifies it."""
    parts = [session["tenant_id"], session["user_id"], session.get("aud"), session["user_agent"], created]
    return "d-" + blake2b(orjson.dumps(parts), digest_size=16).hexdigest()


def _canonical(meta_data: dict[str, Any]) -> str:
    try:
        text = orjson.dumps(meta_data, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # Integers of more than 64 bits: floating point, as in what is decoded slowly.
        text = orjson.dumps(orjson.loads(json.dumps(meta_data)), option=orjson.OPT_SORT_KEYS)
    if len(text) > MAX_META_DATA:
        raise ValueError(f"longer than {MAX_META_DATA} bytes")
    return text.decode()


_REASONS = {"missing": RejectReason.MISSING_FIELD, "json_invalid": RejectReason.INVALID_JSON}


def rejection(error: ValidationError, path: str) -> Rejected:
    """Turn the first of pydantic's errors into a reason, a dotted path and a short message.

    Args:
        error: what pydantic has against a document.
        path: where in the record the document stands; `""` for the record itself.
    """
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    kind = first["type"]
    reason = _REASONS.get(kind)
    if reason is None:
        wrong_type = kind.endswith("_type")
        reason = RejectReason.WRONG_TYPE if wrong_type else RejectReason.INVALID_VALUE
    field = ".".join([path, *map(str, first["loc"])] if path else map(str, first["loc"]))
    return Rejected(reason, field[:200], first["msg"][:200])
