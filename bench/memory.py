"""Measures the memory of a session: builds states of many users with the real pipeline, and measures the growth."""

from __future__ import annotations

import gc
import json
import os
import struct
import sys
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

from bench.processes import resident
from worker.detections.policies import Policies
from worker.detections.registry import detections
from worker.enrich.enricher import build_enricher
from worker.pipeline.batch import Pipeline
from worker.pipeline.readers import KafkaReader
from worker.sessions.fold import is_live
from worker.sessions.limits import Limits
from worker.sessions.state import decode_user, is_user
from worker.simulator import Simulator, profile
from worker.stream.state_store import MemoryShard

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def heart(cache_size: int = 1 << 17, geo: tuple[Path | None, Path | None] = (None, None)) -> Pipeline:
    """Return the pipeline with all detections, of one partition."""
    enricher = build_enricher(*geo, cache_size=cache_size)
    enricher.warm()
    return Pipeline(
        reader=KafkaReader(enricher),
        engine_for=Policies(detections().values()).engine_for,
        topics=SimpleNamespace(
            events="events", by_user="b", starts="s", dlq="d", findings="f", incidents="i", feedback="v"
        ),
        partition_of=lambda _key: 0,
        limits=Limits(),
    )


def simulate(path: Path, count: int, users: int) -> None:
    """Write the arrival times and values of simulated events to a file."""
    with path.open("wb") as file:
        for event in Simulator(profile("benchmark", users=users, max_events=count)).events():
            file.write(struct.pack(">QI", int(event.arrival_ms), len(event.value)) + event.value)


def _read(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        while head := file.read(12):
            arrival, size = struct.unpack(">QI", head)
            yield arrival, file.read(size)


def main() -> None:
    """Print one JSON object."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    users = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    # The cache of addresses is bounded and does not grow with sessions, so it is kept small here.
    pipeline = heart(cache_size=1 << 10)
    shard, chunk = MemoryShard(), []
    newest = 0
    with TemporaryDirectory() as directory:
        path = Path(directory, "events")
        # In a separate process, so that the memory of the simulator is not measured.
        simulation = get_context("spawn").Process(target=simulate, args=(path, count, users))
        simulation.start()
        simulation.join()
        gc.collect()
        before = resident([os.getpid()])
        for offset, (arrival, value) in enumerate(_read(path)):
            newest = max(newest, arrival)
            chunk.append(Taken(value, offset, arrival, b""))
            if len(chunk) == CHUNK:
                pipeline.process(0, chunk, shard)
                chunk.clear()
    chunk.clear()
    gc.collect()
    grown = resident([os.getpid()]) - before
    live = states = 0
    for state in (state for _, state in shard.items()):
        states += len(state)
        if is_user(state):
            live += sum(is_live(session, newest) for session in decode_user(state).current.sessions.values())
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
