"""The textbook way to do the same job with Faust: one agent, one event at a time.

Every event is decoded, enriched and judged by the same pure pipeline; its state is set in a Faust table (one changelog
message an event), messages are sent one by one, rows are inserted every thousand events, in the loop.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import faust

from bench.peers.library import Progress, RowBuffer, Rules
from worker.pipeline.local import LocalRecord
from worker.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Iterable

INSERT_EVERY = 1000
TEXTBOOK_DELAY = 1.0


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


def record_of(event: Any) -> LocalRecord:
    """Return the current event of a stream as a record."""
    message = event.message
    place = message.topic, message.partition, message.offset
    return LocalRecord(*place, int(message.timestamp * 1000), message.key, event.value, ())


def main() -> None:
    """Run the agent on the topics and the store of the settings in force."""
    settings = load(None)
    app = create_app(settings)
    events = app.topic(settings.topics.events, value_type=bytes, value_serializer="raw")
    names = (settings.topics.findings, settings.topics.starts, settings.topics.by_user, settings.topics.dlq)
    topics = {name: app.topic(name, value_type=bytes, value_serializer="raw") for name in names}
    shard = TableShard(app.Table("state", key_type=bytes, value_type=bytes, partitions=settings.topics.partitions))
    rules, progress = Rules(settings), Progress()
    rows = RowBuffer(settings, progress.set_durable, INSERT_EVERY)

    @app.agent(events)
    async def textbook(stream: Any) -> None:
        async for event in stream.events():
            result = rules.apply(record_of(event), shard)
            for message in result.messages:
                await topics[message.topic].send(key=message.key, value=message.value)
            rows.add(result.rows)
            progress.add()
            flush_due()

    @app.timer(TEXTBOOK_DELAY)
    async def flush() -> None:
        flush_due()

    def flush_due() -> None:
        if rows.is_due():
            rows.flush()

    # Faust's root logger takes everything, and aiokafka has a debug message for each record: 20% of the time.
    logging.disable(logging.INFO)
    sys.argv = ["textbook", "worker", "--without-web", "-l", "warn"]
    app.main()


def create_app(settings: Settings) -> Any:
    """Return a Faust application with Faust's defaults."""
    return faust.App(
        settings.stream.group_id,
        broker=f"kafka://{settings.kafka.bootstrap_servers}",
        topic_partitions=settings.topics.partitions,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=int(settings.stream.session_timeout_s),
        broker_heartbeat_interval=2,
        web_enabled=False,
        datadir=str(settings.data_dir),
        topic_disable_leader=True,
    )


if __name__ == "__main__":
    main()
