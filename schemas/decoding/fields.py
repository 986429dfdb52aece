"""Normalises values, as databases, connectors and clients write them, to the values of the schema.

A value that a client controls (user agent, location, and anything that a producer passes on) never makes an event
unusable: it is truncated or cleaned, and the event's `repaired` names it. A value that only the producer controls is
accepted in other forms if its meaning is certain; otherwise the schema rejects it.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

from schemas.session import canonical_ip

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_TEXT = 4096
LONGEST_ID = 256
MOST_SCOPES, LONGEST_SCOPE, SCOPE_BYTES = 256, 256, 8192
"""Maximum number of scopes of an event, of characters in one, and of characters in all of them."""
MOST_METHODS, LONGEST_METHOD = 64, 64
MOST_ADDRESSES = 32
"""Entries of a list of addresses that are read."""
MAX_META_DATA = 64 << 10
PLACEHOLDER = "__debezium_unavailable_value"
_PLACEHOLDER_BYTES = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="
UNKNOWN_ADDRESSES = frozenset(
    {"", "-", "?", "unknown", "null", "none", "nil", "undefined", "n/a", "na", "0.0.0.0", "::", "localhost",  # noqa: S104
     "private", "hidden", "redacted", "anonymous"}
)  # fmt: skip
"""Values that systems write instead of an unknown address."""
_UNCLEAN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SPACES = re.compile("[\t\n\r\x0b\x0c]+")
_SURROGATES = re.compile("[\ud800-\udfff]+")
_WORDS = re.compile(r"[\s,;]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,]+)')
_TRUE, _FALSE = frozenset({"true", "t", "1", "yes", "y"}), frozenset({"false", "f", "0", "no", "n", ""})
_DIGITS = re.compile(r"\s*[-+]?[0-9]{1,12}(?:\.[0-9]*)?\s*")


def _is_address(text: str) -> bool:
    try:
        return bool(canonical_ip(text))
    except ValueError:
        return False


class Fields:
    """Normalises the properties of one session.

    Attributes:
        repaired: names of the properties that were truncated, cleaned or left out.
    """

    def __init__(self, placeholder: str = PLACEHOLDER) -> None:
        self.repaired: set[str] = set()
        self._unavailable = frozenset({placeholder, _PLACEHOLDER_BYTES})

    def normalise(self, body: dict[str, Any], *, is_lenient: bool, is_end: bool) -> dict[str, Any]:
        """Return the session in a document, ready to be validated.

        Args:
            body: the document.
            is_lenient: whether it comes from a system that may not know every required property.
            is_end: whether it is the end of a session, which needs neither address nor user agent.
        """
        known = {name: body[name] for name in _NORMALISERS if name in body}
        found = {name: _NORMALISERS[name](self, name, value) for name, value in known.items() if value is not None}
        for name in [name for name, value in found.items() if self._is_unavailable(known[name])]:
            found[name] = None
        return self._completed(found, known, is_lenient=is_lenient, is_end=is_end or bool(found.get("is_deleted")))

    def _completed(
        self, found: dict[str, Any], known: dict[str, Any], *, is_lenient: bool, is_end: bool
    ) -> dict[str, Any]:
        for name in ("ip", "user_agent"):
            if found.get(name):
                continue
            if is_end or is_lenient:
                found[name] = ""
                self.repaired.discard(name)
            elif name in known:
                found[name] = ""
                if known[name] is None or name == "ip":
                    self.repaired.add(name)
        return found

    def _is_unavailable(self, value: Any) -> bool:
        """Return whether a value is the placeholder of one that did not change and was not sent."""
        if isinstance(value, list):
            known = [each for each in value if each is not None]
            return bool(known) and all(self._is_unavailable(each) for each in known)
        if isinstance(value, dict) and len(value) == 1:
            return all(self._is_unavailable(each) for each in (*value, *value.values()))
        return isinstance(value, str) and value in self._unavailable

    def identifier(self, _name: str, value: Any) -> Any:
        """Return an identifier as text; databases may send a number."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def uid(self, name: str, value: Any) -> Any:
        """Return a session's id. One that is too long, such as a whole token, is replaced by its hash."""
        text = self.identifier(name, value)
        if not isinstance(text, str) or len(text.strip()) <= LONGEST_ID:
            return text
        self.repaired.add(name)
        return "h-" + blake2b(text.strip().encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def text(self, name: str, value: Any) -> Any:
        """Return a text without control characters and lone surrogates, truncated to `LONGEST_TEXT` characters."""
        if not isinstance(value, str):
            return value
        clean = cleaned(value[: LONGEST_TEXT * 2])
        if clean != value[: LONGEST_TEXT * 2] or len(value) > LONGEST_TEXT:
            self.repaired.add(name)
        return clean[:LONGEST_TEXT]

    def label(self, name: str, value: Any) -> Any:
        """Return a text; databases may send a number."""
        return self.text(name, self.identifier(name, value))

    def header(self, name: str, value: Any) -> str:
        """Return the value of a client's header, of any type, as text."""
        if isinstance(value, str):
            return str(self.text(name, value))
        self.repaired.add(name)
        if isinstance(value, list) and value and isinstance(value[0], str):
            return str(self.text(name, value[0]))
        return str(self.text(name, _dumped(value)))

    def audience(self, name: str, value: Any) -> Any:
        """Return an audience as one text; several audiences are joined by spaces."""
        words = value if isinstance(value, list) else _listed(value)
        if words is None:
            return self.label(name, value)
        if not all(isinstance(word, str | int) and not isinstance(word, bool) for word in words):
            return value
        return self.text(name, " ".join(sorted({str(word).strip() for word in words})))

    def scopes(self, name: str, value: Any) -> Any:
        """Return scopes, from any form they are written in, as a list; if there are too many, the shortest ones."""
        words = self._words(value)
        if words is None:
            return value
        texts = sorted({part for word in words for part in word.split()})
        kept = self._cleaned_words(name, texts, LONGEST_SCOPE)
        return self._fitting(name, sorted(set(kept)))

    def _fitting(self, name: str, texts: list[str]) -> list[str]:
        if len(texts) <= MOST_SCOPES and sum(map(len, texts)) <= SCOPE_BYTES:
            return texts
        self.repaired.add(name)
        fitting, room = [], SCOPE_BYTES
        # Scopes that grant much have short names. Scopes made up to exceed the limit are kept last.
        for text in sorted(texts, key=lambda text: (len(text), text))[:MOST_SCOPES]:
            room -= len(text)
            if room < 0:
                break
            fitting.append(text)
        return sorted(fitting)

    def methods(self, name: str, value: Any) -> Any:
        """Return authentication methods, from any form they are written in, as a list."""
        words = self._words(value)
        if words is None:
            return value
        kept = self._cleaned_words(name, [word.strip() for word in words if word.strip()], LONGEST_METHOD)
        if len(kept) > MOST_METHODS:
            self.repaired.add(name)
        return kept[:MOST_METHODS]

    def _words(self, value: Any) -> list[str] | None:
        """Return the words of a list or of a text; None when the value is neither."""
        if isinstance(value, str):
            listed = _listed(value)
            value = [word for word in _WORDS.split(value) if word] if listed is None else listed
        if not isinstance(value, list):
            return None
        words = [word.get("method") if isinstance(word, dict) else word for word in value if word is not None]
        texts = [word for word in words if isinstance(word, str)]
        return texts if len(texts) == len(words) else None

    def _cleaned_words(self, name: str, words: list[str], longest: int) -> list[str]:
        not_sent = self._unavailable | {PLACEHOLDER}
        sent = [word for word in words if word not in not_sent]
        kept = [clean for word in sent if (clean := cleaned(word)[:longest].strip()) and clean not in not_sent]
        if kept != sent:
            self.repaired.add(name)
        return kept

    def flag(self, _name: str, value: Any) -> Any:
        """Return a boolean; databases may send 0 and 1, or text."""
        if isinstance(value, str):
            word = value.strip().lower()
            return True if word in _TRUE else False if word in _FALSE else value
        return bool(value) if value in (0, 1) and not isinstance(value, bool) else value

    def number(self, _name: str, value: Any) -> Any:
        """Return a number; decimal columns are sent as text."""
        if isinstance(value, str):
            return float(value) if _DIGITS.fullmatch(value) else value if value.strip() else None
        return value

    def time(self, _name: str, value: Any) -> Any:
        """Return a time unchanged: it is parsed when the event is built."""
        return value

    def address(self, name: str, value: Any) -> Any:
        """Return an address; `""` when it is unknown, and the first one of several.

        Clients choose what their proxies put first in a list: entries that are no address are skipped.
        """
        if not isinstance(value, str):
            return value
        text = value.strip()
        if text.lower() in UNKNOWN_ADDRESSES or (text.startswith("_") and "," not in text):
            return ""
        if "," not in text:
            return value
        self.repaired.add(name)
        parts = (part.strip() for part in text.split(",", MOST_ADDRESSES)[:MOST_ADDRESSES])
        return next((part for part in parts if part.lower() not in UNKNOWN_ADDRESSES and _is_address(part)), "")

    def document(self, name: str, value: Any) -> Any:
        """Return an object, also from its JSON text; None when it is too large."""
        if isinstance(value, str):
            value = self._read_document(value)
        if value == []:
            return {}  # PHP encodes an empty object as an empty list
        if not isinstance(value, dict):
            return value
        try:
            text = orjson.dumps(value)
        except TypeError:
            # Lone surrogates, or integers of more than 64 bits.
            value = _cleaned_document(value)
            self.repaired.add(name)
            return value
        if len(text) > MAX_META_DATA:
            self.repaired.add(name)
            return None
        if b"\\u00" in text and (clean := _cleaned_document(value)) != value:
            self.repaired.add(name)
            return clean
        return value

    def _read_document(self, text: str) -> Any:
        if self._is_unavailable(text) or not text.strip():
            return None
        try:
            return orjson.loads(text)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            return text


def cleaned(text: str) -> str:
    r"""Return a text without control characters. White space becomes a space, and lone surrogates become U+FFFD.

    >>> cleaned("Mozilla/5.0\x00 (X11)\n"), cleaned("plain")
    ('Mozilla/5.0 (X11) ', 'plain')
    """
    if not _UNCLEAN.search(text):
        return text
    return _UNCLEAN.sub("", _SURROGATES.sub("\ufffd", _SPACES.sub(" ", text)))


def is_usable_address(text: str) -> bool:
    """Return whether a text is a known address that needs no normalisation."""
    try:
        return canonical_ip(text) not in UNKNOWN_ADDRESSES
    except ValueError:
        return False


def _listed(value: Any) -> list[Any] | None:
    """Return the items of a text that is a JSON array or a PostgreSQL array; None for any other value."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    if text[:1] == "[" and text[-1:] == "]":
        try:
            found = orjson.loads(text)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            return None
        return found if isinstance(found, list) else None
    if text[:1] == "{" and text[-1:] == "}" and not _is_object(text):
        pairs = _QUOTED.findall(text[1:-1])
        return [(quoted or bare.strip()).replace('\\"', '"') for quoted, bare in pairs]
    return None


def _is_object(text: str) -> bool:
    try:
        orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return False
    return text != "{}"


def _dumped(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return str(value)


def _cleaned_document(value: Any) -> Any:
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, list):
        return [_cleaned_document(each) for each in value]
    if isinstance(value, dict):
        return {cleaned(name): _cleaned_document(each) for name, each in value.items()}
    return _short(value) if isinstance(value, int) else value


def _short(value: int) -> float | int | None:
    """Return an integer in a form that JSON libraries can write: above 64 bits a float, or None if out of its range."""
    if -(1 << 63) <= value < 1 << 64:
        return value
    try:
        return float(value)
    except OverflowError:
        return None


_NORMALISERS: dict[str, Callable[[Fields, str, Any], Any]] = {
    "uid": Fields.uid,
    "created_at": Fields.time,
    "updated_at": Fields.time,
    "is_deleted": Fields.flag,
    "meta_data": Fields.document,
    "user_id": Fields.identifier,
    "tenant_id": Fields.identifier,
    "workspace_id": Fields.label,
    "aud": Fields.audience,
    "scopes": Fields.scopes,
    "amr": Fields.methods,
    "last_used_at": Fields.time,
    "max_age_minutes": Fields.number,
    "user_agent": Fields.header,
    "ip": Fields.address,
    "location": Fields.header,
    "session_type": Fields.text,
}
