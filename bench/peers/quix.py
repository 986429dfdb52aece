"""The same job with Quix Streams: a stateful function in a streaming data frame, RocksDB with a changelog topic.

Rows are inserted when Quix Streams commits a checkpoint, once a second; offsets are committed after that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quixstreams import Application, message_context
from quixstreams.models import Serializer
from quixstreams.sinks import BaseSink

from bench.peers.library import OneState, Progress, RowBuffer, Rules
from worker.pipeline.local import LocalRecord
from worker.settings import Settings, load

if TYPE_CHECKING:
    from worker.pipeline.ports import BatchResult, Message

COMMIT_SECONDS = 1.0
STATE = "user"


class MessageSerializer(Serializer):  # type: ignore[misc]
    """Sends the value of a message that the rules made."""

    def __call__(self, value: Message, ctx: Any) -> bytes | None:  # noqa: ARG002  the interface asks for it
        """Return the bytes of a message."""
        return value.value


class RowSink(BaseSink):  # type: ignore[misc]
    """Inserts the rows of a checkpoint."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        super().__init__()
        self._rows = RowBuffer(settings, progress.set_durable)

    def add(self, value: BatchResult, *_: Any, **__: Any) -> None:
        """Take the rows of an event."""
        self._rows.add(value.rows)

    def flush(self) -> None:
        """Make the rows durable before the offsets are committed."""
        self._rows.flush()


def main() -> None:
    """Run the application on the topics and the store of the settings in force."""
    settings = load(None)
    app = create_app(settings)
    rules, progress = Rules(settings), Progress()

    def step(value: bytes, key: bytes, timestamp: int, headers: Any, state: Any) -> BatchResult:  # noqa: ARG001
        context = message_context()
        shard = OneState(key, state.get_bytes(STATE))
        record = LocalRecord(context.topic, context.partition, context.offset, timestamp, key, value, ())
        result = rules.apply(record, shard)
        if shard.state is not None:
            state.set_bytes(STATE, shard.state)
        progress.add()
        return result

    events = app.topic(settings.topics.events, key_deserializer="bytes", value_deserializer="bytes")
    results = app.dataframe(events).apply(step, metadata=True, stateful=True)
    results.sink(RowSink(settings, progress))
    names = (settings.topics.findings, settings.topics.starts, settings.topics.by_user, settings.topics.dlq)
    topics = {name: app.topic(name, value_serializer=MessageSerializer()) for name in names}
    messages = results.filter(lambda result: bool(result.messages)).apply(lambda each: each.messages, expand=True)
    messages.to_topic(lambda message, *_: topics[message.topic], key=lambda message: message.key)
    app.run()


def create_app(settings: Settings) -> Any:
    """Return an application that commits once a second."""
    return Application(
        broker_address=settings.kafka.bootstrap_servers,
        consumer_group=settings.stream.group_id,
        auto_offset_reset="earliest",
        commit_interval=COMMIT_SECONDS,
        state_dir=settings.data_dir / "quix",
        consumer_extra_config={"session.timeout.ms": int(settings.stream.session_timeout_s * 1000)},
        loglevel="WARNING",
    )


if __name__ == "__main__":
    main()
