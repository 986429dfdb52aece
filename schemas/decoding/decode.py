"""Decodes a record from bytes to a `SessionEvent`. `Decoder.decode` raises no exception, whatever the input is.

A valid snapshot of the native schema takes the fast path: it is validated directly from its bytes. Any other record
is processed step by step: JSON document, envelope, mapping, values of the fields, schema. Both paths give the same
event; fuzz tests compare them.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import ValidationError

from schemas.decoding import cloudevents, debezium
from schemas.decoding.document import TooDeepError, are_single, count_keys, load
from schemas.decoding.fields import LONGEST_SCOPE, MAX_META_DATA, MOST_SCOPES, PLACEHOLDER, SCOPE_BYTES, Fields
from schemas.decoding.fields import UNKNOWN_ADDRESSES as _UNKNOWN_ADDRESSES
from schemas.decoding.results import Envelope, Ignored, Opened, Rejected, RejectReason, joined
from schemas.decoding.times import NO_TIME
from schemas.event import EventKind, SessionEvent, Shape
from schemas.session import SESSION, OutOfRangeError, canonical_ip, milliseconds
from schemas.text import validation_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from schemas.decoding.mapping import Mapping
    from schemas.decoding.results import DeletedRow, Opening
    from schemas.session import AuthSession

MAX_BYTES = 1 << 20
SKEW = 60_000
_BARE = Envelope(Shape.SNAPSHOT)
_NONE: tuple[str, ...] = ()
_ENVELOPES = frozenset({b"spe", b"bef", b"aft", b'op"', b"sch", b"pay", b'id"', b"sou", b"typ", b"tim", b"dat"})
"""Beginnings of the first keys of envelopes. They only save a failed validation for most envelopes: a record with
another key that is not of the schema takes the slow path in any case."""
_LIST_MARKS = ("[", "{", " ", "\t")
_BACKSLASH, _DELETE, _C1 = ord("\\"), 0x7F, 0xC2
# Control characters in JSON texts, escaped or not.
_UNCLEAN = re.compile(rb"\\(?:u00[01789]|[bfnrt])|\xc2[\x80-\x9f]|\x7f", re.IGNORECASE).search
# Methods of the compiled core are faster: the adapter's own look up the caller's names at each call.
_validate_json = SESSION.validator.validate_json
_validate_python = SESSION.validator.validate_python


class Decoder:
    """Decodes records of one input.

    Args:
        skew_ms: by how many milliseconds a time may be ahead of the record's timestamp; times further ahead are set to
            that timestamp.
        max_bytes: maximum size of a value, in bytes; larger values are rejected without parsing.
        mappings: mappings of other identity systems, tried in this order on records that are not of the native schema.
        mapping: the mapping for every record; None: chosen by the content of each record.
        tenant_id: tenant of sessions whose source does not name one; empty for none.
        end_words: further words of a CloudEvents type that mean the end of a session.
        placeholder: text that Debezium writes for values that it does not send.

    Attributes:
        max_bytes: see the argument.
    """

    def __init__(
        self,
        *,
        skew_ms: int = SKEW,
        max_bytes: int = MAX_BYTES,
        mappings: Iterable[Mapping] = (),
        mapping: Mapping | None = None,
        tenant_id: str = "",
        end_words: Iterable[str] = (),
        placeholder: str = PLACEHOLDER,
    ) -> None:
        self._skew = skew_ms
        self.max_bytes = max_bytes
        self._mappings = tuple(mappings)
        self._mapping = mapping
        self._always_slowly = mapping is not None or bool(tenant_id) or placeholder != PLACEHOLDER
        self._tenant_id = tenant_id
        self._end_words = cloudevents.END_WORDS | {word.lower() for word in end_words}
        self._placeholder = placeholder

    def decode(
        self, value: bytes | None, record_time: int, headers: Sequence[tuple[str, bytes]] = ()
    ) -> SessionEvent | Ignored | Rejected:
        """Decode one record.

        Args:
            value: the record's value; None for a tombstone.
            record_time: the record's own timestamp, milliseconds.
            headers: the record's headers.
        """
        if value is None:
            return Ignored("tombstone")
        if len(value) > self.max_bytes:
            return Rejected(RejectReason.TOO_LARGE, "", f"longer than {self.max_bytes} bytes")
        if value[2:5] not in _ENVELOPES and not self._always_slowly:
            if headers and cloudevents.attributes_of(headers) is not None:
                return self.decode_slowly(value, record_time, headers)
            try:
                session = _validate_json(value)
                if PLACEHOLDER not in session.values() and _is_plain(value, session):
                    return _event(session, _BARE, record_time, self._skew)
            except (ValueError, OverflowError):
                pass  # pydantic's error is a ValueError
        return self.decode_slowly(value, record_time, headers)

    def decode_slowly(
        self, value: bytes, record_time: int, headers: Sequence[tuple[str, bytes]] = ()
    ) -> SessionEvent | Ignored | Rejected:
        """Decode a record of any shape step by step."""
        document = load(value)
        if isinstance(document, Rejected):
            return document
        if document is None:
            return Ignored("null")
        if not isinstance(document, dict):
            return Rejected(RejectReason.NOT_AN_OBJECT, "", "the record is not a JSON object")
        opened = self.open(document, headers)
        return self._validated(opened, record_time) if isinstance(opened, Opened) else opened

    def deletion_of(self, row: DeletedRow, tenant_id: str, user_id: str, record_time: int) -> SessionEvent | Rejected:
        """Return the deletion of a row whose user is known."""
        body = {"tenant_id": tenant_id, "user_id": user_id, "uid": row.uid}
        return self._validated(Opened(row.envelope, body), record_time)

    def open(self, document: dict[str, Any], headers: Sequence[tuple[str, bytes]] = ()) -> Opening:
        """Return the session in a document, before validation, and its envelope."""
        opened = self._unwrapped(document, headers)
        if not isinstance(opened, Opened):
            return opened
        mapping = self._mapping or self._fitting(opened.body)
        if mapping is not None:
            opened = mapping.apply(opened)
        if isinstance(opened, Opened) and self._tenant_id and not opened.body.get("tenant_id"):
            return opened._replace(body={**opened.body, "tenant_id": self._tenant_id})
        return opened

    def _unwrapped(self, document: dict[str, Any], headers: Sequence[tuple[str, bytes]]) -> Opening:
        attributes = cloudevents.attributes_of(headers) if headers else None
        if attributes is not None:
            return cloudevents.open_binary(attributes, document, self._end_words)
        if "specversion" in document:
            return cloudevents.open_structured(document, self._end_words)
        return _opened_row(document)

    def _fitting(self, body: dict[str, Any]) -> Mapping | None:
        """Return the first mapping that fits a document; None if the document has the keys of the native schema."""
        if "tenant_id" in body and "user_id" in body:
            return None
        return next((mapping for mapping in self._mappings if mapping.fits(body)), None)

    def _validated(self, opened: Opened, record_time: int) -> SessionEvent | Rejected:
        envelope, fields = opened.envelope, Fields(self._placeholder)
        is_end = envelope.kind is _DELETED
        body = fields.normalise(opened.body, is_lenient=envelope.is_lenient, is_end=is_end)
        try:
            session = _validate_python(body)
        except ValidationError as error:
            return rejection(error, envelope.path)
        wrong = _nul(session, envelope)
        if wrong is not None:
            return wrong
        try:
            return _event(session, envelope, record_time, self._skew, tuple(sorted(fields.repaired)))
        except (ValueError, OverflowError):
            return _culprit(session, envelope)


def decode(
    value: bytes | None, *, record_time: int, skew_ms: int = SKEW, max_bytes: int = MAX_BYTES
) -> SessionEvent | Ignored | Rejected:
    """Decode one record of the native schema, in any envelope; see `Decoder.decode`."""
    return _decoder(skew_ms, max_bytes).decode(value, record_time)


@lru_cache(maxsize=16)
def _decoder(skew_ms: int, max_bytes: int) -> Decoder:
    return Decoder(skew_ms=skew_ms, max_bytes=max_bytes)


def _opened_row(document: dict[str, Any]) -> Opening:
    """Open a change event, a row or a snapshot, with or without `{schema, payload}` around it."""
    path = ""
    inner = document.get("payload")
    if "payload" in document and document.keys() <= {"schema", "payload"}:
        if inner is None:
            return Ignored("tombstone")
        if isinstance(inner, str):
            inner = load(inner.encode("utf-8", "surrogatepass"))
        if isinstance(inner, Rejected):
            return inner._replace(field="payload")
        if isinstance(inner, dict):
            document, path = inner, "payload"
    if debezium.is_change(document):
        return debezium.open_change(document, path)
    if debezium.is_row(document):
        return debezium.open_row(document, path)
    return Opened(Envelope(Shape.SNAPSHOT, path=path), document)


def _is_plain(value: bytes, session: AuthSession) -> bool:
    """Return True if a valid snapshot certainly needs no normalisation; False if it may need it.

    It needs none if it has no placeholder, duplicate key or control character, and is not nested too deep.
    """
    if (_BACKSLASH in value or _DELETE in value or _C1 in value) and _UNCLEAN(value):
        return False
    if (session.get("aud") or "")[:1] in _LIST_MARKS:
        return False
    meta_data = session.get("meta_data")
    if meta_data and (PLACEHOLDER in meta_data or b"NaN" in value or b"Infinity" in value):
        # pydantic accepts NaN and Infinity as numbers, but they are not JSON.
        return False
    try:
        return are_single(len(session) + (count_keys(meta_data, 2) if meta_data else 0), value)
    except TooDeepError:
        return False


def _nul(session: AuthSession, envelope: Envelope) -> Rejected | None:
    """Reject NUL characters in ids of tenants, users and sessions: databases and logs cut text at them."""
    for name in ("tenant_id", "user_id", "uid"):
        if "\0" in str(session.get(name)):
            return Rejected(RejectReason.INVALID_VALUE, joined(envelope.path, name), "must not contain NUL characters")
    return None


def _event(
    session: AuthSession, envelope: Envelope, record_time: int, skew_ms: int, repaired: tuple[str, ...] = _NONE
) -> SessionEvent:
    """Build the event of a valid session.

    Raises:
        ValueError, OverflowError: a value has the right type but cannot be used.
    """
    created_at, updated_at, used_at = session.get("created_at"), session.get("updated_at"), session.get("last_used_at")
    document, ip = session.get("meta_data"), session["ip"]
    # Two of the three times are often the same text.
    created = None if created_at is None else milliseconds(created_at) or None
    updated = created if updated_at == created_at else None if updated_at is None else milliseconds(updated_at) or None
    used = updated if used_at == updated_at else None if used_at is None else milliseconds(used_at) or None
    meta_data = None if document is None else _canonical(document)
    if ip or envelope is _BARE:
        ip = _address(ip)
    kind = _kind(session, envelope, created or 0, updated or 0, used or 0)
    deleted, stated = kind is _DELETED, envelope.time
    newest = max(created or 0, updated or 0, used or 0)
    if stated is not None and (deleted or (kind is _REFRESHED and not used)):
        newest = max(newest, stated)
        used_then = stated
    else:
        used_then = None
    latest = newest or stated or record_time
    ahead = latest - record_time
    limit = latest if ahead <= skew_ms else record_time
    acted = used if deleted else used or used_then or created or (stated if _is_activity(kind, envelope) else None)
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
        scopes=None if scopes is None else _scopes(scopes if isinstance(scopes, str) else tuple(scopes)),
        amr=None if amr is None else _methods(tuple(amr)),
        aud=session.get("aud"),
        workspace_id=session.get("workspace_id"),
        session_type=types.casefold() if types else None,
        meta_data=meta_data,
        repaired=repaired,
    )


def _is_activity(kind: EventKind, envelope: Envelope) -> bool:
    """Return whether an envelope's time is when the user acted: not for changes, or rows that were only read."""
    return kind is not _CHANGED and (envelope.kind is not None or envelope.shape != Shape.DEBEZIUM)


class _NotPlainError(ValueError):
    """The value has to be normalised first."""


@lru_cache(maxsize=1 << 16)
def _address(text: str) -> str:
    found = canonical_ip(text)
    if found in _UNKNOWN_ADDRESSES:
        raise _NotPlainError
    return found


# Cached: traffic has few different combinations of words.
@lru_cache(maxsize=1 << 14)
def _unique(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(words)))


@lru_cache(maxsize=1 << 14)
def _methods(words: tuple[str, ...]) -> tuple[str, ...]:
    if any(not word or word.strip() != word or word == PLACEHOLDER for word in words):
        raise _NotPlainError
    return _unique(words)


@lru_cache(maxsize=1 << 14)
def _scopes(words: str | tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(words, str):
        fields = Fields()
        words = tuple(fields.scopes("scopes", words))
        if fields.repaired:
            raise _NotPlainError
    if len(words) > MOST_SCOPES or sum(map(len, words)) > SCOPE_BYTES:
        raise _NotPlainError
    if any(len(word) > LONGEST_SCOPE or word.split() != [word] or word == PLACEHOLDER for word in words):
        raise _NotPlainError
    return _unique(words)


def _culprit(session: AuthSession, envelope: Envelope) -> Rejected:
    """Return a rejection that names the first field that has the right type but cannot be used."""
    checks: tuple[tuple[str, Callable[[Any], object], str], ...] = (
        ("created_at", milliseconds, NO_TIME),
        ("updated_at", milliseconds, NO_TIME),
        ("last_used_at", milliseconds, NO_TIME),
        ("meta_data", _canonical, f"longer than {MAX_META_DATA} bytes, or with numbers out of range"),
        ("ip", _address, "is not an IPv4 or IPv6 address"),
    )
    for name, check, wrong in checks:
        try:
            if (value := session.get(name)) is not None:
                check(value)
        except OutOfRangeError as error:
            return Rejected(RejectReason.OUT_OF_RANGE, joined(envelope.path, name), str(error))
        except (ValueError, OverflowError):
            # The libraries' messages repeat the input, so they are not used.
            return Rejected(RejectReason.INVALID_VALUE, joined(envelope.path, name), wrong)
    raise AssertionError("no field of the session is invalid")


_CREATED, _REFRESHED, _CHANGED, _DELETED = EventKind


def _kind(session: AuthSession, envelope: Envelope, created: int, updated: int, used: int) -> EventKind:
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
    """Return the uid of a session that has none: `d-` and 32 hex digits, a hash of the properties that identify it."""
    parts = [session["tenant_id"], session["user_id"], session.get("aud"), session["user_agent"], created]
    return "d-" + blake2b(orjson.dumps(parts), digest_size=16).hexdigest()


def _canonical(meta_data: dict[str, Any]) -> str:
    try:
        text = orjson.dumps(meta_data, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # Integers of more than 64 bits become floating point, as on the slow path.
        text = orjson.dumps(orjson.loads(json.dumps(meta_data)), option=orjson.OPT_SORT_KEYS)
    if len(text) > MAX_META_DATA:
        raise ValueError(f"longer than {MAX_META_DATA} bytes")
    return text.decode()


_REASONS = {
    "missing": RejectReason.MISSING_FIELD,
    "json_invalid": RejectReason.INVALID_JSON,
    "string_unicode": RejectReason.INVALID_UTF8,
}


def rejection(error: ValidationError, path: str) -> Rejected:
    """Return the rejection for the first of pydantic's errors: a reason, a dotted path and a short message.

    Args:
        error: pydantic's error.
        path: dotted path of the document in the record; `""` for the record itself.
    """
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    kind, where = first["type"], first["loc"]
    reason = _REASONS.get(kind)
    if reason is None:
        wrong_type = kind.endswith("_type")
        reason = RejectReason.WRONG_TYPE if wrong_type else RejectReason.INVALID_VALUE
    # If a value may be of several types, pydantic appends their names to the path.
    names = [str(each) for number, each in enumerate(where) if number == 0 or isinstance(each, int)]
    field = ".".join([path, *names] if path else names)
    return Rejected(reason, field[:200], validation_words(first["msg"])[:200])
