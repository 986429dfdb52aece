"""The textbook way to do the same job, for comparison: one Faust agent, one event at a time.

Every event is decoded, enriched and judged by the same pure pipeline; its state is set in a Faust table (one changelog
message an event), findings are sent one by one, rows inserted every thousand rows. Prints how many events it has done,
once a second, until it is stopped.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust

from schemas.clickhouse.tables import TABLES
from worker.apps.build import build_pipeline
from worker.apps.embedded import served
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect
from worker.detections.policies import Policies
from worker.detections.registry import detections
from worker.enrich.enricher import build_enricher
from worker.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Iterable

INSERT_EVERY = 1000


class TableShard:
    """A Faust table as a shard: every `put` is a changelog message."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def get(self, key: bytes) -> bytes | None:
        """Return the state of a key."""
        return self._table.get(key)  # type: ignore[no-any-return]

    def put(self, key: bytes, state: bytes | None) -> None:
        """Set the state of a key."""
        self._table[key] = state

    def pop_due(self, _now: int) -> Iterable[bytes]:
        """Return nothing: the textbook has no timer."""
        return ()

    def __len__(self) -> int:
        return len(self._table)


class Taken:
    """The current event of a stream as a record."""

    def __init__(self, event: Any) -> None:
        message = event.message
        self.topic, self.partition, self.offset = message.topic, message.partition, message.offset
        self.timestamp = int(message.timestamp * 1000)
        self.key, self.value, self.headers = message.key, event.value, ()


def main() -> None:
    """Run the agent on the topics of the settings in force."""
    with served(load(None)) as settings:
        run(settings)


def run(settings: Settings) -> None:
    """Run the agent, with the store of the settings."""
    app = faust.App(
        "textbook",
        broker=f"kafka://{settings.kafka.bootstrap_servers}",
        topic_partitions=settings.topics.partitions,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        datadir=str(settings.data_dir),
        topic_disable_leader=True,
    )
    events = app.topic(settings.topics.events, value_type=bytes, value_serializer="raw")
    found = app.topic("textbook.findings", value_type=bytes, value_serializer="raw")
    table = app.Table("state", key_type=bytes, value_type=bytes, partitions=settings.topics.partitions)
    enricher = build_enricher(settings.geo.city_db, settings.geo.asn_db)
    pipeline = build_pipeline(settings, Policies(detections().values()), enricher)
    client = connect(settings.store_dsn())
    with closing(connect(settings.store_dsn())) as first:
        migrations.up(first)
    rows: list[bytes] = []
    columns = [column.name for column in TABLES["session_events"].columns]
    done = 0
    told = time.perf_counter()

    @app.agent(events)
    async def textbook(stream: Any) -> None:
        nonlocal done, told
        async for event in stream.events():
            record = Taken(event)
            outcome = pipeline.process(record.partition, [record], TableShard(table))
            for message in outcome.messages:
                await found.send(value=message.value)
            rows.extend(outcome.rows.get("session_events", ()))
            if len(rows) >= INSERT_EVERY:
                client.raw_insert("session_events", columns, b"".join(rows), fmt="MsgPack", compression=None)
                rows.clear()
            done += 1
            if time.perf_counter() - told >= 1:
                told = time.perf_counter()
                os.write(1, b"%d\n" % done)  # Faust makes log lines of what is printed

    # Faust's root logger takes everything, and aiokafka has a debug message for each record: 20% of the time.
    logging.disable(logging.INFO)
    sys.argv = ["textbook", "worker", "--without-web", "-l", "warn"]
    app.main()


if __name__ == "__main__":
    Path("data").mkdir(exist_ok=True)
    main()
