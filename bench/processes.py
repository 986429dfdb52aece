"""Processor time and memory of processes, as Linux reports them."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TICKS = os.sysconf("SC_CLK_TCK")
_NUMBER = re.compile(r"[-_#:]?\d+$|^b\d+-")
"""The number at the end of a thread's name, and the prefix of a run's."""


def tree(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    for task in _tasks(pid):
        try:
            children = (task / "children").read_text("ascii").split()
        except OSError:  # it ended
            continue
        for child in children:
            yield from tree(int(child))


def processor_seconds(pids: Iterable[int]) -> float:
    """Return the processor seconds of processes so far, in user and kernel mode, including ended threads."""
    return sum(_seconds(Path(f"/proc/{pid}/stat")) for pid in pids)


def by_thread(pids: Iterable[int]) -> Counter[str]:
    """Return seconds of processor time by name of the thread; the first thread of each process is `main`."""
    found: Counter[str] = Counter()
    for pid in pids:
        for task in _tasks(pid):
            found[_thread_name(task, pid)] += _seconds(task / "stat")
    return found


def resident(pids: Iterable[int]) -> int:
    """Return the resident memory of processes, in bytes."""
    return sum(_resident(pid) for pid in pids)


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _seconds(stat: Path) -> float:
    try:
        fields = stat.read_text("utf-8").rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def _thread_name(task: Path, pid: int) -> str:
    if task.name == str(pid):
        return "main"
    try:
        name = (task / "comm").read_text("utf-8").strip()
    except OSError:
        name = ""
    return _NUMBER.sub("", name) or "other"


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)
