"""What a hostile page or client does to the web server of a real worker process."""

from __future__ import annotations

import http.client
import resource
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.chaos.feed import feed, start_of_day, traffic
from tests.chaos.world import World
from worker.embedded.store import EmbeddedStore
from worker.observe.connections import CONNECTIONS, HEAD_SECONDS
from worker.settings import KafkaSettings
from worker.stream.connection import aiokafka_options

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

PATHS = ("/metrics", "/health/live", "/health/ready", "/api/tenants/t-0000", "/api/tenants/t/users/u", "/nothing")
OPEN_FILES = 256
"""Soft limit of the worker's open files: fewer than the sockets that a client opens below."""


@pytest.fixture(scope="module")
def world(embedded_broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    name, directory = f"web-{uuid4().hex[:6]}", tmp_path_factory.mktemp("web")
    address = embedded_broker.bootstrap_servers
    source = feed(aiokafka_options(KafkaSettings(bootstrap_servers=address)), f"{name}-input",
                  list(traffic(50, 1, start_of_day())))  # fmt: skip
    with EmbeddedStore(directory / "store") as store, World(name, address, source, store.address, directory) as made:
        made.more = {"SESSIONWATCH_WEB__ALLOWED_HOSTS": '["worker.internal"]'}
        yield made


@pytest.fixture(scope="module")
def worker(world: World) -> subprocess.Popen[bytes]:
    started = world.start()
    _, hard = resource.prlimit(started.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(started.pid, resource.RLIMIT_NOFILE, (OPEN_FILES, hard))
    world.until_ready(started)
    return started


def port(worker: Any) -> int:
    return int(worker.port)


def status(worker: Any, path: str, host: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port(worker), timeout=30)
    try:
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers
    finally:
        connection.close()


@pytest.mark.parametrize("path", PATHS)
def test_a_host_name_of_another_site_is_refused_on_every_page(worker: Any, path: str) -> None:
    for host in ("rebound.example", f"rebound.example:{port(worker)}", "127.0.0.1.rebound.example", "a@b", "[", ""):
        assert status(worker, path, host)[0] == 421, host
    for host in (f"127.0.0.1:{port(worker)}", "localhost", "LOCALHOST:80", "[::1]:6066", "10.1.2.3", "worker.internal"):
        assert status(worker, path, host)[0] in (200, 404), host


def test_a_browser_neither_guesses_nor_keeps_a_page(worker: Any) -> None:
    headers = status(worker, "/api/tenants/t-0000", "localhost")[1]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


def test_idle_sockets_neither_keep_health_from_answering_nor_fill_the_log(world: World, worker: Any) -> None:
    written = len(world.log_text())
    with ExitStack() as stack:
        for _ in range(OPEN_FILES + 100):
            stack.enter_context(socket.create_connection(("127.0.0.1", port(worker)), timeout=30))
        for _ in range(20):
            assert status(worker, "/health/live", "localhost")[0] == 200
            time.sleep(0.05)
    assert worker.poll() is None
    assert len(world.log_text()) - written < 10_000


def test_a_head_that_does_not_end_is_cut_off(worker: Any) -> None:
    with socket.create_connection(("127.0.0.1", port(worker)), timeout=10 * HEAD_SECONDS) as slow:
        slow.sendall(b"GET /health/live HTTP/1.1\r\n")
        began = time.monotonic()
        try:
            while time.monotonic() - began < 5 * HEAD_SECONDS:
                slow.sendall(b"X-A: b\r\n")
                time.sleep(0.5)
        except OSError:
            return
    pytest.fail("a client may send a head for as long as it likes")


def test_requests_that_are_not_http_are_not_logged_each(world: World, worker: Any) -> None:
    written = len(world.log_text())
    for _ in range(3 * CONNECTIONS):
        with socket.create_connection(("127.0.0.1", port(worker)), timeout=30) as client:
            client.sendall(b"GET /\x00\x01 HTTP/9.9\r\nHost\r\n: :\r\n\r\n")
            client.recv(100)
    assert status(worker, "/health/live", "localhost")[0] == 200
    assert len(world.log_text()) - written < 3_000, world.log_text()[written:][-2_000:]


def test_a_client_that_holds_its_answer_back_does_not_hold_up_a_stop(world: World, worker: Any) -> None:
    with socket.create_connection(("127.0.0.1", port(worker)), timeout=30) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        world.stop(worker)
