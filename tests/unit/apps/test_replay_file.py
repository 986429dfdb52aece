from __future__ import annotations

from io import BytesIO

import pytest

from worker.apps.replay_file import bounded_lines


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"ab\n\n  \nabcd\ncd", [(1, b"ab"), (4, b"abcd"), (5, b"cd")]),
        (b"abcde\r\nb", [(1, b"abcde"), (2, b"b")]),
        (b"abcdefghijklmnopqrst\nb\n", [(1, b"abcde"), (2, b"b")]),
        (b"          x\nb", [(1, b"     "), (2, b"b")]),
        (b"abcdef", [(1, b"abcde")]),
    ],
)
def test_no_line_is_read_beyond_its_bound(content: bytes, lines: list[tuple[int, bytes]]) -> None:
    """A file without line ends must not fill the memory, and its line is a dead letter and not dropped."""
    assert list(bounded_lines(BytesIO(content), 4)) == lines
