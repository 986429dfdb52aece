"""Parses bytes as a JSON document, with or without a frame before it, or returns why they cannot be used."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import orjson

from schemas.decoding.results import Rejected, RejectReason

MAX_DEPTH = 128
"""Maximum nesting of a record: half of what orjson can write, and well below the interpreter's recursion limit."""
BOM = b"\xef\xbb\xbf"
FRAMES = ((b"\0", 5), (b"\0", 9), (b"\x03\0", 18))
"""First bytes and length of the headers that schema registries write before a JSON document: Confluent (a zero byte and
a schema id of four bytes), Apicurio's older form (an id of eight bytes), and AWS Glue without compression."""
TOO_DEEP = Rejected(RejectReason.TOO_DEEP, "", f"nested deeper than {MAX_DEPTH} levels")
_WHITE_SPACE = b" \n\r\t"
_NESTED = frozenset({dict, list})


class TooDeepError(Exception):
    """The document is nested deeper than `MAX_DEPTH`."""


def load(value: bytes) -> Any:
    """Return the document that the bytes encode, or a `Rejected`.

    Where the bytes are not UTF-8, or escape half of a surrogate pair, the document contains lone surrogates. Whether
    this matters depends on the field. If the document is a text that encodes an object, that object is returned.
    """
    document = _load(unframed(value))
    if isinstance(document, str) and document.lstrip()[:1] == "{":
        return _load(document.encode("utf-8", "surrogatepass"))
    return document


def unframed(value: bytes) -> bytes:
    """Return a value without a byte order mark, and without a schema registry's frame if a JSON object follows it."""
    if value[:1] in (b"\0", b"\x03"):
        for start, size in FRAMES:
            if value.startswith(start) and value[size:].removeprefix(BOM).lstrip()[:1] == b"{":
                value = value[size:]
                break
    return value.removeprefix(BOM)


def _load(value: bytes) -> Any:
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        if "depth" in str(error) or "recursion" in str(error):
            return TOO_DEEP
        return _load_tolerantly(value, f"not JSON: {error.msg} at byte {error.pos}")
    if not isinstance(document, dict | list):
        return document
    try:
        doubled = None if are_single(count_keys(document), value) else _doubled(value)
    except TooDeepError:
        return TOO_DEEP
    return doubled or document


def _load_tolerantly(value: bytes, why: str) -> Any:
    """Parse JSON that has encoding errors or control characters in its texts; else return why it is not JSON."""
    try:
        text = value.decode("utf-8", "surrogateescape")
        document = json.loads(text, strict=False, object_pairs_hook=_no_doubles, parse_constant=_no_number)
        if isinstance(document, dict | list):
            count_keys(document)
    except _DoubledKeyError as error:
        return _duplicate(error)
    except (TooDeepError, RecursionError):
        return TOO_DEEP
    except ValueError:
        if not _is_utf8(value):
            return Rejected(RejectReason.INVALID_UTF8, "", "the record is not UTF-8")
        return Rejected(RejectReason.INVALID_JSON, "", why)
    return document


def _no_number(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def are_single(keys: int, value: bytes) -> bool:
    """Return True if certainly no object in the JSON text `value` has a duplicate key; False if it may have one.

    Without white space, every key is followed by `":`. If the text contains this as often as the parsed document has
    keys (`keys`), there is no duplicate.
    """
    return value.translate(None, _WHITE_SPACE).count(b'":') == keys


def count_keys(document: Any, depth: int = 1) -> int:
    """Count the keys of nested objects.

    Raises:
        TooDeepError: they are nested deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise TooDeepError
    if isinstance(document, dict):
        below = [count_keys(each, depth + 1) for each in document.values() if each.__class__ in _NESTED]
        return len(document) + sum(below)
    return sum([count_keys(each, depth + 1) for each in document if each.__class__ in _NESTED])


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
    """Reject a document with a duplicate key: parsers differ in which value they use, and attackers exploit this."""
    try:
        json.loads(value, object_pairs_hook=_no_doubles)
    except _DoubledKeyError as error:
        return _duplicate(error)
    except (ValueError, RecursionError):
        return TOO_DEEP
    return None


def _duplicate(error: Exception) -> Rejected:
    name = str(error).encode("utf-8", "replace").decode()
    return Rejected(RejectReason.DUPLICATE_KEY, name, "duplicate key in one object")
