"""`AuthSession`: the session record as producers send it, validated directly from its bytes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Annotated, Any, Final, Required

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter
from typing_extensions import TypedDict

EARLIEST, LATEST = 631_152_000_000, 4_102_444_800_000
"""Start of the years 1990 and 2100, in milliseconds. Times outside are rejected."""
_IPV4_PORT = re.compile(r"^(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}$")
# Suffix that PostgreSQL's type `inet` writes after a single address.
_HOST_LENGTH = re.compile(r"/(?:32|128)$")
_IPV6_PORT = re.compile(r"^\[([^\]]+)\](?::\d{1,5})?$")


def milliseconds(stamp: str | float) -> int:
    """Return a timestamp in milliseconds since the epoch; 0 for values that systems write for "no time".

    Args:
        stamp: RFC 3339 or ISO 8601 text (UTC if it has no zone), or seconds, milliseconds, microseconds or nanoseconds
            since the epoch, as a number or text. The unit is derived from the size: below 1e11, 1e14, 1e17, or above.

    Raises:
        ValueError: the value is not a timestamp.
        OutOfRangeError: the time is before 1990 or after 2099.
    """
    if isinstance(stamp, str) and not stamp.isdigit():
        try:
            moment = _parse(stamp)
        except ValueError:
            return _bounded(_parse_loosely(stamp))
        found = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    else:
        found = _scaled(int(stamp[:20]) if isinstance(stamp, str) else stamp)
    if EARLIEST <= found < LATEST:
        return found
    return _bounded(found)


def _bounded(found: int) -> int:
    if EARLIEST <= found < LATEST:
        return found
    if found in _UNSET or found < _YEAR_2:
        return 0
    raise OutOfRangeError("the time is before 1990 or after 2099")


_YEAR_2 = -62_104_060_800_000
"""Start of the year 2, in milliseconds. The zero time of Go and .NET is before it, in any zone and unit."""
_UNSET = frozenset({0, -11_644_473_600_000, -6_847_804_800_000, -2_209_161_600_000, -2_208_988_800_000})
"""Zero times of Unix, Windows file times (1601), SQL Server (1753), OLE (1899-12-30) and Excel (1900)."""
_NUMBER = re.compile(r"[-+]?\d{1,20}(?:\.\d*)?(?:[eE][-+]?\d{1,2})?")
_STAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt_ ](\d\d:\d\d)(?::(\d\d)([.,]\d+)?)?\s*(?:([zZ])|([-+]\d\d)(?::?(\d\d))?)?"
    r"(?:\s*\(?(?:UTC|GMT|Z)\)?)?(?:\s+m=\S+)?",
    re.IGNORECASE,
)
"""RFC 3339 and the variants of databases and languages, such as Go's `2026-03-02 08:41:07.25 +0000 UTC`."""
_NOTHING = frozenset({"", "null", "none", "never", "infinity", "-infinity", "n/a", "-"})


def _parse_loosely(text: str) -> int:
    """Return a timestamp that the standard library cannot parse, in milliseconds; 0 for "no time".

    Raises:
        ValueError: the text is not a timestamp.
    """
    text = text.strip()
    if text.lower() in _NOTHING or text.startswith("0000-"):
        return 0
    if _NUMBER.fullmatch(text):
        return _scaled(float(text))
    found = _STAMP.fullmatch(text)
    if found is None:
        raise ValueError("is not a timestamp")
    day, minute, second, fraction, _, hours, minutes = found.groups()
    # Clocks without leap seconds count a leap second as the first second of the next minute.
    leap, second = (1000, "59") if second == "60" else (0, second or "00")
    zone = f"{hours}:{minutes or '00'}" if hours else "+00:00"
    moment = _parse(f"{day}T{minute}:{second}{(fraction or '').replace(',', '.')[:7]}{zone}")
    return round(moment.timestamp() * 1000) + leap


def _scaled(stamp: float) -> int:
    if isinstance(stamp, bool):
        raise ValueError("a timestamp is text or a number, not a boolean")  # noqa: TRY004  one error for the caller
    for limit, unit in ((1e11, 1000), (1e14, 1), (1e17, 1e-3)):
        if abs(stamp) < limit:
            return round(stamp * unit)
    return round(stamp * 1e-6)


class OutOfRangeError(ValueError):
    """The time is out of the range that a session can have."""


_parse = datetime.fromisoformat
_MAPPED = bytes(10) + b"\xff\xff"
_NAT64 = bytes.fromhex("0064ff9b") + bytes(8)
_NAT64_LOCAL = bytes.fromhex("0064ff9b0001")
_6TO4 = bytes.fromhex("2002")


@lru_cache(maxsize=1 << 16)
def canonical_ip(text: str) -> str:
    """Return an address in canonical form: without port, zone id and prefix length; IPv4 embedded in IPv6 as IPv4.

    Raises:
        ValueError: the text is not an IP address.
    """
    try:
        return _canonical_ip(text)
    except (OSError, ValueError):
        bare = text.strip()
    bare = _HOST_LENGTH.sub("", bare)
    ported = _IPV4_PORT.match(bare) or _IPV6_PORT.match(bare)
    try:
        return _canonical_ip((ported.group(1) if ported else bare).partition("%")[0])
    except (OSError, ValueError):
        raise ValueError("is not an IPv4 or IPv6 address") from None


def _canonical_ip(text: str) -> str:
    # The functions of the C library: those of `ipaddress` take ten times as long.
    if ":" not in text:
        return inet_ntop(AF_INET, inet_pton(AF_INET, text))
    packed = inet_pton(AF_INET6, text)
    inner = _embedded(packed)
    return inet_ntop(AF_INET6, packed) if inner is None else inet_ntop(AF_INET, inner)


def _embedded(packed: bytes) -> bytes | None:
    """Return the IPv4 address that is embedded in an IPv6 address; None when there is none.

    v4-mapped (RFC 4291), NAT64 (RFC 6052, and RFC 8215 with its usual /96), 6to4 (RFC 3056).
    """
    if packed.startswith((_MAPPED, _NAT64)):
        return packed[12:]
    if packed.startswith(_NAT64_LOCAL) and any(packed[12:]):
        return packed[12:]
    return packed[2:6] if packed.startswith(_6TO4) else None


Identifier = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=256)]
Text = Annotated[str, StringConstraints(strict=True, max_length=4096)]
Timestamp = Annotated[
    Annotated[str, StringConstraints(strict=True, max_length=64)] | int | float, Field(union_mode="left_to_right")
]
Word = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=256)]
Method = Annotated[str, StringConstraints(strict=True, to_lower=True, min_length=1, max_length=64)]


class AuthSession(TypedDict, total=False):
    """An authentication session of a user or service. An optional property that is null counts as omitted.

    Only checks of the validator's compiled core are done here. Addresses, ranges of times, NUL characters and duplicate
    keys are checked by `schemas.decoding`, at a lower cost. A dictionary costs half as much as a model.
    """

    __pydantic_config__ = ConfigDict(extra="ignore", hide_input_in_errors=True)  # type: ignore[misc]  # pydantic's way

    uid: Annotated[
        Annotated[str, StringConstraints(strict=True, strip_whitespace=True, max_length=256)] | None,
        Field(description="Unique identifier for the entity."),
    ]
    created_at: Annotated[Timestamp | None, Field(description="Date and time the entity was created.")]
    updated_at: Annotated[Timestamp | None, Field(description="Date and time the entity was last updated.")]
    is_deleted: Annotated[
        Annotated[bool, Field(strict=True)] | None,
        Field(description="Whether the entity has been deleted; false when omitted."),
    ]
    meta_data: Annotated[dict[str, Any] | None, Field(description="Additional properties of the session.")]
    user_id: Required[Annotated[Identifier, Field(description="The user the session belongs to.")]]
    tenant_id: Required[Annotated[Identifier, Field(description="The tenant the session belongs to.")]]
    workspace_id: Annotated[Text | None, Field(description="The workspace the session belongs to.")]
    aud: Annotated[Text | None, Field(description="The audience the session was issued for.")]
    scopes: Annotated[
        Annotated[Annotated[list[Word], Field(max_length=1024)] | Text, Field(union_mode="left_to_right")] | None,
        Field(description="A list, or one text with the scopes separated by spaces."),
    ]
    amr: Annotated[
        Annotated[list[Method], Field(max_length=64)] | None,
        Field(description="Authentication methods used to create the session."),
    ]
    last_used_at: Annotated[
        Timestamp | None, Field(description="Timestamp of the last session refresh (for sliding expiration).")
    ]
    max_age_minutes: Annotated[
        Annotated[float, Field(strict=True, ge=0, le=52_560_000, allow_inf_nan=False)] | None,
        Field(description="Lifetime since the last use, in minutes."),
    ]
    user_agent: Required[Annotated[Text, Field(description="User agent string of the client initiating the session.")]]
    ip: Required[
        Annotated[
            str,
            StringConstraints(strict=True, max_length=128),
            Field(description="IP address from which the session was initiated."),
        ]
    ]
    location: Annotated[Text | None, Field(description="Where the session was initiated.")]
    session_type: Annotated[Text | None, Field(description="An open set (`user`, `service`, …), case-folded.")]


SESSION: Final = TypeAdapter(AuthSession)
"""Validates sessions, from bytes or from objects."""
