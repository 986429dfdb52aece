"""The result of an attempt."""

from __future__ import annotations

import re
from base64 import b64encode
from enum import StrEnum
from html import escape
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_ERROR = 300
SHORTEST_SECRET, SHORTEST_PART = 4, 8
"""Characters from which a secret, and a part of one, is masked."""


_CREDENTIALS = re.compile(r"(?i)\b(basic|bearer) +[\w+/=.~-]{4,}")
"""An `Authorization` header in an answer: user and password stand in it as one word of Base64."""


class Outcome(StrEnum):
    """The outcome of an attempt."""

    DELIVERED = "delivered"
    UNAVAILABLE = "unavailable"
    """The destination did not accept the message, but may accept it later."""
    REFUSED = "refused"
    """The destination did not accept this message, and will not without a correction."""
    GONE = "gone"
    """The destination does not accept messages any more."""
    NOTHING = "nothing"
    """This state has nothing to send to this destination."""


class Result(NamedTuple):
    """Outcome of an attempt.

    Attributes:
        code: protocol's status code, 0 when there is none.
        error: one sentence, without addresses and secrets.
        wait_s: seconds the receiver asked to wait.
    """

    outcome: Outcome
    code: int = 0
    error: str = ""
    wait_s: float | None = None


def scrubbed(text: str, secrets: list[str]) -> str:
    """Return the text with secrets masked, then truncated: half a secret at the end would not be found.

    Args:
        text: text of a receiver or a library.
        secrets: as `spellings` returns them, the longest first.
    """
    text = _CREDENTIALS.sub(r"\1 ***", text)
    for secret in secrets:
        text = text.replace(secret, "***")
    return text[:LONGEST_ERROR]


def spellings(secrets: Iterable[str]) -> list[str]:
    """Return the texts that must not be shown, the longest first: secrets, parts of them, and encoded forms of both.

    >>> spellings(["https://hooks.example.com/services/T0AB12CD/x?code=s3cr3t-c0de"])[-2:]
    ['T0AB12CD', 'services']
    """
    found: set[str] = set()
    for secret in secrets:
        found |= {secret} if len(secret) >= SHORTEST_SECRET else set()
        found |= {part for part in _parts(secret) if len(part) >= SHORTEST_PART}
    found |= {spelled for each in found for spelled in _encoded(each)}
    return sorted(found, key=lambda each: (-len(each), each))


def _parts(secret: str) -> set[str]:
    words = set(secret.split())
    if "://" not in secret:
        return words
    try:
        url = urlsplit(secret)
    except ValueError:
        return words
    user, _, password = url.netloc.rpartition("@")[0].partition(":")
    # The address of a service that is no web address begins with its key, as in `opsgenie://KEY`.
    key = "" if url.scheme in ("http", "https") else url.netloc
    place = secret.partition("://")[2].partition("/")[2]
    values = {value for _, value in parse_qsl(url.query)}
    return words | {user, password, key, place, url.query} | set(url.path.split("/")) | values


def _encoded(text: str) -> set[str]:
    plain = {text, unquote(text)}
    plain |= {b64encode(each.encode("utf-8", "replace")).decode().rstrip("=") for each in plain}
    return {
        spelled
        for each in plain
        for spelled in (each, quote(each, safe=""), quote(each), escape(each), each.replace("/", "\\/"))
    }
