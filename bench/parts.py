"""Measures the unavoidable parts of a worker, each alone, in microseconds of processor time an event.

python -m bench.parts [--events 60000]. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import deque
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from aiokafka import AIOKafkaProducer

from bench.memory import CHUNK, Taken, heart
from bench.mixes import MIXES, simulator
from bench.processes import processor_seconds
from schemas.decoding import Decoder
from schemas.event import SessionEvent
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect, write_rows
from worker.embedded.access import Role
from worker.embedded.broker import EmbeddedBroker
from worker.embedded.store import EmbeddedStore
from worker.enrich.enricher import build_enricher
from worker.sessions.state import decode_user, encode_user, is_user
from worker.simulator import write_geo
from worker.stream.state_store import MemoryShard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from worker.pipeline.batch import Pipeline

INSERT_ROWS = 20_000
STATES = 20_000


def cost(events: int, work: Callable[[], object]) -> float:
    """Return microseconds of processor time an event of some work."""
    begun = time.process_time()
    work()
    return round((time.process_time() - begun) * 1e6 / max(events, 1), 1)


def each_of(work: Callable[[Any], object], items: Iterable[Any]) -> Callable[[], object]:
    """Return a function that does some work for every item and discards the results."""
    return lambda: deque(map(work, items), maxlen=0)


def pieces(records: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield the records in slices of `size`."""
    return (records[start : start + size] for start in range(0, len(records), size))


def parts(records: Sequence[Taken], pipeline: Pipeline, geo: tuple[Path, Path]) -> dict[str, float]:
    """Measure the parts that need neither a broker nor a store."""
    decode = Decoder().decode
    decoded = [decode(each.value, each.timestamp, each.headers) for each in records]
    events = [each for each in decoded if isinstance(each, SessionEvent)]
    enricher, shard, count = build_enricher(*geo), MemoryShard(), len(records)
    enricher.warm()
    batches = list(pieces(records, CHUNK // 2))
    found = {
        "parse_json": cost(count, each_of(lambda each: orjson.loads(each.value), records)),
        "decode_and_validate": cost(count, each_of(lambda each: decode(each.value, each.timestamp, ()), records)),
        "enrich": cost(count, each_of(lambda each: enricher.enrich(each.ip, each.location, each.user_agent), events)),
        "pipeline": cost(count, each_of(lambda some: pipeline.process(0, some, shard), batches)),
    }
    states = [state for _, state in shard.items() if is_user(state)][:STATES]
    users = [decode_user(state) for state in states]
    found["decode_state"] = cost(len(states), each_of(decode_user, states))
    found["publish_state"] = publish(states)
    found["encode_state"] = cost(len(users), each_of(lambda user: encode_user(user, 0), users))
    return found


def publish(states: Sequence[bytes]) -> float:
    """Return the processor time of a producer that sends states to a broker, as to a changelog."""

    async def send(servers: str) -> None:
        async with AIOKafkaProducer(bootstrap_servers=servers, linger_ms=20, max_batch_size=1 << 19) as producer:
            for state in islice(cycle(states), STATES):
                await producer.send("changelog", state, b"key")

    with tempfile.TemporaryDirectory() as directory, EmbeddedBroker(Path(directory) / "log") as broker:
        return cost(STATES, lambda: asyncio.run(send(broker.bootstrap_servers)))


def insert(rows: Sequence[bytes]) -> float:
    """Return the store's processor time to insert rows, 20,000 at once, including materialized views."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedStore(Path(directory) / "db") as store:
        pids = [store.pid or 0]
        with closing(connect(store.address.dsn(Role.WRITER))) as client:
            migrations.up(client)
            begun = processor_seconds(pids)
            for some in pieces(rows, INSERT_ROWS):
                write_rows(client, "session_events", some)
            return round((processor_seconds(pids) - begun) * 1e6 / max(len(rows), 1), 1)


def main() -> None:
    """Measure both mixes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    asked = parser.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        geo = write_geo(Path(directory))
        for name, mix in MIXES.items():
            simulated = enumerate(simulator(mix, asked.events).events())
            records = [Taken(each.value, number, int(each.arrival_ms), each.key) for number, each in simulated]
            result[name] = parts(records, heart(geo=geo), geo)
        result["insert_row"] = insert(rows_of(records, heart(geo=geo)))
    print(json.dumps(result))


def rows_of(records: Sequence[Taken], pipeline: Pipeline) -> list[bytes]:
    """Return the rows of events."""
    shard = MemoryShard()
    results = [pipeline.process(0, some, shard) for some in pieces(records, CHUNK // 2)]
    return [row for each in results for row in each.rows.get("session_events", ())]


if __name__ == "__main__":
    main()
