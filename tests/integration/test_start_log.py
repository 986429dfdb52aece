"""What a healthy start of a worker logs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.chaos.feed import feed, start_of_day, traffic
from tests.chaos.world import World
from worker.embedded.store import EmbeddedStore
from worker.settings import KafkaSettings
from worker.stream.connection import aiokafka_options

if TYPE_CHECKING:
    from pathlib import Path


def test_a_start_says_what_the_worker_runs_with_and_no_secret(embedded_broker: Any, tmp_path: Path) -> None:
    name, address = f"start-{uuid4().hex[:6]}", embedded_broker.bootstrap_servers
    options = aiokafka_options(KafkaSettings(bootstrap_servers=address))
    source = feed(options, f"{name}-input", list(traffic(5, 1, start_of_day())))
    with (
        EmbeddedStore(tmp_path / "store") as store,
        World(name, address, source, store.address, tmp_path) as world,
    ):
        worker = world.start()
        world.until_ready(worker)
        lines = [json.loads(line) for line in world.log_text().splitlines() if line.startswith("{")]
        password = world.dsn().split(":")[2].split("@")[0]
        assert password
        assert password not in world.log_text()
        port = worker.port  # type: ignore[attr-defined]
    said = {line["message"]: line for line in lines}
    assert said["sessionwatch starts"]["version"]
    assert said["sessionwatch starts"]["rules"] > 20
    assert (said["Kafka"]["brokers"], said["Kafka"]["group"]) == (address, name)
    assert said["topics"]["events"] == f"{name}-input"
    assert "***" in said["ClickHouse"]["store"]
    assert said["web server"]["address"] == f"http://127.0.0.1:{port}"
    ages = {line["source"]: line["age_days"] for line in lines if line["message"] == "enrichment source"}
    assert any(age is not None for age in ages.values()), ages
    assert len([line for line in lines if line["level"] == "info"]) < 25
