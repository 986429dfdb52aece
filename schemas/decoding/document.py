"""Bytes to a JSON document, whatever stands before it, or the reason why there is none that can be used."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import orjson

from schemas.decoding.results import Rejected, RejectReason

MAX_DEPTH = 128
"""Levels a record may be nested: half of what orjson writes, and far from the interpreter's own limit."""
BOM = b"\xef\xbb\xbf"
FRAMES = ((b"\0", 5), (b"\0", 9), (b"\x03\0", 18))
"""First bytes and length of what schema registries put before a JSON document: Confluent's (a zero byte and a schema id
of four bytes), Apicurio's older form of it (an id of eight), and AWS Glue's without compression."""
TOO_DEEP = Rejected(RejectReason.TOO_DEEP, "", f"nested deeper than {MAX_DEPTH} levels")
_WHITE_SPACE = b" \n\r\t"
_NESTED = frozenset({dict, list})


class TooDeepError(Exception):
    """A document is nested deeper than `MAX_DEPTH`."""


def load(value: bytes) -> Any:
    """Return the document that bytes stand for, or a `Rejected`.

    Where the bytes are no UTF-8, or escape half a surrogate pair, the document holds lone surrogates in their place:
    whether that matters depends on the field. A text that is a document itself is opened once.
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
    """Read what is JSON but for its encoding and for control characters within texts; else say why it is none."""
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
    raise ValueError("NaN and Infinity are no JSON")


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def are_single(keys: int, value: bytes) -> bool:
    """Tell for sure that no object within a value, in which `keys` were found, names one twice; False when not sure.

    Without white space every key is followed by `":`; where there are no more of these than keys were understood, no
    key stands twice.
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
    """Reject objects that name a key twice: parsers disagree on which one counts, and attackers know it."""
    try:
        json.loads(value, object_pairs_hook=_no_doubles)
    except _DoubledKeyError as error:
        return _duplicate(error)
    except (ValueError, RecursionError):
        return TOO_DEEP
    return None


def _duplicate(error: Exception) -> Rejected:
    name = str(error).encode("utf-8", "replace").decode()
    return Rejected(RejectReason.DUPLICATE_KEY, name, "the key stands twice in one object")
