"""Where rows end in ClickHouse's MsgPack format, which has no marks between them: values, one after the other.

https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import struct

# First byte -> struct of the length that follows it, and bytes that follow a value of fixed size.
LENGTHS = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
ARRAYS = {0xDC: ">H", 0xDD: ">I"}
FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4,
         0xD3: 8}  # fmt: skip


def after(data: bytes, at: int) -> int:
    """Return where the value that begins at `at` ends."""
    first, at = data[at], at + 1
    if first < 0x80 or first >= 0xE0:
        return at
    if 0xA0 <= first < 0xC0:
        return at + (first & 0x1F)
    if 0x90 <= first < 0xA0:
        return _items(data, at, first & 0x0F)
    if first in ARRAYS:
        (count,) = struct.unpack_from(ARRAYS[first], data, at)
        return _items(data, at + struct.calcsize(ARRAYS[first]), count)
    if first in LENGTHS:
        (size,) = struct.unpack_from(LENGTHS[first], data, at)
        return int(at + struct.calcsize(LENGTHS[first]) + size)
    return at + FIXED[first]


def _items(data: bytes, at: int, count: int) -> int:
    for _ in range(count):
        at = after(data, at)
    return at


def first_half(data: bytes, columns: int) -> bytes:
    """Return the first half of the rows, each of so many values; of one row, nothing."""
    ends, at = [0], 0
    while at < len(data):
        at = _items(data, at, columns)
        ends.append(at)
    return data[: ends[len(ends) // 2 if len(ends) > 2 else 0]]
