"""The same job with bytewax: a dataflow with a stateful step and recovery, which SQLite files on the disk hold.

Rows are collected in a stateful step, 20,000 or a second's, and inserted by the sink at once: what waits is part of the
snapshots, as bytewax tells a sink nothing of them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from bench.peers.library import INSERT_ROWS, INSERT_SECONDS, OneState, Progress, RowBuffer, Rules
from worker.pipeline.local import LocalRecord
from worker.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.pipeline.ports import BatchResult

SNAPSHOT_SECONDS = 1.0
FETCH_WAIT_MS = "25"


class RowPartition(StatelessSinkPartition):  # type: ignore[misc]
    """Inserts the rows that were collected."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._rows = RowBuffer(settings, progress.set_durable)

    def write_batch(self, items: list[tuple[str, list[dict[str, list[bytes]]]]]) -> None:
        """Insert the rows of some events."""
        for _, collected in items:
            for rows in collected:
                self._rows.add(rows)
        self._rows.flush()


class RowSink(DynamicSink):  # type: ignore[misc]
    """The sink of rows, of which each worker has one."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings, self._progress = settings, progress

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> RowPartition:
        """Return the worker's part of it."""
        return RowPartition(self._settings, self._progress)


def record_of(message: KafkaSourceMessage[bytes, bytes]) -> LocalRecord:
    """Return a message as a record."""
    place = message.topic, message.partition, message.offset
    return LocalRecord(*place, message.timestamp[1], message.key, message.value, ())


def flow_of(settings: Settings) -> Dataflow:
    """Return the dataflow on the topics and the store of the settings."""
    rules, progress, brokers = Rules(settings), Progress(), settings.kafka.bootstrap_servers.split(",")

    def step(state: bytes | None, record: LocalRecord) -> tuple[bytes | None, BatchResult]:
        shard = OneState(record.key or b"", state)
        result = rules.apply(record, shard)
        progress.add()
        return shard.state, result

    def messages(keyed: tuple[str, BatchResult]) -> Iterator[KafkaSinkMessage[bytes | None, bytes | None]]:
        return (KafkaSinkMessage(each.key, each.value, topic=each.topic) for each in keyed[1].messages)

    flow = Dataflow("sessions")
    config = {"fetch.wait.max.ms": FETCH_WAIT_MS}
    source = KafkaSource(brokers, [settings.topics.events], add_config=config)
    records = op.map("record", op.input("events", flow, source), record_of)
    results = op.stateful_map("rules", op.key_on("user", records, lambda record: record.key.decode()), step)
    op.output("messages", op.flat_map("message", results, messages), KafkaSink(brokers, settings.topics.findings))
    rows = op.map("row", results, lambda keyed: ("rows", keyed[1].rows))
    collected = op.collect("batch", rows, timedelta(seconds=INSERT_SECONDS), INSERT_ROWS)
    op.output("rows", collected, RowSink(settings, progress))
    return flow


def main() -> None:
    """Run the dataflow of the settings in force, with recovery."""
    settings = load(None)
    directory = settings.data_dir / "bytewax"
    if not directory.exists():
        directory.mkdir(parents=True)
        init_db_dir(directory, 1)
    every = timedelta(seconds=SNAPSHOT_SECONDS)
    cli_main(flow_of(settings), epoch_interval=every, recovery_config=RecoveryConfig(str(directory)))


if __name__ == "__main__":
    main()
