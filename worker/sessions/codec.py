"""Header of every encoded state: one byte of format version, eight bytes of timer time. The state follows.

The timer time is in milliseconds since the epoch, unsigned and big-endian; `NEVER` means no timer.
`worker.stream.timers` reads it without decoding the state. Each kind of state has its own format version.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec
from lz4.block import compress, decompress

T = TypeVar("T")
USER, CORRELATION, BUDGET, INCIDENTS, ROW_OWNER = 1, 2, 3, 4, 5
"""Format versions. A state whose layout changes gets a new number."""
NEVER = 2**64 - 1
_HEADER_BYTES = 9


class UnknownFormatError(Exception):
    """The format of a state is unknown: a newer sessionwatch wrote it. The worker cannot continue without it."""

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
    """Return whether an encoded state has a format."""
    return framed_state[0] == version


class StateFormat(Generic[T]):
    """Encodes and decodes one kind of state: the header, then MessagePack.

    Args:
        version: format version.
        kind: type of the state.
        compressed: whether the MessagePack is compressed as an LZ4 block.
    """

    def __init__(self, version: int, kind: type[T], *, compressed: bool = False) -> None:
        self._version = version
        self._compressed = compressed
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(kind).decode

    def encode(self, state: T, timer: int) -> bytes:
        """Return an encoded state with a timer at `timer`, in milliseconds, or `NEVER`."""
        packed = self._encode(state)
        return framed(self._version, timer, compress(packed) if self._compressed else packed)

    def matches(self, framed_state: bytes) -> bool:
        """Return whether an encoded state is of this kind."""
        return has_format(self._version, framed_state)

    def decode(self, framed_state: bytes) -> T:
        """Return the state that `encode` encoded.

        Raises:
            UnknownFormatError: the state has another format.
        """
        packed = unframed(self._version, framed_state)
        return self._decode(decompress(packed) if self._compressed else packed)
