"""A replay that runs out of disk or of file descriptors: it ends in bounded time and says why."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from worker.embedded.store import OPEN_FILES

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 90
"""A replay that is stuck is ended after this; one that gives up takes about ten on a quiet machine."""
# As the command, but it gives up on inserts after a second instead of half a minute.
REPLAY = (
    "import sys, worker.apps.replay_run as r; r.PATIENCE_SECONDS = 1.0; from worker.cli import run; sys.exit(run())"
)
LINES, DISK = 4_000, "2200k"
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]


def events(path: Path, lines: int) -> Path:
    """Write events that do not compress."""
    chance = random.Random(1)
    template = {
        "tenant_id": "acme", "created_at": "2026-01-01T10:00:00Z", "last_used_at": "2026-01-01T10:00:00Z",
        "ip": "198.51.100.7", "session_type": "regular_login", "amr": ["password"], "max_age_minutes": 60,
    }  # fmt: skip
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            agent, uid = f"{chance.getrandbits(1600):0400x}", f"{chance.getrandbits(64):x}"
            file.write(json.dumps({**template, "uid": uid, "user_id": f"u{number}", "user_agent": agent}) + "\n")
    return path


def replay(
    tmp_path: Path, command: list[str], before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONWATCH_")}
    return subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False,
        preexec_fn=before,
    )  # fmt: skip


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that says why a command failed."""
    assert done.returncode not in (0, -9), done.stdout
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    return line


def may_mount() -> bool:
    """Say whether this user may mount a file system of its own."""
    if shutil.which("unshare") is None:
        return False
    probe = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="needs user namespaces (unshare --user --mount)")
def test_a_full_disk_ends_a_replay_with_the_reason(tmp_path: Path) -> None:
    events(tmp_path / "in.jsonl", LINES)
    (tmp_path / "disk").mkdir()
    mounted = f'mount -t tmpfs -o size={DISK} tmpfs disk && exec "$@"'
    run = [sys.executable, "-c", REPLAY, "replay", "in.jsonl", "--data-dir", "disk/data", "--json"]
    done = replay(tmp_path, [*UNSHARE, "sh", "-c", mounted, "sh", *run])
    found = reason(done)
    assert "not enough space" in found
    assert "free space on the store's disk" in found
    assert not done.stdout


@pytest.mark.parametrize("files", [16, 300])
def test_too_few_file_descriptors_end_a_replay_with_the_reason(tmp_path: Path, files: int) -> None:
    events(tmp_path / "in.jsonl", 10)
    run = [sys.executable, "-c", REPLAY, "replay", "in.jsonl", "--data-dir", "data", "--json"]
    done = replay(tmp_path, run, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)))
    assert "ulimit -n" in reason(done)


def test_a_limit_that_may_be_raised_is_raised(tmp_path: Path) -> None:
    source = "import resource as r; from worker.embedded.store import enough_files; enough_files(); "
    run = [sys.executable, "-c", f"{source}print(r.getrlimit(r.RLIMIT_NOFILE)[0])"]
    done = replay(tmp_path, run, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, OPEN_FILES * 2)))
    assert int(done.stdout) == OPEN_FILES
