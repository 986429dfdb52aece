"""`AuthSession`: the session record as producers send it, validated straight from the bytes."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

EARLIEST, LATEST = 631_152_000_000, 4_102_444_800_000
"""The years 1990 and 2100 begin: a time outside is no session's. Milliseconds."""
_IPV4_PORT = re.compile(r"^(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}$")
_IPV6_PORT = re.compile(r"^\[([^\]]+)\](?::\d{1,5})?$")


def milliseconds(stamp: str | float) -> int:
    """Return milliseconds since the epoch of a timestamp.

    Args:
        stamp: ISO 8601 text (UTC without a zone), or epoch seconds, milliseconds, micro- or nanoseconds, told apart
            by their size (up to 1e11, 1e14, 1e17), as a number or as digits.

    Raises:
        ValueError: it is none of these.
        OutOfRangeError: it lies before 1990 or after 2099.
    """
    if isinstance(stamp, str):
        if not stamp.isdigit():
            return _in_range(_iso(stamp))
        stamp = int(stamp[:20])
    if isinstance(stamp, bool):
        raise ValueError("a timestamp is text or a number, not a boolean")  # noqa: TRY004  one error for the caller
    for limit, unit in ((1e11, 1000), (1e14, 1), (1e17, 1e-3)):
        if abs(stamp) < limit:
            return _in_range(round(stamp * unit))
    return _in_range(round(stamp * 1e-6))


def _iso(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _in_range(stamp: int) -> int:
    if EARLIEST <= stamp < LATEST:
        return stamp
    raise OutOfRangeError("a time before 1990 or after 2099 is no session's")


class OutOfRangeError(ValueError):
    """A time no session can have."""


@lru_cache(maxsize=1 << 16)
def canonical_ip(text: str) -> str:
    """Return an address in its canonical form: no port, no zone id, v4-mapped v6 as v4.

    Raises:
        PydanticCustomError: it is not an IP address.
    """
    bare = text.strip()
    ported = _IPV4_PORT.match(bare) or _IPV6_PORT.match(bare)
    bare = (ported.group(1) if ported else bare).partition("%")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise PydanticCustomError("ip_address", "is not an IPv4 or IPv6 address") from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


Identifier = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=256)]
Text = Annotated[str, StringConstraints(strict=True, max_length=4096)]
Timestamp = Annotated[str, StringConstraints(strict=True, max_length=64)] | int | float
Word = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=256)]
Method = Annotated[str, StringConstraints(strict=True, to_lower=True, min_length=1, max_length=64)]


class AuthSession(BaseModel):
    """An authentication session of a user or service. An optional property that is null counts as omitted.

    Only what the validator's compiled core does is checked here; ranges of times, NUL characters and doubled keys
    are checked by `schemas.inbound`, where they cost less.
    """

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    uid: Annotated[str, StringConstraints(strict=True, strip_whitespace=True, max_length=256)] | None = Field(
        None, description="Unique identifier for the entity."
    )
    created_at: Timestamp | None = Field(None, description="Date and time the entity was created.")
    updated_at: Timestamp | None = Field(None, description="Date and time the entity was last updated.")
    is_deleted: Annotated[bool, Field(strict=True)] | None = Field(
        default=False, description="Whether the entity has been deleted."
    )
    meta_data: dict[str, Any] | None = None
    user_id: Identifier
    tenant_id: Identifier
    workspace_id: Text | None = None
    aud: Text | None = None
    scopes: Annotated[list[Word], Field(max_length=1024)] | Text | None = Field(
        None, description="A list, or one text with the scopes separated by spaces."
    )
    amr: Annotated[list[Method], Field(max_length=64)] | None = Field(
        None, description="Authentication methods used to create the session."
    )
    last_used_at: Timestamp | None = Field(
        None, description="Timestamp of the last session refresh (for sliding expiration)."
    )
    max_age_minutes: Annotated[float, Field(strict=True, ge=0, le=52_560_000, allow_inf_nan=False)] | None = None
    user_agent: Annotated[Text, Field(description="User agent string of the client initiating the session.")]
    ip: Annotated[
        str,
        StringConstraints(strict=True, max_length=128),
        AfterValidator(canonical_ip),
        Field(description="IP address from which the session was initiated."),
    ]
    location: Text | None = None
    session_type: Text | None = Field(None, description="An open set (`user`, `service`, …), case-folded.")
