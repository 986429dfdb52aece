"""CloudEvents 1.0: structured mode, a JSON envelope, and binary mode, with the attributes in the record's headers.

Sources: CloudEvents specification 1.0.2, its JSON event format and its Kafka protocol binding (`ce_` headers).
"""

from __future__ import annotations

import base64
import binascii
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from schemas.decoding import debezium
from schemas.decoding.document import load
from schemas.decoding.results import Envelope, Opened, Rejected, RejectReason, joined
from schemas.decoding.times import envelope_time
from schemas.event import EventKind, Shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from schemas.decoding.results import Opening

END_WORDS = frozenset(
    {"deleted", "delete", "deletion", "revoked", "revoke", "revocation", "ended", "terminated", "terminate",
     "termination", "removed", "destroyed", "expired", "invalidated", "closed", "killed", "logout", "loggedout",
     "logoff", "signout", "signedout", "signoff"}
)  # fmt: skip
"""Words that mean the end of a session, at any position in `type`. The setting `input.end_words` adds to them."""
_END_PAIRS = frozenset({"log out", "logged out", "log off", "logged off", "sign out", "signed out", "signed off"})
_START_WORDS = frozenset(
    {"created", "create", "started", "start", "begin", "began", "established", "opened", "issued", "login", "signin"}
)
_START_PAIRS = frozenset({"log in", "logged in", "sign in", "signed in"})
_USE_WORDS = frozenset({"refreshed", "refresh", "renewed", "extended", "used", "presented", "accessed", "touched"})
_NOTHING_DONE = frozenset(
    {"failed", "failure", "denied", "rejected", "refused", "blocked", "attempt", "attempted", "requested", "error"}
)
"""Words of a `type` that tell of a deed that did not happen, or not yet: the session's own times decide."""
_NEGATIONS = frozenset({"not", "never"})
# Words of a type: between separators, and in camel case.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_HEADER = "ce_"


def kind_of(text: str, end_words: frozenset[str] = END_WORDS) -> EventKind | None:
    """Return the kind of event that a CloudEvents `type` means; None when it does not say.

    >>> kind_of("com.example.session.revoked.v1"), kind_of("com.example.SessionCreated"), kind_of("session.changed")
    (<EventKind.DELETED: 'deleted'>, <EventKind.CREATED: 'created'>, None)
    """
    words = [word.lower() for word in _WORD.findall(text[:1024])]
    said = {word for before, word in zip(["", *words], words, strict=False) if before not in _NEGATIONS}
    if _NOTHING_DONE.intersection(words):
        return None
    pairs = {f"{first} {second}" for first, second in pairwise(words)}
    last = next((word for word in reversed(words) if not (word.isdigit() or word == "v")), "")
    if said & end_words or pairs & _END_PAIRS or last == "end":
        return EventKind.DELETED
    if said & _START_WORDS or pairs & _START_PAIRS:
        return EventKind.CREATED
    return EventKind.REFRESHED if said & _USE_WORDS else None


def attributes_of(headers: Sequence[tuple[str, bytes]]) -> dict[str, str] | None:
    """Return the attributes of an event in binary mode, by name; None when the headers contain no event."""
    found = {
        name[len(_HEADER) :].lower(): value.decode("utf-8", "replace")
        for name, value in headers
        if name[: len(_HEADER)].lower() == _HEADER and value is not None
    }
    return found if "specversion" in found else None


def open_structured(document: dict[str, Any], end_words: frozenset[str]) -> Opening:
    """Open a structured envelope."""
    body, path = document.get("data"), "data"
    if body is None and "data_base64" in document:
        body, path = _unpacked(document["data_base64"]), "data_base64"
    elif isinstance(body, str):
        body = _parsed(body, path)
    if isinstance(body, Rejected):
        return body
    return _open(document, body, "data", end_words)


def open_binary(attributes: Mapping[str, str], document: Any, end_words: frozenset[str]) -> Opening:
    """Open an event whose attributes are the record's headers and whose data is its value."""
    return _open(attributes, document, "", end_words)


def _open(attributes: Mapping[str, Any], body: Any, path: str, end_words: frozenset[str]) -> Opening:
    header = "" if path else "headers.ce_"
    if attributes["specversion"] != "1.0":
        return Rejected(RejectReason.UNKNOWN_ENVELOPE, f"{header}specversion", "only CloudEvents 1.0 is understood")
    time = envelope_time(attributes.get("time"), f"{header}time")
    if isinstance(time, Rejected):
        return time
    if not isinstance(body, dict):
        return Rejected(RejectReason.MISSING_FIELD, path, "the envelope contains no JSON object")
    if debezium.is_change(body):
        # As Debezium's own CloudEvents converter writes it.
        return debezium.open_change(body, path)
    body, path = _inner(body, path)
    kind = kind_of(str(attributes.get("type", "")), end_words)
    return Opened(Envelope(Shape.CLOUDEVENTS, time, path, kind), body)


def _inner(body: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """Return the row in `{schema, payload}`, as connectors write it."""
    inner = body.get("payload")
    if isinstance(inner, dict) and body.keys() <= {"schema", "payload"}:
        return inner, joined(path, "payload")
    return body, path


def _unpacked(text: Any) -> Any:
    try:
        body = load(base64.b64decode(text, validate=True))
    except (TypeError, ValueError, binascii.Error):
        return Rejected(RejectReason.INVALID_VALUE, "data_base64", "not base64")
    return body._replace(field="data_base64") if isinstance(body, Rejected) else body


def _parsed(text: str, path: str) -> Any:
    """Parse a text as JSON: some producers write `data` as the text of a document."""
    body = load(text.encode("utf-8", "surrogatepass"))
    wrong = "the text is not a JSON object"
    return Rejected(RejectReason.MISSING_FIELD, path, wrong) if isinstance(body, Rejected) else body
