"""A whole worker behind locked doors: passwords over TLS to Kafka, certificates on both sides to ClickHouse."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic import SecretStr

from tests.support.secured import PASSWORD, listener
from worker.clickhouse.writer import connect
from worker.embedded.access import Role
from worker.embedded.broker import free_port
from worker.settings import KafkaSettings
from worker.simulator import Simulator, profile
from worker.stream.connection import aiokafka_options
from worker.stream.topics import changelog_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.secured import Secured
    from tests.support.store_fixtures import Store

pytest_plugins = ["tests.support.store_fixtures"]
EVENTS = 500
COMMAND = [sys.executable, "-m", "worker.cli"]


def environment(settings: KafkaSettings, dsn: str, directory: Path) -> dict[str, str]:
    """Return the settings of a worker, as people give them."""
    pems = settings.ssl_cafile.parent if settings.ssl_cafile else Path()
    given = settings.model_dump(exclude_none=True)
    kafka = {
        f"SESSIONWATCH_KAFKA__{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in given.items()
    }
    return {
        **os.environ,
        **kafka,
        "SESSIONWATCH_CLICKHOUSE__DSN": dsn,
        "SESSIONWATCH_CLICKHOUSE__CA_CERT": str(pems / "ca.pem"),
        "SESSIONWATCH_CLICKHOUSE__CLIENT_CERT": str(pems / "client.pem"),
        "SESSIONWATCH_CLICKHOUSE__CLIENT_KEY": str(pems / "client.key"),
        "SESSIONWATCH_DATA_DIR": str(directory),
        "SESSIONWATCH_TOPICS__PARTITIONS": "2",
        "SESSIONWATCH_WEB__PORT": str(free_port()),
    }


def prepare(given: Mapping[str, str]) -> None:
    for command in (["topics", "create"], ["migrate", "up"], ["doctor"]):
        done = subprocess.run([*COMMAND, *command], env=given, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


async def produce(settings: KafkaSettings) -> None:
    config = profile("demo", seed=1, start_ms=int(time.time() * 1000), users=50, rate=200.0, warmup_days=0.0)
    async with AIOKafkaProducer(**aiokafka_options(settings)) as producer:
        for event, _ in zip(Simulator(config).events(), range(EVENTS), strict=False):
            await producer.send_and_wait("auth.sessions", event.value, key=event.key)


async def states(settings: KafkaSettings, topic: str) -> int:
    """Return how many records there are of the changelog."""
    async with AIOKafkaConsumer(**aiokafka_options(settings)) as consumer:
        return sum((await consumer.end_offsets([TopicPartition(topic, each) for each in range(2)])).values())


@pytest.mark.kafka
def test_a_whole_worker_behind_locked_doors(secured: Secured, store: Store, database: str, tmp_path: Path) -> None:
    settings = secured.passwords.model_copy(update={"sasl_mechanism": "SCRAM-SHA-512"})
    pems = settings.ssl_cafile.parent if settings.ssl_cafile else tmp_path
    with (
        listener(pems, store, mutual=True) as served,
        closing(connect(store.address.dsn(Role.WRITER, database))) as client,
    ):
        dsn = store.address.dsn(Role.WRITER, database, served.port)
        given = environment(settings, dsn.replace("clickhouse:", "clickhouses:"), tmp_path / "data")
        prepare(given)
        asyncio.run(produce(settings))
        log = tmp_path / "log"
        with log.open("wb") as out, subprocess.Popen([*COMMAND, "worker"], env=given, stdout=out, stderr=out) as worker:
            deadline = time.monotonic() + 60
            while client.query("SELECT count() FROM session_events").result_rows[0][0] < EVENTS:
                assert worker.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0, log.read_text()
        assert asyncio.run(states(settings, changelog_name("sessionwatch"))) > 0
    said = log.read_text()
    assert PASSWORD not in said
    assert store.address.writer not in said
