"""What incidents are delivered to in tests: real servers on loopback, and the real process that delivers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from uuid import uuid4

import msgspec
from aiohttp import web
from aiokafka import AIOKafkaProducer

from schemas.finding import Activity, Severity
from schemas.incident import Incident, IncidentState
from worker.alerts.sample import sample_incident
from worker.embedded.broker import end_with_parent, free_port
from worker.settings import KafkaSettings, TopicSettings
from worker.stream.connection import aiokafka_options
from worker.stream.topics import create, specs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PARTITIONS = 4
PATIENCE = 60.0
ROOT = Path(__file__).parents[2]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def incident(uid: str, revision: int = 1, **changes: Any) -> Incident:
    """Return an incident that began just now."""
    activity = changes.pop("activity", Activity.CREATE if revision == 1 else Activity.UPDATE)
    state = {Activity.CREATE: IncidentState.OPEN, Activity.UPDATE: IncidentState.UPDATED}
    made = sample_incident(now_ms(), changes.pop("severity", Severity.HIGH))
    return msgspec.structs.replace(
        made, uid=uid, revision=revision, activity=activity,
        state=state.get(activity, IncidentState.RESOLVED), tenant_id="acme", user_id=f"user-{uid}",
        title=f"A session of user-{uid} moved", **changes,
    )  # fmt: skip


def until(holds: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait for a state."""
    deadline = time.monotonic() + patience
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what} did not come about within {patience:g} s"
        time.sleep(0.02)
    return found


class Received(NamedTuple):
    """A request that arrived."""

    at: float
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def id(self) -> str:
        return self.headers.get("webhook-id", "")

    def json(self) -> Any:
        return json.loads(self.body)


class Loop:
    """An event loop in a thread, for servers of a test."""

    def __enter__(self) -> Self:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)


class HttpReceiver(Loop):
    """An HTTP server that keeps what arrives. `behave` says how it answers: a status, and headers and text if it likes.

    Attributes:
        taken: requests answered with 2xx. `seen`: all.
    """

    def __init__(self, behave: Callable[[Received], Any] = lambda _: 200, port: int = 0, tls: Any = None) -> None:
        self.behave = behave
        self.delay = 0.0
        self.port = port or free_port()
        self.seen: list[Received] = []
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    @property
    def taken(self) -> list[Received]:
        return [each for each in self.seen if 200 <= each.status < 300]

    def __enter__(self) -> Self:
        super().__enter__()
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        super().__exit__()

    def up(self) -> None:
        """Listen."""
        self.run(self._up())

    def down(self) -> None:
        """Refuse connections."""
        if self._runner is not None:
            self.run(self._runner.cleanup())
            self._runner = None

    async def _up(self) -> None:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True).start()

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        got = Received(time.time(), request.method, request.raw_path, headers, body, 0)
        if self.delay:
            await asyncio.sleep(self.delay)
        answer = self.behave(got)
        status, *rest = answer if isinstance(answer, tuple) else (answer,)
        more, text = (*rest, "answer")[:2] if rest else ({}, "answer")
        self.seen.append(got._replace(status=status))
        return web.Response(status=status, headers=more, text="" if status == 204 else text)


class AlertProcess:
    """`sessionwatch alerts` on a broker, with topics of its own.

    Args:
        bootstrap: the broker.
        directory: for logs.
        destinations: by name, as settings have them.
        more: further settings, environment.
    """

    def __init__(
        self, bootstrap: str, directory: Path, destinations: dict[str, Any], more: dict[str, str] | None = None
    ) -> None:
        self.name = f"alerts-{uuid4().hex[:8]}"
        self.bootstrap = bootstrap
        self.directory = directory
        self.destinations = destinations
        self.more = more or {}
        self.port = free_port()
        self.log = directory / f"{self.name}.log"
        self.options = aiokafka_options(KafkaSettings(bootstrap_servers=bootstrap))
        self.topics = TopicSettings(
            partitions=PARTITIONS,
            **{each: f"{self.name}.{each}" for each in
               ("events", "by_user", "starts", "dlq", "findings", "incidents", "deliveries", "feedback", "policies")},
        )  # fmt: skip
        self.processes: list[subprocess.Popen[bytes]] = []
        asyncio.run(create(self.options, specs(self.topics, self.name)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def environment(self, port: int | None = None) -> dict[str, str]:
        """Return the settings of a process."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONWATCH_")}
        topics = {
            f"SESSIONWATCH_TOPICS__{name.upper()}": str(value)
            for name, value in self.topics.model_dump().items()
            if name not in ("retention_days", "replication")
        }
        return {
            **clean,
            **topics,
            "PYTHONPATH": str(ROOT),
            "SESSIONWATCH_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "SESSIONWATCH_STREAM__SESSION_TIMEOUT_S": "3",
            "SESSIONWATCH_STREAM__GROUP_ID": self.name,
            "SESSIONWATCH_ALERTS__GROUP_ID": f"{self.name}-alerts",
            "SESSIONWATCH_ALERTS__WEB_PORT": str(port or self.port),
            "SESSIONWATCH_ALERTS__DESTINATIONS": json.dumps(self.destinations),
            "SESSIONWATCH_STREAM__FETCH_MAX_WAIT_MS": "25",
            "SESSIONWATCH_LOG__FORMAT": "json",
            **self.more,
        }

    def start(self, port: int | None = None) -> subprocess.Popen[bytes]:
        """Start a process."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker.cli", "alerts"],
                env=self.environment(port), cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=end_with_parent(),  # noqa: PLW1509  one system call
            )  # fmt: skip
        self.processes.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End a process as a crash would."""
        process.kill()
        process.wait()
        self.processes.remove(process)

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """Ask a process to end; return its exit code."""
        process.terminate()
        code = process.wait(60)
        self.processes.remove(process)
        return code

    def command(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run another command with the same settings."""
        return subprocess.run(
            [sys.executable, "-m", "worker.cli", *arguments],
            env=self.environment(), cwd=self.directory, input=stdin, capture_output=True, check=False, timeout=60,
        )  # fmt: skip

    def publish(self, incidents: Iterable[Incident]) -> None:
        """Put states of incidents on the topic, each incident in one partition."""
        asyncio.run(self._publish(incidents))

    async def _publish(self, incidents: Iterable[Incident]) -> None:
        async with AIOKafkaProducer(**self.options, acks="all", linger_ms=5) as producer:
            sent = [
                await producer.send(
                    self.topics.incidents, each.message(), each.user_id.encode(), sum(each.uid.encode()) % PARTITIONS
                )
                for each in incidents
            ]
            await asyncio.gather(*sent)

    def set_policy(self, tenant: str, policy: dict[str, Any]) -> None:
        """Put a tenant's policy in force."""
        done = self.command("policy", "set", "-", "--tenant", tenant, stdin=json.dumps(policy).encode())
        assert done.returncode == 0, done.stderr

    def logged(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def is_ready(self) -> bool:
        """Tell whether the process says that it is ready."""
        from urllib.request import urlopen  # noqa: PLC0415

        try:
            with urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def udp_socket() -> socket.socket:
    """Return a bound datagram socket."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.settimeout(20)
    return made
