"""The frame of every encoded state: one byte of format version, eight bytes of timer time, then the state.

The timer time is big-endian unsigned milliseconds since the epoch, `NEVER` for none; `worker.stream.timers` reads it
without decoding the state. The format tells the kinds of states apart.
"""

from __future__ import annotations

USER, CORRELATION, BUDGET, INCIDENTS, ROW_OWNER = 1, 2, 3, 4, 5
"""Format versions. A state whose layout changes gets a new number."""
NEVER = 2**64 - 1
_HEADER_BYTES = 9


class UnknownFormatError(Exception):
    """A state of an unknown format, written by a newer sessionwatch. The worker cannot continue without reading it."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"state format {version} is unknown to this version: run the version that wrote it, or a newer one"
        )


def framed(version: int, timer: int, state: bytes) -> bytes:
    """Return an encoded state with its header.

    Args:
        version: format version.
        timer: when the state's timer fires, milliseconds, or `NEVER`.
        state: the encoded state.
    """
    return bytes((version,)) + timer.to_bytes(8, "big") + state


def unframed(version: int, framed_state: bytes) -> memoryview:
    """Return the encoded state without its header.

    Raises:
        UnknownFormatError: the state has another format.
    """
    if framed_state[0] != version:
        raise UnknownFormatError(framed_state[0])
    return memoryview(framed_state)[_HEADER_BYTES:]


def has_format(version: int, framed_state: bytes) -> bool:
    """Tell whether an encoded state has a format."""
    return framed_state[0] == version
