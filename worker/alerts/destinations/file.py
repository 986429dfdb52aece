"""A file of OCSF documents, one document a line."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from worker.alerts.alert import Digest  # noqa: TC001  the port's signature
from worker.alerts.destinations.base import NOTHING
from worker.alerts.outcome import Outcome, Result

if TYPE_CHECKING:
    from pathlib import Path

    from worker.alerts.alert import Alert
    from worker.alerts.config import File


class FileSender:
    """Appends lines. A line is synced to disk before it counts as delivered."""

    def __init__(self, config: File) -> None:
        self._path = config.path

    async def send(self, alert: Alert) -> Result:
        """Append one line."""
        try:
            await asyncio.to_thread(append, self._path, alert.document)
        except OSError as error:
            return Result(Outcome.UNAVAILABLE, error=f"not written: {error.strerror}")
        return Result(Outcome.DELIVERED)

    async def send_digest(self, digest: Digest) -> Result:
        """Not called: machines get no digests."""
        del digest
        return NOTHING

    async def close(self) -> None:
        """Do nothing: the file is closed after each line."""


def append(path: Path, line: bytes) -> None:
    """Append a line and sync it to disk. If a crash left an incomplete line, end that line first.

    Raises:
        OSError: the file cannot be written.
    """
    number = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(number).st_size
        torn = size > 0 and os.pread(number, 1, size - 1) != b"\n"
        data = (b"\n" if torn else b"") + line + b"\n"
        if os.write(number, data) != len(data):
            raise OSError(28, "No space left on device")
        os.fsync(number)
    finally:
        os.close(number)
