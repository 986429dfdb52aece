"""Bodies of requests: read and decompressed up to a limit."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Protocol

import lz4.frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class TooLargeError(Exception):
    """The body exceeds the limit, compressed or decompressed."""


class UnknownEncodingError(Exception):
    """The compression of the body is not supported."""


class BadBodyError(Exception):
    """The body does not match its encoding."""


class Decompressor(Protocol):
    """Decompresses a stream by chunks."""

    @property
    def eof(self) -> bool:
        """Whether the stream is complete."""

    def feed(self, chunk: bytes, most: int) -> bytes:
        """Return the decompressed chunk, at most `most` bytes of it."""


class _Plain:
    eof = True

    def feed(self, chunk: bytes, most: int) -> bytes:
        return chunk[:most]


class _Zlib:
    """gzip and deflate."""

    def __init__(self) -> None:
        self._state = zlib.decompressobj(zlib.MAX_WBITS | 32)

    @property
    def eof(self) -> bool:
        return self._state.eof

    def feed(self, chunk: bytes, most: int) -> bytes:
        return self._state.decompress(chunk, most)


class _Bounded:
    """Decompressors with the interface of `bz2.BZ2Decompressor`: LZ4 frames and Zstandard."""

    def __init__(self, state: Any) -> None:
        self._state = state

    @property
    def eof(self) -> bool:
        return bool(self._state.eof)

    def feed(self, chunk: bytes, most: int) -> bytes:
        return bytes(self._state.decompress(chunk, max_length=most))


def _zstd() -> Decompressor:
    from backports import zstd  # noqa: PLC0415  comes with clickhouse-connect

    return _Bounded(zstd.ZstdDecompressor())


_DECOMPRESSORS: dict[str, Callable[[], Decompressor]] = {
    "": _Plain,
    "identity": _Plain,
    "gzip": _Zlib,
    "deflate": _Zlib,
    "lz4": lambda: _Bounded(lz4.frame.LZ4FrameDecompressor()),
    "zstd": _zstd,
}


async def read_body(chunks: AsyncIterator[bytes], encoding: str, largest: int) -> bytes:
    """Return a body, decompressed.

    Args:
        chunks: the chunks of the body.
        encoding: the request's `Content-Encoding`.
        largest: limit in bytes, both compressed and decompressed.

    Raises:
        TooLargeError: the body is larger.
        UnknownEncodingError: the encoding is not supported.
        BadBodyError: the body does not match the encoding.
    """
    if encoding not in _DECOMPRESSORS:
        raise UnknownEncodingError(f"Content-Encoding {encoding[:20]!r} is not served; use gzip, lz4, zstd or none")
    decompressor, body, came = _DECOMPRESSORS[encoding](), bytearray(), 0
    async for chunk in chunks:
        came += len(chunk)
        body += _fed(decompressor, chunk, largest + 1 - len(body))
        if came > largest or len(body) > largest:
            raise TooLargeError(f"the decompressed body exceeds {largest} bytes")
    if came and not decompressor.eof:
        raise BadBodyError("the body ends before its compressed stream does")
    return bytes(body)


def _fed(decompressor: Decompressor, chunk: bytes, most: int) -> bytes:
    try:
        return decompressor.feed(chunk, most)
    except Exception as error:
        raise BadBodyError("the body does not match its Content-Encoding") from error
