"""A store filled with simulated traffic through the whole pipeline, without a broker."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from clickhouse_connect.driver.client import Client

from schemas.tables import TABLES
from worker.detections.catalogue import detections
from worker.enrich.enricher import build_enricher
from worker.evaluation import BATCH, Arrived
from worker.outcome import Outcome
from worker.pipeline import Pipeline
from worker.policies import Policies
from worker.settings import Settings
from worker.simulator import Simulator, write_geo
from worker.sinks.clickhouse import FORMAT, INSERT_SETTINGS
from worker.stream.store import MemoryShard

EVENTS, STARTS = "auth.sessions", Settings().topics.starts


class Filler:
    """Puts records through a pipeline of one partition into a store."""

    def __init__(self, client: Client, simulator: Simulator, directory: Path) -> None:
        settings, policies = Settings(), Policies(detections().values())
        for tenant, policy in simulator.labels()["tenants"].items():
            policies.set(tenant, orjson.dumps(policy))
        self._client, self._shard = client, MemoryShard()
        self._offsets = {EVENTS: 0, STARTS: 0, settings.topics.feedback: 0}
        self.pipeline = Pipeline(
            enricher=build_enricher(*write_geo(directory)),
            judge=policies.judge,
            topics=settings.topics,
            partition_of=lambda _key: 0,
            limits=settings.state.limits(),
        )

    def simulate(self, simulator: Simulator) -> None:
        """Write everything a simulation sends."""
        events = simulator.events()
        while batch := [(event.value, int(event.arrival_ms)) for event in islice(events, 10 * BATCH)]:
            self.send(EVENTS, batch)

    def send(self, topic: str, values: list[tuple[bytes, int]]) -> None:
        """Process records, each a value and its time, and what follows from them, up to the newest of those times."""
        outcome = self._process(topic, values)
        starts = [(each.value or b"", each.timestamp or 0) for each in outcome.messages if each.topic == STARTS]
        crossed = [self._process(STARTS, starts)] if starts else []
        for each in (outcome, *crossed, self.pipeline.sweep(0, values[-1][1], self._shard)):
            self._write(each)

    def _process(self, topic: str, values: list[tuple[bytes, int]]) -> Outcome:
        first = self._offsets[topic]
        self._offsets[topic] += len(values)
        records: Any = [Arrived(topic, 0, first + n, time, None, value, ()) for n, (value, time) in enumerate(values)]
        return self.pipeline.process(0, records, self._shard)

    def _write(self, outcome: Outcome) -> None:
        for table, rows in outcome.rows.items():
            columns = [column.name for column in TABLES[table].columns]
            self._client.raw_insert(table, columns, b"".join(rows), settings=INSERT_SETTINGS, fmt=FORMAT)
