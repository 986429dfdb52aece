"""Brokers for the tests: the embedded one, and Apache Kafka fetched from Maven Central."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import pytest

from worker.embedded.broker import EmbeddedBroker, end_with_parent, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

POM = Path(__file__).parents[1] / "kafka" / "pom.xml"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
LOGGING = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
# What is short here is so for the tests: a default of 9 s for the session of a broker with its controller, for
# instance, is what a start after a kill waits for.
PROPERTIES = """
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
num.partitions=4
auto.create.topics.enable=false
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.backoff.ms=200
log.initial.task.delay.ms=100
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
{more}
"""


def missing() -> str:
    """Return why Apache Kafka cannot be had here; empty when it can."""
    absent = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    return f"Apache Kafka needs {' and '.join(absent)}" if absent else ""


def jars() -> Path:
    """Fetch Apache Kafka once for each version of the pom, and return the directory of its jars."""
    target = POM.parent / "target" / "dependency"
    fetched = target / "of-pom.xml"
    if not fetched.exists() or fetched.read_text() != POM.read_text():
        shutil.rmtree(target, ignore_errors=True)
        command = [
            _executable("mvn"),
            "-q",
            "-B",
            "-f",
            str(POM),
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"Apache Kafka was not fetched: {done.stdout}{done.stderr}")
        shutil.copyfile(POM, fetched)
    return target


class Quorum(NamedTuple):
    """The nodes of a cluster: its id, and the ports of their controllers."""

    cluster_id: str
    controllers: tuple[int, ...]

    @classmethod
    def of(cls, nodes: int) -> Quorum:
        """Return a new one."""
        return cls(_cluster_id(), tuple(free_port() for _ in range(nodes)))

    @property
    def voters(self) -> str:
        return ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(self.controllers, 1))


class ApacheKafka:
    """One KRaft node, broker and controller, on loopback. `kill` and `start` again to restart it with its data.

    Args:
        directory: its configuration, log and data; made when missing.
        more: further lines of its configuration; the last of two for the same property counts. `{port}` and
            `{controller}` in them are its ports.
        format_options: further options of the storage tool, such as users.
        quorum, node: the cluster it is part of, and which of its nodes it is, from 1 on.
    """

    def __init__(
        self,
        directory: Path,
        more: str = "",
        format_options: tuple[str, ...] = (),
        quorum: Quorum | None = None,
        node: int = 1,
    ) -> None:
        quorum = quorum or Quorum.of(1)
        self._directory = directory
        self._classpath = f"{jars()}/*"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "kafka.log"
        self.port, controller = free_port(), quorum.controllers[node - 1]
        replicas = min(len(quorum.controllers), 3)
        self._config = directory / "server.properties"
        directory.mkdir(parents=True, exist_ok=True)
        settings = PROPERTIES.replace("{more}", more)
        self._config.write_text(
            settings.format(port=self.port, controller=controller, data=directory / "data", node=node,
                            voters=quorum.voters, replicas=replicas, in_sync=max(replicas - 1, 1))
        )  # fmt: skip
        self._java(
            "kafka.tools.StorageTool", "format", "-t", quorum.cluster_id, "-c", str(self._config), *format_options
        )

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Its process, None when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, with the data it had, and wait until it listens, which it does once it may serve."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it, and do not wait: of a cluster, most nodes have to be there before one may serve."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [_executable("java"), "-Xmx512m", LOGGING, "-cp", self._classpath, "kafka.Kafka", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                preexec_fn=end_with_parent(),  # noqa: PLW1509  one system call
            )

    def wait(self, *others: int) -> None:
        """Wait until it listens, on other ports of its configuration as well."""
        deadline = time.monotonic() + START_SECONDS
        while not all(_listens(port) for port in (self.port, *others)):
            if time.monotonic() > deadline or self._process is None or self._process.poll() is not None:
                self.kill()
                raise RuntimeError(f"Apache Kafka did not start:\n{self._log.read_text()[-4000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it cleanly."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(subprocess.Popen.kill)

    def freeze(self) -> None:
        """Stop its clock: what is sent to it waits in its sockets until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "it is not running"
        self._process.send_signal(number)

    def restart(self) -> None:
        """Stop it cleanly and start it again with its data, on the same port."""
        self.stop()
        self.start()

    def _end(self, how: Callable[[subprocess.Popen[bytes]], None]) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        how(process)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _java(self, *arguments: str) -> None:
        command = [_executable("java"), LOGGING, "-cp", self._classpath, *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{arguments[0]} failed: {done.stdout}{done.stderr}")


class KafkaCluster:
    """Three KRaft nodes on loopback, of which two are enough."""

    NODES = 3

    def __init__(self, directory: Path, more: str = "") -> None:
        quorum = Quorum.of(self.NODES)
        self.nodes = [
            ApacheKafka(directory / str(number), more, (), quorum, number) for number in range(1, self.NODES + 1)
        ]

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def __enter__(self) -> Self:
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait()
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()


def _executable(name: str) -> str:
    path = shutil.which(name)
    assert path is not None, f"{name} is not installed"
    return path


def _cluster_id() -> str:
    # A first bit of 0 makes its first letter none: one that begins with a dash is taken for an option.
    return base64.urlsafe_b64encode(b"\0" + uuid4().bytes[1:]).decode().rstrip("=")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def embedded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("tansu") / "broker.log") as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    reason = missing()
    if reason and not os.environ.get("CI_REQUIRE_KAFKA"):
        pytest.skip(reason)
    assert not reason, reason
    with ApacheKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("embedded_broker" if request.param == "embedded" else "kafka_broker")
