"""How long a worker takes to recover a million sessions from the changelog. Prints one JSON object.

The states are real ones: the pipeline makes them from simulated events, and then each stands for many users.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaProducer

from bench.memory import CHUNK, Taken, heart
from bench.processes import resident
from bench.setting import PARTITIONS, POLL_SECONDS, Setting, say
from schemas.keys import partition_of
from worker.embedded.broker import EmbeddedBroker
from worker.sessions.fold import is_live
from worker.sessions.limits import HOUR
from worker.sessions.state import decode_user, is_user
from worker.simulator import Simulator, profile
from worker.stream.state_store import MemoryShard
from worker.stream.topics import changelog_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

USERS, EVENTS, RATE = 20_000, 200_000, 15.0
"""A fifth of the benchmark's, with the same number of events a user, as densely."""
SPAN = 4 * HOUR


class States(NamedTuple):
    """Encoded states by key, and how many active sessions are in them."""

    by_key: Mapping[bytes, bytes]
    sessions: int


def make_states() -> States:
    """Return what the pipeline keeps of simulated events, the newest of which is of now."""
    now = int(time.time() * 1000)
    pipeline = heart()
    simulator = Simulator(profile("benchmark", start_ms=now - SPAN, users=USERS, rate=RATE, max_events=EVENTS))
    shard, chunk = MemoryShard(), list[Taken]()
    for offset, event in enumerate(simulator.events()):
        chunk.append(Taken(event.value, offset, int(event.arrival_ms), b""))
        if len(chunk) == CHUNK:
            pipeline.process(0, chunk, shard)
            chunk.clear()
    pipeline.process(0, chunk, shard)
    by_key = {key: state for key, state in shard.items() if is_user(state)}
    users = map(decode_user, by_key.values())
    live = sum(is_live(session, now) for user in users for session in user.current.sessions.values())
    return States(by_key, live)


def copies(states: States, sessions: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the states again and again, each time of other users, until they hold so many sessions."""
    for number in range(-(-sessions // states.sessions)):
        for key, state in states.by_key.items():
            yield b"%d-%b" % (number, key), state


async def fill(setting: Setting, states: States, sessions: int) -> tuple[int, int]:
    """Write a changelog; return how many states it has, and their bytes."""
    topic, count, size = changelog_name(setting.name), 0, 0
    async with AIOKafkaProducer(**setting.options, linger_ms=20, max_batch_size=1 << 19) as producer:
        for key, state in copies(states, sessions):
            await producer.send(topic, state, key, partition_of(key, PARTITIONS))
            count, size = count + 1, size + len(state)
    return count, size


def recover(setting: Setting, states: int) -> dict[str, Any]:
    """Start a worker; return how long it took to take part with so many states, and how long of that was recovery."""
    started = time.perf_counter()
    with setting.process("worker.cli", "worker") as worker:
        while not setting.metric("sessionwatch_ready"):
            if worker.poll() is not None:
                raise SystemExit(f"the worker ended: {(setting.directory / 'log').read_text()[-2000:]}")
            time.sleep(POLL_SECONDS)
        found = {
            "recovery_seconds": round(setting.metric("sessionwatch_recovery_seconds"), 1),
            "start_to_ready_seconds": round(time.perf_counter() - started, 1),
            "resident_mib": round(resident([worker.pid]) / 2**20),
        }
        # The state is sampled every now and then.
        while not (users := setting.metric("sessionwatch_state_users")):
            time.sleep(POLL_SECONDS)
        if round(users) != states:
            raise SystemExit(f"{users:,.0f} states were recovered, not {states:,}")
        return found


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, EmbeddedBroker(Path(scratch) / "broker.log") as broker:
        setting = Setting(broker, Path(scratch), "recovery")
        say("making states …")
        states = make_states()
        say(f"… of {states.sessions:,} active sessions; writing the changelog …")
        count, size = asyncio.run(fill(setting, states, asked.sessions))
        say(f"… of {count:,} states, {size / 2**20:,.0f} MiB; recovering …")
        sessions = -(-asked.sessions // states.sessions) * states.sessions
        print(
            json.dumps({"sessions": sessions, "states": count, "mib": round(size / 2**20), **recover(setting, count)})
        )


if __name__ == "__main__":
    main()
