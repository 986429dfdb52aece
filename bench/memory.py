"""Memory a session takes: states of many users built by the real pipeline, and what the process grew by."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from worker.detections.catalogue import detections
from worker.enrich.enricher import build_enricher
from worker.pipeline import Pipeline
from worker.policies import Policies
from worker.sessions.fold import is_live
from worker.sessions.limits import Limits
from worker.sessions.state import decode_user, is_user
from worker.simulator import Simulator, profile
from worker.stream.store import MemoryShard

CHUNK = 4_000


class Taken(NamedTuple):
    """A simulated event as a record."""

    value: bytes
    offset: int
    timestamp: int
    key: bytes
    topic: str = "events"
    partition: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


def resident() -> int:
    """Return the process's resident memory in bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def main() -> None:
    """Print one JSON object."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    users = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    pipeline = Pipeline(
        enricher=build_enricher(None, None),
        judge=Policies(detections().values()).judge,
        topics=SimpleNamespace(by_user="b", starts="s", dlq="d", findings="f"),
        partition_of=lambda _key: 0,
        limits=Limits(),
    )
    shard, chunk = MemoryShard(), []
    events = Simulator(profile("benchmark", users=users, max_events=count)).events()
    first = next(iter(events))
    gc.collect()
    before = resident()
    newest = 0
    for offset, event in enumerate(events):
        newest = max(newest, int(event.arrival_ms))
        chunk.append(Taken(event.value, offset, int(event.arrival_ms), first.key))
        if len(chunk) == CHUNK:
            pipeline.process(0, chunk, shard)
            chunk.clear()
    gc.collect()
    grown = resident() - before
    live = states = 0
    for state in (state for _, state in shard.items()):
        states += len(state)
        if is_user(state):
            live += sum(is_live(session, newest) for session in decode_user(state).head.sessions.values())
    print(
        json.dumps(
            {
                "users": sum(is_user(state) for _, state in shard.items()),
                "active_sessions": live,
                "state_bytes_per_session": round(states / live),
                "resident_bytes_per_session": round(grown / live),
            }
        )
    )


if __name__ == "__main__":
    main()
