"""The directories of embedded stores: each command has one of its own below `data_dir`."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from worker.embedded.store import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.embedded.store import Address

STORE, DEMO, REPLAY, WORKER = "store", "demo", "replay", "worker"
DEMOS = 16
"""Most demos that run at once."""
_OF_A_RUN = (STORE, "state")
"""Directories of a finished demo that the next one deletes."""


class NoDirectoryError(Exception):
    """There is no such store or directory; the message says what was searched."""


class DirectoryError(Exception):
    """A directory cannot be written; the message says which, why, and what to do."""


def writable(directory: Path) -> Path:
    """Return a directory after a check that files can be created in it; create it if it is missing.

    Raises:
        DirectoryError: it cannot be created or written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=directory):
            return directory
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        raise DirectoryError(
            f"cannot write to the data directory {directory}: {why}; set data_dir to a directory that can be written"
        ) from error


class StoredAt(NamedTuple):
    """A store's directory, and the address of its server; None when no process serves it."""

    directory: Path
    address: Address | None


@contextmanager
def demo_directory(data_dir: Path, *, keep: bool) -> Iterator[Path]:
    """Yield a directory for a demo, which no other demo uses while the context lasts.

    Args:
        data_dir: the directory is the first of `demo`, `demo-2`, … below it that is free.
        keep: keep the store of the last demo there; otherwise it is deleted.

    Raises:
        NoDirectoryError: all are in use.
    """
    for number in range(1, DEMOS + 1):
        directory = data_dir / (DEMO if number == 1 else f"{DEMO}-{number}")
        writable(directory)
        with (directory / "lock").open("w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if not keep:
                _empty(directory)
            yield directory
            return
    raise NoDirectoryError(f"{DEMOS} demos run in {data_dir} already; set data_dir to another directory")


def _empty(directory: Path) -> None:
    for name in _OF_A_RUN:
        shutil.rmtree(directory / name, ignore_errors=True)


def find_store(data_dir: Path) -> StoredAt:
    """Return the store in a directory, or in one of the commands' directories below it.

    Of several, one that is served takes precedence, then the one that was written last.

    Raises:
        NoDirectoryError: there is no store.
    """
    candidates = [data_dir / STORE]
    if not candidates[0].is_dir():
        candidates = [path for path in data_dir.glob(f"*/{STORE}") if path.is_dir()]
    if not candidates:
        raise NoDirectoryError(f"there is no store in {data_dir}: `demo`, `replay` and `worker --embedded` create one")
    found = [StoredAt(path, running(path)) for path in candidates]
    return max(found, key=lambda each: (each.address is not None, each.directory.stat().st_mtime))
