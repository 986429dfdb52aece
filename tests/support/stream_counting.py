"""A processor, a writer and a model for the tests of the stream layer: it counts and sums what each key got.

It keeps the contract a real processor keeps: a record is skipped when the state of its key has seen its offset,
and a record whose key belongs to another partition is forwarded, with its origin in its headers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from faust.types import TP

from schemas.keys import partition_of
from worker.observe.interface import StreamObserver
from worker.pipeline.ports import BatchResult, Message
from worker.settings import TopicSettings
from worker.stream.app import create_app
from worker.stream.inflight import DeliveryLimits
from worker.stream.options import StreamOptions
from worker.stream.run import run_worker
from worker.stream.timers import NEVER
from worker.stream.topics import create, specs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from worker.pipeline.ports import Record, Shard

SESSION_TIMEOUT = 1.5


def encode(wake: int, **state: Any) -> bytes:
    return bytes([1]) + wake.to_bytes(8, "big") + json.dumps(state).encode()


def decode(state: bytes | None) -> dict[str, Any]:
    return json.loads(state[9:]) if state else {"n": 0, "sum": 0, "seen": {}}


class Counting:
    """Rows: (origin partition, origin offset, key, count, sum). A value of b"boom" raises."""

    def __init__(self, partitions: int, by_user: str, *, wake_after: int | None = None) -> None:
        self.partitions = partitions
        self.by_user = by_user
        self.wake_after = wake_after
        self.policies: dict[str, bytes | None] = {}
        self.first_policies: dict[str, bytes | None] | None = None

    def process(self, partition: int, records: Sequence[Record], shard: Shard) -> BatchResult:
        if self.first_policies is None:
            self.first_policies = dict(self.policies)
        outcome = BatchResult()
        states: dict[bytes, dict[str, Any]] = {}
        wakes: dict[bytes, int] = {}
        rows = []
        for record in records:
            if record.value == b"boom":
                raise ValueError("boom")
            key = record.key or b""
            headers = dict(record.headers)
            origin = (int(headers["partition"]), int(headers["offset"])) if headers else (partition, record.offset)
            if partition_of(key, self.partitions) != partition:
                outcome.messages.append(self._forward(record, key))
                continue
            state = states.setdefault(key, decode(shard.get(key)))
            if state["seen"].get(str(origin[0]), -1) >= origin[1]:
                continue
            state["seen"][str(origin[0])] = origin[1]
            state["n"] += 1
            state["sum"] += int(record.value or b"0")
            wakes[key] = NEVER if self.wake_after is None else record.timestamp + self.wake_after
            rows.append((*origin, key.decode(), state["n"], state["sum"]))
        # Those of which everything was seen before stay as they are, and when to wake them, too.
        for key, wake in wakes.items():
            encoded = encode(wake, **states[key])
            shard.put(key, encoded)
            outcome.states[key] = encoded
        if rows:
            outcome.rows["events"] = rows
        return outcome

    def _forward(self, record: Record, key: bytes) -> Message:
        headers = (("partition", b"%d" % record.partition), ("offset", b"%d" % record.offset))
        return Message(self.by_user, key, record.value, headers, partition_of(key, self.partitions), record.timestamp)

    def fire_timers(self, partition: int, now: int, shard: Shard) -> BatchResult:  # noqa: ARG002  the port's signature
        outcome = BatchResult()
        for key in shard.pop_due(now):
            shard.put(key, None)
            outcome.states[key] = None
            outcome.rows.setdefault("ended", []).append((key.decode(), now))
        return outcome

    def set_policy(self, tenant: str, value: bytes | None) -> None:
        self.policies[tenant] = value


class ListWriter:
    """Keeps rows in memory; can be held up."""

    def __init__(self) -> None:
        self.rows: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self.times: list[float] = []
        self.sizes: list[int] = []
        self.go = asyncio.Event()
        self.go.set()

    async def insert(self, rows: Mapping[str, list[tuple[object, ...]]]) -> None:
        await self.go.wait()
        await asyncio.sleep(0.005)
        for table, added in rows.items():
            self.rows[table].extend(added)
        self.sizes.append(sum(map(len, rows.values())))
        self.times.append(asyncio.get_running_loop().time())


class FileWriter:
    """Appends rows to a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def insert(self, rows: Mapping[str, list[tuple[object, ...]]]) -> None:
        lines = [json.dumps([table, *row]) + "\n" for table, added in rows.items() for row in added]
        await asyncio.sleep(0.01)
        with self._path.open("a") as file:
            file.write("".join(lines))


def options(bootstrap: str) -> dict[str, Any]:
    return {"bootstrap_servers": bootstrap}


def names(group: str, partitions: int) -> TopicSettings:
    return TopicSettings(
        events=f"{group}.in",
        by_user=f"{group}.by-user",
        dlq=f"{group}.dlq",
        findings=f"{group}.findings",
        policies=f"{group}.policies",
        partitions=partitions,
    )


def settings(bootstrap: str, group: str, partitions: int, **changes: Any) -> StreamOptions:
    topics = names(group, partitions)
    return StreamOptions(
        **{
            "kafka": options(bootstrap),
            "group": group,
            "events": topics.events,
            "by_user": topics.by_user,
            "dlq": topics.dlq,
            "policies": topics.policies,
            "partitions": partitions,
            "session_timeout": SESSION_TIMEOUT,
            "commit_interval": 0.3,
            "batch_records": 200,
            "timer_interval": 0.1,
            **changes,
        }
    )


async def make_topics(bootstrap: str, group: str, partitions: int) -> TopicSettings:
    topics = names(group, partitions)
    await create(options(bootstrap), specs(topics, group))
    return topics


Event = tuple[int, bytes, bytes]


def events(count: int, partitions: int, *, keys: int = 50, stray: int = 5, start: int = 0) -> list[Event]:
    """(partition, key, value); every `stray`th lies in a partition that is not its key's."""
    made = []
    for i in range(start, start + count):
        key = b"tenant/user-%d" % (i * 7 % keys)
        home = partition_of(key, partitions)
        made.append(((home + (i % stray == 0)) % partitions, key, b"%d" % i))
    return made


async def produce(bootstrap: str, topic: str, made: Iterable[Event], *, timestamp: int | None = None) -> dict[TP, int]:
    """Return the offset after the last record of each partition."""
    producer = AIOKafkaProducer(**options(bootstrap), linger_ms=5)
    await producer.start()
    try:
        futures = [
            await producer.send(topic, value, key, partition=partition, timestamp_ms=timestamp)
            for partition, key, value in made
        ]
        ends: dict[TP, int] = {}
        for sent in await asyncio.gather(*futures):
            tp = TP(sent.topic, sent.partition)
            ends[tp] = max(ends.get(tp, 0), sent.offset + 1)
        return ends
    finally:
        await producer.stop()


def totals(made: Iterable[Event]) -> dict[str, tuple[int, int]]:
    """What each key must have got in the end: how many, and their sum."""
    result: dict[str, tuple[int, int]] = {}
    for _, key, value in made:
        n, total = result.get(key.decode(), (0, 0))
        result[key.decode()] = n + 1, total + int(value)
    return result


def deduplicated(rows: Iterable[Sequence[Any]]) -> dict[tuple[int, int], tuple[Any, ...]]:
    """Rows by origin, as the store collapses them; a row that came twice must have been the same both times."""
    result: dict[tuple[int, int], tuple[Any, ...]] = {}
    for row in rows:
        origin, rest = (row[0], row[1]), tuple(row[2:])
        assert result.setdefault(origin, rest) == rest, f"{origin}: {result[origin]} became {rest}"
    return result


def final_totals(rows: Mapping[tuple[int, int], tuple[Any, ...]]) -> dict[str, tuple[int, int]]:
    """The last count and sum of each key."""
    result: dict[str, tuple[int, int]] = {}
    for key, n, total in rows.values():
        result[key] = max(result.get(key, (0, 0)), (n, total))
    return result


def shard_totals(shards: Iterable[Any]) -> dict[str, tuple[int, int]]:
    """Count and sum of each key in the state."""
    return {
        key.decode(): (state["n"], state["sum"])
        for shard in shards
        for key, raw in shard.items()
        for state in [decode(raw)]
    }


def fault_at(step: str, times: int) -> Any:
    """Return a fault point that ends the process when a step is passed for the n-th time."""
    left = times

    def fault(passed: str) -> None:
        nonlocal left
        left -= passed == step
        if passed == step and left == 0:
            os._exit(77)

    return fault


class Reporting(StreamObserver):
    """Says on stdout which partitions the worker has."""

    def on_assigned(self, partitions: Iterable[int]) -> None:
        sys.stdout.write(json.dumps(list(partitions)) + "\n")
        sys.stdout.flush()


def child(raw: str) -> int:
    """Run a worker as the tests' child process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = json.loads(raw)
    group, partitions = args["group"], args["partitions"]
    fault = fault_at(args["fault"], args["times"]) if args.get("fault") else None

    def make() -> Any:
        return create_app(
            settings(
                args["bootstrap"], group, partitions, limits=DeliveryLimits(insert_rows=100, insert_delay=0.05),
                batch_records=50, **args.get("settings", {}),
            ),
            Counting(partitions, names(group, partitions).by_user),
            FileWriter(Path(args["rows"])),
            observer=Reporting(),
            faults=fault,
        )  # fmt: skip

    return run_worker(make)


if __name__ == "__main__":
    sys.exit(child(sys.argv[1]))
