"""Times of envelopes."""

from __future__ import annotations

from typing import Any

from schemas.decoding.results import Rejected, RejectReason
from schemas.session import OutOfRangeError, milliseconds

NO_TIME = "is neither ISO 8601 text nor a number since the epoch"


def envelope_time(value: Any, field: str) -> int | Rejected | None:
    """Return an envelope's time in milliseconds; None when there is none, a `Rejected` when it is invalid."""
    if value is None:
        return None
    if not isinstance(value, str | int | float):
        return Rejected(RejectReason.WRONG_TYPE, field, "a timestamp is text or a number")
    try:
        return milliseconds(value) or None
    except OutOfRangeError as error:
        return Rejected(RejectReason.OUT_OF_RANGE, field, str(error))
    except (ValueError, OverflowError):
        return Rejected(RejectReason.INVALID_VALUE, field, NO_TIME)
