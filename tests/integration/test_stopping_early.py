"""Commands that are told to stop while they start: they end with a documented code, and leave nothing behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

CATCHES_SIGTERM = 1 << (signal.SIGTERM - 1)
SOON = 60.0
OK, INTERRUPTED = 0, 130
EVENT = {"uid": "s", "user_id": "u", "tenant_id": "acme", "ip": "198.51.100.7", "user_agent": "curl/8"}
COMMANDS = {
    "worker": (["worker", "--embedded"], OK),
    "alerts": (["alerts"], OK),
    "demo": (["demo"], INTERRUPTED),
    "replay": (["replay", "in.jsonl"], INTERRUPTED),
    "simulate": (["simulate", "--warmup-days", "0.01"], INTERRUPTED),
}


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


def status(pid: int) -> dict[str, str]:
    """Return what the kernel says of a process; nothing when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii", errors="replace").splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def catches_sigterm(pid: int) -> bool:
    return bool(int(status(pid).get("SigCgt", "0"), 16) & CATCHES_SIGTERM)


def children(pid: int) -> list[int]:
    found = {int(path.name): status(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
    return [child for child, said in found.items() if said.get("PPid") == str(pid)]


def as_background_job() -> None:
    """Ignore SIGINT, as the jobs do that a shell starts with `&`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def start(tmp_path: Path, arguments: list[str], bootstrap: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONWATCH_")}
    environment = {
        **clean,
        "SESSIONWATCH_DATA_DIR": str(tmp_path / "data"),
        "SESSIONWATCH_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "SESSIONWATCH_WEB__PORT": "0",
        "SESSIONWATCH_ALERTS__WEB_PORT": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "worker.cli", *arguments], env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=as_background_job,  # noqa: PLW1509  one call
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_command_told_to_stop_while_it_starts(
    embedded_broker: Any, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps(EVENT) + "\n", "utf-8")
    arguments, code = COMMANDS[name]
    process = start(tmp_path, arguments, embedded_broker.bootstrap_servers)
    try:
        until(lambda: catches_sigterm(process.pid) or process.poll() is not None, "the command handles signals")
        time.sleep(random.Random(f"{name} {number}").uniform(0, 3))
        left = children(process.pid)
        process.send_signal(number)
        _, errors = process.communicate(timeout=SOON)
    finally:
        process.kill()
    assert process.returncode in (code, INTERRUPTED if name != "replay" else OK), errors
    assert "Traceback" not in errors
    until(
        lambda: not any(status(pid).get("State", "Z").startswith(("R", "S", "D")) for pid in left), "its processes end"
    )
