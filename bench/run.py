"""`make bench`: throughput, the textbook agent beside it, latency and memory. Prints one JSON object.

The worker is the real command in a process of its own; broker, producers and this script share the machine with it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.memory import resident
from worker.embedded.broker import EmbeddedBroker, free_port
from worker.settings import KafkaSettings
from worker.simulator import Simulator, profile, write_geo
from worker.stream.connection import aiokafka_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.simulator import SimEvent

PARTITIONS = 4
POLL_SECONDS = 0.5
OTHER_TOPICS = ("BY_USER", "STARTS", "DLQ", "FINDINGS", "FEEDBACK", "POLICIES")


class Broker(Protocol):
    """Kafka, of whatever kind."""

    @property
    def bootstrap_servers(self) -> str:
        """Where to start from."""


class Setting:
    """A broker, a directory and the environment that leads a worker to them."""

    def __init__(self, broker: Broker, directory: Path, name: str) -> None:
        self.name = name
        self.directory = directory / name
        self.directory.mkdir()
        self.port = free_port()
        self.options = aiokafka_options(KafkaSettings(bootstrap_servers=broker.bootstrap_servers))
        city, asn = write_geo(directory / "geo")
        self.topic = f"{name}.events"
        self.environment = {
            "SESSIONWATCH_CLICKHOUSE__DSN": f"chdb://{self.directory / 'store'}",
            **os.environ,
            "SESSIONWATCH_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "SESSIONWATCH_DATA_DIR": str(self.directory),
            "SESSIONWATCH_WEB__PORT": str(self.port),
            "SESSIONWATCH_STREAM__GROUP_ID": name,
            "SESSIONWATCH_STREAM__SESSION_TIMEOUT_S": "6",
            "SESSIONWATCH_STREAM__FETCH_MAX_WAIT_MS": "25",
            "SESSIONWATCH_GEO__CITY_DB": str(city),
            "SESSIONWATCH_GEO__ASN_DB": str(asn),
            "SESSIONWATCH_LOG__LEVEL": "warning",
            **{f"SESSIONWATCH_TOPICS__{key}": f"{name}.{key.lower()}" for key in OTHER_TOPICS},
            "SESSIONWATCH_TOPICS__EVENTS": self.topic,
        }
        self.command("topics", "create")

    def command(self, *arguments: str) -> None:
        """Run the command line to its end."""
        subprocess.run([sys.executable, "-m", "worker.cli", *arguments], env=self.environment, check=True)

    @contextmanager
    def process(self, module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run a module beside this script."""
        with (self.directory / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=self.environment, cwd=self.directory, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()

    def metric(self, name: str) -> float:
        """Return a metric of the worker, summed over its labels; 0 while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return 0.0
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def say(what: str) -> None:
    """Tell on stderr what is going on."""
    print(what, file=sys.stderr, flush=True)


async def preload(setting: Setting, count: int, users: int) -> float:
    """Produce simulated events as fast as possible; return the seconds it took."""
    started = time.perf_counter()
    simulator = Simulator(profile("benchmark", users=users, max_events=count))
    async with AIOKafkaProducer(**setting.options, linger_ms=20, max_batch_size=1 << 19) as producer:
        for event in simulator.events():
            await producer.send(setting.topic, value=event.value, key=event.key, timestamp_ms=int(event.arrival_ms))
    return time.perf_counter() - started


def throughput(setting: Setting, count: int) -> dict[str, Any]:
    """Let a worker eat what was preloaded; the clock runs from its first durable rows to its last."""
    first_at = first = 0.0
    with setting.process("worker.cli", "worker") as worker:
        while (rows := setting.metric('sessionwatch_rows_out_total{table="session_events"}')) < count:
            if rows and not first:
                first_at, first = time.perf_counter(), rows
            if worker.poll() is not None:
                raise SystemExit(f"the worker ended: {(setting.directory / 'log').read_text()[-2000:]}")
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - first_at
        memory = resident(worker.pid)
        forwarded = setting.metric("sessionwatch_forwarded_total")
    return {
        "events": count,
        "seconds": round(seconds, 2),
        "events_per_second": round((count - first) / seconds),
        "forwarded": int(forwarded),
        "resident_mib": round(memory / 2**20),
    }


def textbook(setting: Setting, seconds: float) -> dict[str, Any]:
    """Let the textbook agent eat the same events for a while; its speed after the first two seconds."""
    counts: list[tuple[float, int]] = []
    with setting.process("bench.textbook") as process:
        deadline = time.perf_counter() + seconds + 60
        while process.stdout and (not counts or time.perf_counter() < counts[0][0] + seconds):
            if time.perf_counter() > deadline or not (line := process.stdout.readline()):
                raise SystemExit(f"the textbook agent ended: {(setting.directory / 'log').read_text()[-2000:]}")
            if line.strip().isdigit():  # Faust greets first
                counts.append((time.perf_counter(), int(line)))
    (began, first), (ended, last) = counts[2], counts[-1]
    return {"events_per_second": round((last - first) / (ended - began))}


async def latency(setting: Setting, rate: float, seconds: float) -> dict[str, Any]:
    """Send events at a steady rate; measure from a record's timestamp to its finding read off the topic."""
    count = int(rate * seconds)
    events = _recent(count)
    with setting.process("worker.cli", "worker"):
        await asyncio.to_thread(_wait_ready, setting)
        reading = asyncio.create_task(_delays(setting))
        async with AIOKafkaProducer(**setting.options, linger_ms=2) as producer:
            took = await _send_steadily(producer, setting.topic, events, rate)
        await asyncio.sleep(2)
        reading.cancel()
        delays = sorted(await reading)
    cuts = quantiles(delays, n=100)
    return {
        "events_per_second": round(count / took), "sent": count, "findings": len(delays),
        "p50_ms": round(cuts[49], 1), "p95_ms": round(cuts[94], 1), "p99_ms": round(cuts[98], 1),
    }  # fmt: skip


def _recent(count: int) -> list[SimEvent]:
    """Return simulated events, the newest of which is of now: older sessions would all have expired."""
    users, now = count // 10, int(time.time() * 1000)
    for _, event in zip(
        range(count), Simulator(profile("benchmark", start_ms=now, users=users)).events(), strict=False
    ):
        newest = event.arrival_ms
    start = now - int(newest - now)
    return list(Simulator(profile("benchmark", start_ms=start, users=users, max_events=count)).events())


async def _send_steadily(producer: AIOKafkaProducer, topic: str, events: Sequence[SimEvent], rate: float) -> float:
    """Send what is due every few milliseconds, stamped with the moment; return the seconds it took."""
    started, sent = time.perf_counter(), 0
    while sent < len(events):
        due = min(int((time.perf_counter() - started) * rate), len(events))
        now = int(time.time() * 1000)
        for event in events[sent:due]:
            await producer.send(topic, value=event.value, key=event.key, timestamp_ms=now)
        sent = due
        await asyncio.sleep(0.005)
    return time.perf_counter() - started


def _wait_ready(setting: Setting) -> None:
    while not setting.metric("sessionwatch_ready"):
        time.sleep(POLL_SECONDS)


async def _delays(setting: Setting) -> list[float]:
    delays: list[float] = []
    async with AIOKafkaConsumer(**setting.options, fetch_max_wait_ms=10) as consumer:
        consumer.assign([TopicPartition(f"{setting.name}.findings", partition) for partition in range(PARTITIONS)])
        try:
            while True:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    now = time.time() * 1000
                    delays += [now - json.loads(record.value)["time"] for record in records]
        except asyncio.CancelledError:
            return delays


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--textbook-seconds", type=float, default=20)
    parser.add_argument("--latency-rate", type=float, default=5_000)
    parser.add_argument("--latency-seconds", type=float, default=30)
    parser.add_argument("--only", choices=["throughput", "textbook", "latency", "memory"], nargs="*")
    asked = parser.parse_args()
    chosen = asked.only or ["throughput", "textbook", "latency", "memory"]
    result: dict[str, Any] = {"cores": os.cpu_count(), "python": sys.version.split()[0]}
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        if "throughput" in chosen or "textbook" in chosen:
            with EmbeddedBroker(directory / "broker.log") as broker:
                setting = Setting(broker, directory, "bench")
                say(f"producing {asked.events:,} events …")
                say(f"… in {asyncio.run(preload(setting, asked.events, asked.users)):.0f} s")
                if "throughput" in chosen:
                    result["throughput"] = throughput(setting, asked.events)
                    say(json.dumps(result["throughput"]))
                if "textbook" in chosen:
                    result["textbook"] = textbook(setting, asked.textbook_seconds)
                    say(json.dumps(result["textbook"]))
        if "latency" in chosen:
            with EmbeddedBroker(directory / "broker.log") as broker:
                setting = Setting(broker, directory, "latency")
                result["latency"] = asyncio.run(latency(setting, asked.latency_rate, asked.latency_seconds))
                say(json.dumps(result["latency"]))
    if "memory" in chosen:
        arguments = [sys.executable, "-m", "bench.memory", str(asked.events), str(asked.users)]
        result["memory"] = json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
    if "throughput" in result and "textbook" in result:
        ratio = result["throughput"]["events_per_second"] / result["textbook"]["events_per_second"]
        result["times_textbook"] = round(ratio, 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
