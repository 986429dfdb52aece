"""The worker asked to stop: in time whatever the store does, at once when asked twice, and nothing is lost of it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.chaos.compare import everything
from tests.chaos.feed import feed, start_of_day, traffic
from tests.chaos.world import World
from worker.embedded.broker import EmbeddedBroker
from worker.embedded.store import EmbeddedStore
from worker.settings import KafkaSettings
from worker.stream.connection import aiokafka_options

EVENTS = 2_000


def test_a_worker_stops_in_time_while_the_store_hangs_and_at_once_when_asked_twice(
    embedded_broker: Any, tmp_path: Path
) -> None:
    name = f"stopping-{uuid4().hex[:6]}"
    address = embedded_broker.bootstrap_servers
    options = aiokafka_options(KafkaSettings(bootstrap_servers=address))
    source = feed(options, f"{name}-input", list(traffic(EVENTS, 1, start_of_day())))
    with (
        EmbeddedStore(tmp_path / "store") as store,
        World(name, address, source, store.address, tmp_path) as world,
    ):
        world.more = {"SESSIONWATCH_STREAM__DRAIN_S": "2"}
        world.proxy.fault = "hangs"
        worker = world.start()
        world.until(lambda: bool(world.proxy.hit["hangs"]), "an insert that hangs")
        # It fails when that takes ten seconds or more, or does not end with 0.
        world.stop(worker)

        hit = world.proxy.hit["hangs"]
        worker = world.start()
        world.until(lambda: world.proxy.hit["hangs"] > hit, "another insert that hangs")
        worker.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert worker.poll() is None, "it did not wait for what was under way"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 130
        world.workers.remove(worker)

        world.proxy.fault = ""
        world.start()
        world.finish()
        found = everything(world)
    assert len(found.tables["session_events"]) == source.accepted
    assert found.twice == 0
    assert len(found.letters) == source.records - source.accepted
    assert {key[0] for key in found.tables["findings"]} == found.published


def test_a_worker_whose_kafka_died_is_unready_says_why_once_and_stops_in_time(tmp_path: Path) -> None:
    name = f"dead-kafka-{uuid4().hex[:6]}"
    with EmbeddedBroker(tmp_path / "broker.log") as broker:
        options = aiokafka_options(KafkaSettings(bootstrap_servers=broker.bootstrap_servers))
        source = feed(options, f"{name}-input", list(traffic(50, 1, start_of_day())))
        with (
            EmbeddedStore(tmp_path / "store") as store,
            World(name, broker.bootstrap_servers, source, store.address, tmp_path) as world,
        ):
            worker = world.start()
            world.until_ready(worker)
            world.until(world.done, "the end of the input")
            os.kill(broker.pid or 0, signal.SIGKILL)
            world.until(lambda: not world.ready(worker), "unreadiness", 60)
            assert "Kafka" in world.page(worker, "/health/ready")
            world.until(lambda: "Kafka is not reached" in world.log_text(), "the warning")
            # It fails when that takes ten seconds or more, or does not end with 0.
            world.stop(worker)
            log = world.log_text()
    assert log.count("Kafka is not reached") == 1
    assert "Task was destroyed" not in log
    assert "Traceback" not in log
