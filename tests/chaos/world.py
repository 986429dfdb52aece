"""What a fault happens to: input on a broker, a store behind a proxy, workers in processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from brokers import free_port

from chaos.proxy import Proxy
from worker.pipeline import user_key
from worker.simulator import Simulator, profile, write_geo
from worker.sinks.clickhouse import connect
from worker.stream.connection import KafkaSettings, aiokafka_options
from worker.stream.publisher import partition_of
from worker.stream.topics import TopicSettings, create, specs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.embedded.http import HttpEndpoint

PARTITIONS = 4
START_SECONDS, PATIENCE_SECONDS = 60.0, 300.0
TOPICS = ("by_user", "starts", "dlq", "findings", "feedback", "policies")
BAD = (b"{bad", b"\xff\xfe", b'{"user_id": 5}', b'{"tenant_id": "t", "user_id": "u", "user_agent": "x", "ip": "y"}')


class Input(NamedTuple):
    """What is eaten.

    Attributes:
        topic: where it lies. `ends`: the offset after its last record, by partition.
        accepted: how many events, in how many records.
    """

    topic: str
    ends: dict[int, int]
    accepted: int
    records: int


async def produce(options: dict[str, Any], topic: str, count: int, seed: int) -> Input:
    """Produce simulated events of the past.

    Every fifth user's lie in a partition that is not theirs, every hundredth record is bad, every fiftieth comes twice.
    """
    start = int(time.time() * 1000) - 40 * 86_400_000
    config = profile("demo", seed=seed, start_ms=start, users=max(count // 100, 50), rate=200.0,
                     warmup_days=0.0, max_events=count)  # fmt: skip
    ends = dict.fromkeys(range(PARTITIONS), 0)
    accepted = records = 0
    async with AIOKafkaProducer(**options, linger_ms=20, max_batch_size=1 << 19) as producer:

        async def send(value: bytes, partition: int, arrival: int) -> None:
            nonlocal records
            ends[partition] += 1
            records += 1
            await producer.send(topic, value, partition=partition, timestamp_ms=arrival)

        for number, event in enumerate(Simulator(config).events()):
            home = partition_of(event.key or b"", PARTITIONS)
            partition = (home + (home_of(event.key) % 5 == 0)) % PARTITIONS
            for _ in range(1 + (number % 50 == 0)):
                await send(event.value, partition, int(event.arrival_ms))
                accepted += 1
            if number % 100 == 0:
                await send(BAD[number // 100 % len(BAD)], number % PARTITIONS, int(event.arrival_ms))
    return Input(topic, ends, accepted, records)


def home_of(key: bytes | None) -> int:
    """Return a number of the user, the same in every run."""
    return partition_of((key or b"") + b"#", 1 << 16)


class World:
    """One consumer group with topics, a database and workers of its own."""

    def __init__(self, name: str, bootstrap: str, source: Input, endpoint: HttpEndpoint, directory: Path) -> None:
        self.name = name
        self.source = source
        self.endpoint = endpoint
        self.directory = directory / name
        self.directory.mkdir(parents=True)
        self.bootstrap = bootstrap
        self.options = aiokafka_options(KafkaSettings(bootstrap_servers=bootstrap))
        self.proxy = Proxy(endpoint.url)
        self.workers: list[subprocess.Popen[bytes]] = []
        self.kills = 0
        self.database = name.replace("-", "_")
        self.more: dict[str, str] = {}
        self._geo = write_geo(directory / "geo")
        self._log = (self.directory / "workers.log").open("ab")

    def __enter__(self) -> Self:
        self.proxy.__enter__()
        with closing(connect(self.dsn(direct=True))) as client:
            client.command(f"CREATE DATABASE IF NOT EXISTS {self.database}")
        asyncio.run(create(self.options, specs(self._topics(), self.name)))
        return self

    def _topics(self) -> TopicSettings:
        names = {each: f"{self.name}.{each}" for each in TOPICS}
        return TopicSettings(events=self.source.topic, partitions=PARTITIONS, **names)

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGCONT)
            worker.kill()
            worker.wait()
        self.proxy.__exit__()
        self._log.close()

    def dsn(self, *, direct: bool = False, database: bool = False) -> str:
        """Return how the store is reached, past the proxy or through it."""
        port = self.endpoint.port if direct else self.proxy.port
        return f"clickhouse://127.0.0.1:{port}/{self.database if database else 'default'}"

    def environment(self, port: int) -> dict[str, str]:
        """Return the settings of a worker."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONWATCH_")}
        city, asn = self._geo
        return {
            **clean,
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "SESSIONWATCH_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "SESSIONWATCH_CLICKHOUSE__DSN": self.dsn(database=True),
            "SESSIONWATCH_DATA_DIR": str(self.directory / f"data-{port}"),
            "SESSIONWATCH_WEB__PORT": str(port),
            "SESSIONWATCH_STREAM__GROUP_ID": self.name,
            "SESSIONWATCH_STREAM__SESSION_TIMEOUT_S": "6",
            "SESSIONWATCH_DELIVERY__RETRY_MAX_DELAY_S": "1",
            "SESSIONWATCH_GEO__CITY_DB": str(city),
            "SESSIONWATCH_GEO__ASN_DB": str(asn),
            "SESSIONWATCH_TOPICS__EVENTS": self.source.topic,
            **{f"SESSIONWATCH_TOPICS__{each.upper()}": f"{self.name}.{each}" for each in TOPICS},
            **self.more,
        }

    def start(self, step: str = "", passes: int = 1) -> subprocess.Popen[bytes]:
        """Start a worker; with a step, it dies when it passes that for the n-th time."""
        port = free_port()
        environment = self.environment(port)
        if step:
            environment |= {"CHAOS_STEP": step, "CHAOS_PASSES": str(passes)}
        command = [sys.executable, "-m", "chaos.child"]
        worker = subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log, cwd=self.directory)
        worker.port = port  # type: ignore[attr-defined]
        self.workers.append(worker)
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """End a worker as a power cut would."""
        worker.kill()
        worker.wait()
        self.workers.remove(worker)
        self.kills += 1

    def stop(self, worker: subprocess.Popen[bytes]) -> float:
        """Ask a worker to end; return the seconds it took."""
        # Before it takes part a signal ends it as any process: there is nothing to finish.
        self.until_ready(worker)
        asked = time.monotonic()
        worker.terminate()
        code = worker.wait(30)
        self.workers.remove(worker)
        assert code == 0, f"a worker asked to stop ended with {code}: {self.directory / 'workers.log'}"
        return time.monotonic() - asked

    def ready(self, worker: subprocess.Popen[bytes]) -> bool:
        """Tell whether a worker takes part."""
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/health/ready", timeout=2) as a:  # type: ignore[attr-defined]
            return bool(json.loads(a.read())["status"] == "ready")
        return False

    def until(self, check: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> float:
        """Wait; return how long, in seconds."""
        began = time.monotonic()
        while not check():
            if time.monotonic() - began > seconds:
                raise AssertionError(f"{self.name}: {what} did not come in {seconds:g} s: {self.directory}")
            time.sleep(0.2)
        return time.monotonic() - began

    def until_ready(self, worker: subprocess.Popen[bytes]) -> float:
        """Wait for a worker to take part; return the seconds."""
        return self.until(lambda: self.ready(worker) or worker.poll() is not None, "readiness", START_SECONDS)

    def done(self) -> bool:
        """Tell whether all input is eaten, what was forwarded and announced with it."""
        with suppress(Exception):
            return asyncio.run(self._done())
        return False

    async def _done(self) -> bool:
        topics = [self.source.topic, f"{self.name}.by_user", f"{self.name}.starts"]
        tps = [TopicPartition(topic, partition) for topic in topics for partition in range(PARTITIONS)]
        async with AIOKafkaConsumer(**self.options, group_id=self.name, enable_auto_commit=False) as consumer:
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            return all([(await consumer.committed(tp) or 0) >= end for tp, end in ends.items() if end])

    def finish(self) -> float:
        """Wait until everything is eaten and what expired is ended; return the seconds."""
        took = self.until(self.done, "the end of the input")
        query = "SELECT countIf(status = 'active' AND expires_at < now() - INTERVAL 5 MINUTE) FROM sessions FINAL"
        with closing(connect(self.dsn(direct=True, database=True))) as client:
            self.until(lambda: client.query(query).result_rows[0][0] == 0, "the end of expired sessions", 60)
        for worker in list(self.workers):
            self.stop(worker)
        return took

    def findings(self) -> Iterator[dict[str, Any]]:
        """Yield what was published."""
        yield from asyncio.run(self._published())

    async def _published(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with AIOKafkaConsumer(**self.options, auto_offset_reset="earliest") as consumer:
            consumer.assign([TopicPartition(f"{self.name}.findings", each) for each in range(PARTITIONS)])
            while batches := await consumer.getmany(timeout_ms=2_000):
                found += [json.loads(record.value) for records in batches.values() for record in records]
        return found

    async def dead_letters(self) -> list[tuple[bytes, bytes, bytes]]:
        """Return where dead letters came from, each once."""
        found = set()
        async with AIOKafkaConsumer(**self.options, auto_offset_reset="earliest") as consumer:
            consumer.assign([TopicPartition(f"{self.name}.dlq", each) for each in range(PARTITIONS)])
            while batches := await consumer.getmany(timeout_ms=2_000):
                for record in (record for records in batches.values() for record in records):
                    headers = dict(record.headers)
                    found.add((headers["sw-partition"], headers["sw-offset"], record.value))
        return sorted(found)


__all__ = ["PARTITIONS", "Input", "World", "produce", "user_key"]
