"""What a fault happens to: input on a broker, a store behind a proxy, workers in processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.chaos.feed import PARTITIONS, Input
from tests.chaos.proxy import Proxy
from tests.support.brokers import free_port
from worker.clickhouse.writer import connect
from worker.embedded.access import DATABASE, Role
from worker.sessions.incidents import IncidentLimits
from worker.sessions.limits import MINUTE
from worker.settings import KafkaSettings, TopicSettings
from worker.simulator import write_geo
from worker.stream.connection import aiokafka_options
from worker.stream.topics import create, specs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.embedded.store import Address

START_SECONDS, PATIENCE_SECONDS, STOP_SECONDS = 60.0, 600.0, 10.0
SECONDS_OF_POISON = 0.002
"""How much longer the end may take for each record of poison."""
STALL_SECONDS = 3.0
"""After which workers have to say that they are not ready: less than the shortest outage."""
SAMPLE_SECONDS = 0.5
QUIET_MINUTES = IncidentLimits().quiet // MINUTE + 5
TIMERS = {
    "the end of expired sessions": "SELECT count() FROM sessions FINAL"
    " WHERE status = 'active' AND expires_at < now() - INTERVAL 5 MINUTE",
    "the end of quiet incidents": "SELECT count() FROM incidents FINAL"  # noqa: S608  ours
    f" WHERE status != 'resolved' AND last_event_at < now() - INTERVAL {QUIET_MINUTES} MINUTE",
}
"""What time alone brings about, and how much of it is still to come."""
TOPICS = ("by_user", "starts", "dlq", "findings", "incidents", "feedback", "policies")


class World:
    """One consumer group with topics, a database and workers of its own.

    Attributes:
        more: further settings of workers started from now on.
        kills: how many workers were killed. `peak`: the most memory of any of them, bytes resident.
        longest_stop: seconds the slowest of those took that were asked to stop.
        over: when the fault was over, monotonic. `idle`: whether all was eaten by then.
    """

    def __init__(
        self,
        name: str,
        bootstrap: str,
        source: Input,
        endpoint: Address,
        directory: Path,
        *,
        replication: int = 1,
    ) -> None:
        self.name = name
        self.source = source
        self.endpoint = endpoint
        self.directory = directory / name
        self.directory.mkdir(parents=True)
        self.bootstrap = bootstrap
        self.options = aiokafka_options(KafkaSettings(bootstrap_servers=bootstrap))
        self.proxy = Proxy(endpoint.url)
        self.workers: list[subprocess.Popen[bytes]] = []
        self.kills = self.peak = 0
        self.longest_stop = self.over = 0.0
        self.idle = False
        self._replication = replication
        self._over = threading.Event()
        self.database = name.replace("-", "_")
        self.more: dict[str, str] = {}
        self._geo = write_geo(directory / "geo")
        self._log = (self.directory / "workers.log").open("ab")

    def __enter__(self) -> Self:
        self.proxy.__enter__()
        with closing(connect(self.dsn(direct=True))) as client:
            client.command(f"CREATE DATABASE IF NOT EXISTS {self.database}")
        asyncio.run(create(self.options, specs(self._topics(), self.name)))
        threading.Thread(target=self._watch_memory, daemon=True).start()
        return self

    def _watch_memory(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, self.memory())

    def memory(self) -> int:
        """Return the bytes resident of the largest worker there is."""
        return max([_resident(worker.pid) for worker in list(self.workers)], default=0)

    def _topics(self) -> TopicSettings:
        names = {each: f"{self.name}.{each}" for each in TOPICS}
        return TopicSettings(
            events=self.source.topic, partitions=PARTITIONS, replication=self._replication, retention_days=3650, **names
        )

    def __exit__(self, *_: object) -> None:
        self._over.set()
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
        return self.endpoint.dsn(Role.WRITER, self.database if database else DATABASE, port)

    def environment(self, port: int) -> dict[str, str]:
        """Return the settings of a worker."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONWATCH_")}
        city, asn = self._geo
        return {
            **clean,
            "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3])),
            "SESSIONWATCH_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "SESSIONWATCH_CLICKHOUSE__DSN": self.dsn(database=True),
            "SESSIONWATCH_DATA_DIR": str(self.directory / f"data-{port}"),
            "SESSIONWATCH_WEB__PORT": str(port),
            "SESSIONWATCH_STREAM__GROUP_ID": self.name,
            "SESSIONWATCH_STREAM__SESSION_TIMEOUT_S": "6",
            "SESSIONWATCH_DELIVERY__RETRY_MAX_DELAY_S": "1",
            "SESSIONWATCH_DELIVERY__STALL_S": str(STALL_SECONDS),
            "SESSIONWATCH_TOPICS__REPLICATION": str(self._replication),
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
        command = [sys.executable, "-m", "tests.chaos.child"]
        worker = subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log, cwd=self.directory)
        worker.port = port  # type: ignore[attr-defined]
        self.workers.append(worker)
        return worker

    def log_text(self) -> str:
        """Return what the workers logged so far."""
        return (self.directory / "workers.log").read_text(encoding="utf-8", errors="replace")

    def publish_policies(self, documents: dict[str, bytes]) -> None:
        """Publish policies, by tenant."""
        asyncio.run(self._publish_policies(documents))

    async def _publish_policies(self, documents: dict[str, bytes]) -> None:
        async with AIOKafkaProducer(**self.options, max_request_size=4 << 20) as producer:
            for tenant, document in documents.items():
                await producer.send_and_wait(f"{self.name}.policies", document, tenant.encode())

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """End a worker as a power cut would."""
        worker.kill()
        worker.wait()
        self.workers.remove(worker)
        self.kills += 1

    def stop(self, worker: subprocess.Popen[bytes]) -> float:
        """Ask a worker to end, which it has to in time; return the seconds it took."""
        # Before it takes part a signal ends it as any process: there is nothing to finish.
        self.until_up(worker)
        asked = time.monotonic()
        worker.terminate()
        code = worker.wait(30)
        took = time.monotonic() - asked
        self.workers.remove(worker)
        self.longest_stop = max(self.longest_stop, took)
        assert code == 0, f"a worker asked to stop ended with {code}: {self.directory / 'workers.log'}"
        assert took < STOP_SECONDS, f"a worker took {took:.1f} s to stop: {self.directory / 'workers.log'}"
        return took

    def page(self, worker: subprocess.Popen[bytes], path: str) -> str:
        """Return a page of a worker, whatever its status; empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}{path}", timeout=5) as answer:  # type: ignore[attr-defined]
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            return ""

    def ready(self, worker: subprocess.Popen[bytes]) -> bool:
        """Tell whether a worker takes part."""
        page = self.page(worker, "/health/ready")
        return bool(page) and json.loads(page)["status"] == "ready"

    def metric(self, worker: subprocess.Popen[bytes], name: str) -> float:
        """Return a metric of a worker, summed over its labels."""
        lines = self.page(worker, "/metrics").splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def until_up(self, worker: subprocess.Popen[bytes]) -> float:
        """Wait for a worker's pages; return the seconds."""
        return self.until(lambda: bool(self.page(worker, "/health/live")), "a worker's pages", START_SECONDS)

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
        async with AIOKafkaConsumer(**self.options, group_id=self.name, enable_auto_commit=False) as consumer:
            # One after the other: what is made of a topic's records is there before they are committed.
            for topic in (self.source.topic, *(f"{self.name}.{stage}" for stage in ("by_user", "starts", "findings"))):
                tps = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
                consumer.assign(tps)
                ends = await consumer.end_offsets(tps)
                if not all([(await consumer.committed(tp) or 0) >= end for tp, end in ends.items() if end]):
                    return False
        return True

    def is_over(self) -> None:
        """Take in that the fault is over, if that was not said before; what takes longer is recovery."""
        if not self.over:
            self.over, self.idle = time.monotonic(), self.done()

    def finish(self) -> float:
        """Wait until everything is eaten and what expired is ended; return the seconds since the fault was over."""
        self.is_over()
        more = self.source.floods * SECONDS_OF_POISON
        self.until(self.done, "the end of the input", PATIENCE_SECONDS + more)
        took = time.monotonic() - self.over
        with closing(connect(self.dsn(direct=True, database=True))) as client:
            for what, query in TIMERS.items():
                self.until(lambda query=query: client.query(query).result_rows[0][0] == 0, what, 60 + more)  # type: ignore[misc]
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

    async def dead_letters(self) -> list[tuple[int, int, bytes]]:
        """Return partition and offset dead letters came from, and what they are, each once."""
        found = set()
        async with AIOKafkaConsumer(**self.options, auto_offset_reset="earliest") as consumer:
            consumer.assign([TopicPartition(f"{self.name}.dlq", each) for each in range(PARTITIONS)])
            while batches := await consumer.getmany(timeout_ms=2_000):
                for record in (record for records in batches.values() for record in records):
                    headers = dict(record.headers)
                    found.add((int(headers["sw-partition"]), int(headers["sw-offset"]), record.value))
        return sorted(found)


def _resident(pid: int) -> int:
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
    return 0
