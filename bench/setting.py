"""A broker, a store, topics of one's own, and programs that run on them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from bench.peers.library import PROGRESS
from worker.embedded.access import Role
from worker.embedded.broker import free_port, wait_or_kill
from worker.embedded.store import EmbeddedStore
from worker.settings import KafkaSettings, TopicSettings
from worker.simulator import write_geo
from worker.stream.connection import aiokafka_options
from worker.stream.topics import create, specs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PARTITIONS = 4
POLL_SECONDS = 0.2
STOP_SECONDS = 30
OWN_TOPICS = ("by_user", "starts", "dlq", "findings", "incidents", "deliveries", "feedback", "policies")
STORES = ("embedded", "acknowledging")


class Broker(Protocol):
    """Kafka, of whatever kind."""

    @property
    def bootstrap_servers(self) -> str:
        """Where to start from."""

    @property
    def pid(self) -> int | None:
        """Its process."""


class Store(NamedTuple):
    """Where rows go: an address, and the processes whose time counts as the store's."""

    dsn: str
    query_dsn: str
    pids: tuple[int, ...]


class EndedError(Exception):
    """A program ended before it was asked to, or did nothing; the message has the end of its log."""


class Setting:
    """A broker, a directory, topics, and the environment that leads a program to them.

    Args:
        broker: the one in use.
        directory: where the setting makes a directory of its name.
        name: consumer group, and prefix of the topics.
        dsn: of the store; none: an embedded one, which the program starts.
        events: the input topic; none: one of its own.
    """

    def __init__(self, broker: Broker, directory: Path, name: str, dsn: str = "", events: str = "") -> None:
        self.name, self.broker = name, broker
        self.directory = directory / name
        self.directory.mkdir()
        self.port = free_port()
        self.options = aiokafka_options(KafkaSettings(bootstrap_servers=broker.bootstrap_servers))
        city, asn = write_geo(directory / "geo")
        self.topic = events or f"{name}.events"
        own = {each: f"{name}.{each}" for each in OWN_TOPICS}
        self.topics = TopicSettings(events=self.topic, partitions=PARTITIONS, **own)
        self.progress = self.directory / "progress"
        self.environment = {
            "SESSIONWATCH_CLICKHOUSE__DSN": f"chdb://{self.directory / 'store'}",
            **os.environ,
            **({"SESSIONWATCH_CLICKHOUSE__DSN": dsn} if dsn else {}),
            "SESSIONWATCH_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "SESSIONWATCH_DATA_DIR": str(self.directory),
            "SESSIONWATCH_WEB__PORT": str(self.port),
            "SESSIONWATCH_STREAM__GROUP_ID": name,
            "SESSIONWATCH_STREAM__SESSION_TIMEOUT_S": "6",
            "SESSIONWATCH_STREAM__FETCH_MAX_WAIT_MS": "25",
            "SESSIONWATCH_GEO__CITY_DB": str(city),
            "SESSIONWATCH_GEO__ASN_DB": str(asn),
            "SESSIONWATCH_LOG__LEVEL": "warning",
            **{f"SESSIONWATCH_TOPICS__{key.upper()}": topic for key, topic in own.items()},
            "SESSIONWATCH_TOPICS__EVENTS": self.topic,
            PROGRESS: str(self.progress),
            "PYTHONPATH": os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH")))),  # noqa: PTH109
        }
        asyncio.run(create(self.options, specs(self.topics, name)))

    @contextmanager
    def process(self, module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a Python module beside this script."""
        with self.program([sys.executable, "-m", module, *arguments]) as process:
            yield process

    @contextmanager
    def program(self, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program beside this script; end it when the context is left."""
        with (self.directory / "log").open("a") as log:
            process = subprocess.Popen(command, env=self.environment, cwd=self.directory, stdout=log, stderr=log)
            try:
                yield process
            finally:
                stop(process)

    def require(self, process: subprocess.Popen[bytes], deadline: float = float("inf"), done: str = "") -> None:
        """Make sure that a program still runs, and that a time on the monotonic clock is not over.

        Args:
            process: the program.
            deadline: the time.
            done: what it has done so far, for the message.

        Raises:
            EndedError: it ended, or the time is over.
        """
        if process.poll() is not None or time.monotonic() > deadline:
            what = "took too long" if process.poll() is None else f"ended with {process.returncode}"
            raise EndedError(f"{what} {done}: {(self.directory / 'log').read_text(errors='replace')[-1500:]}")

    def metrics(self, *names: str) -> tuple[float, ...]:
        """Return metrics of the worker, each summed over its labels; 0 while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            lines = []
        return tuple(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)) for name in names)

    def metric(self, name: str) -> float:
        """Return one metric of the worker."""
        return self.metrics(name)[0]


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program: ask it first."""
    process.terminate()
    wait_or_kill(process, STOP_SECONDS)


@contextmanager
def store_of(kind: str, directory: Path) -> Iterator[Store]:
    """Run a store.

    Args:
        kind: one of `STORES`. `acknowledging`: one that is elsewhere, so that nothing here inserts the rows.
        directory: where its data is.
    """
    with EmbeddedStore(directory / "db", directory / "store.log") as store:
        dsn, pid = store.address.dsn(Role.WRITER), store.pid or 0
        if kind == "embedded":
            yield Store(dsn, dsn, (pid,))
            return
        port = free_port()
        command = [sys.executable, "-m", "bench.acknowledging", str(port), store.address.url]
        process = subprocess.Popen(command)
        try:
            _await_port(port)
            yield Store(store.address.dsn(Role.WRITER, port=port), dsn, (pid, process.pid))
        finally:
            stop(process)


def _await_port(port: int) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return


def say(what: str) -> None:
    """Print progress on stderr."""
    print(what, file=sys.stderr, flush=True)
