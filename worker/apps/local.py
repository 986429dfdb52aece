"""Runs simulated traffic through the pipeline, without broker and store."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import orjson

from worker.clickhouse.writer import write_rows
from worker.detections.policies import Policies
from worker.detections.registry import detections
from worker.enrich.enricher import build_enricher
from worker.pipeline.batch import Pipeline
from worker.pipeline.local import LocalPipeline, batches
from worker.pipeline.ports import LocalRecord
from worker.pipeline.readers import KafkaReader
from worker.stream.state_store import MemoryShard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from clickhouse_connect.driver.client import Client

    from worker.pipeline.ports import Record
    from worker.settings import Settings
    from worker.simulator import SimEvent, Simulator


def fill(settings: Settings, client: Client, simulator: Simulator) -> int:
    """Run simulated events through the pipeline and insert the rows, without a broker; return the number of events.

    Raises:
        ClickHouseError: the store refuses the rows.
    """
    count = 0
    with local_pipeline(settings, simulator.labels()["tenants"]) as local:
        for records in batches(as_records(simulator.events()), size=20_000):
            for outcome in (*local.process(records), local.fire_timers(records[-1].timestamp)):
                for table, rows in outcome.rows.items():
                    write_rows(client, table, rows)
            count += len(records)
    return count


@contextmanager
def local_pipeline(settings: Settings, tenants: Mapping[str, Any]) -> Iterator[LocalPipeline]:
    """Yield a pipeline with all stages, the policies of tenants, and the simulator's geo databases."""
    from worker.simulator import write_geo  # noqa: PLC0415  an optional extra

    policies = Policies(detections().values())
    for tenant, policy in tenants.items():
        policies.set(tenant, orjson.dumps(policy))
    with TemporaryDirectory() as directory:
        pipeline = Pipeline(
            reader=KafkaReader(build_enricher(*write_geo(Path(directory)))),
            engine_for=policies.engine_for,
            topics=settings.topics,
            partition_of=lambda _key: 0,
            limits=settings.state.limits(),
        )
        yield LocalPipeline(pipeline, MemoryShard(), (settings.topics.starts, settings.topics.findings))


def as_records(events: Iterable[SimEvent], topic: str = "events") -> Iterator[Record]:
    """Yield simulated events as records of one partition."""
    for number, event in enumerate(events):
        yield LocalRecord(topic, 0, number, int(event.arrival_ms), event.key, event.value, ())
