"""A store filled with simulated traffic through the whole pipeline, without a broker."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import orjson
from clickhouse_connect.driver.client import Client

from schemas.tables import TABLES
from worker.detections.catalogue import detections
from worker.enrich.enricher import build_enricher
from worker.outcome import Outcome
from worker.policies import Policies
from worker.runtime import build_pipeline
from worker.settings import Settings
from worker.simulator import Simulator, write_geo
from worker.sinks.clickhouse import FORMAT, INSERT_SETTINGS
from worker.stream.store import MemoryShard

# One partition keeps everybody.
SETTINGS: Final = Settings.model_validate({"topics": {"partitions": 1}})
TOPICS: Final = SETTINGS.topics
BATCH: Final = 20_000


class Record(NamedTuple):
    value: bytes
    timestamp: int
    topic: str
    offset: int
    partition: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Filler:
    """Puts records through a pipeline of one partition into a store."""

    def __init__(self, client: Client, simulator: Simulator, directory: Path) -> None:
        policies = Policies(detections().values())
        for tenant, policy in simulator.labels()["tenants"].items():
            policies.set(tenant, orjson.dumps(policy))
        self._client, self._shard, self._sent = client, MemoryShard(), 0
        self._pipeline = build_pipeline(SETTINGS, policies, build_enricher(*write_geo(directory)))

    def simulate(self, simulator: Simulator) -> None:
        """Write everything a simulation sends."""
        events = simulator.events()
        while batch := [(event.value, int(event.arrival_ms)) for event in islice(events, BATCH)]:
            self.send(TOPICS.events, batch)

    def send(self, topic: str, values: list[tuple[bytes, int]]) -> None:
        """Process records, each a value and its time, and what follows from them, up to the newest of those times."""
        outcome = self._process(topic, values)
        starts = [(each.value or b"", each.timestamp or 0) for each in outcome.messages if each.topic == TOPICS.starts]
        if starts:
            self._write(self._process(TOPICS.starts, starts))
        self._write(outcome)
        self._write(self._pipeline.sweep(0, values[-1][1], self._shard))

    def _process(self, topic: str, values: list[tuple[bytes, int]]) -> Outcome:
        # Offsets need only grow.
        records = [Record(value, time, topic, offset) for offset, (value, time) in enumerate(values, self._sent)]
        self._sent += len(values)
        return self._pipeline.process(0, records, self._shard)

    def _write(self, outcome: Outcome) -> None:
        for table, rows in outcome.rows.items():
            columns = [column.name for column in TABLES[table].columns]
            self._client.raw_insert(table, columns, b"".join(rows), settings=INSERT_SETTINGS, fmt=FORMAT)
