"""The floor: consume with librdkafka and parse the JSON. No Python program that reads the events does less."""

from __future__ import annotations

import orjson
from confluent_kafka import Consumer, KafkaException

from bench.peers.library import Progress
from worker.settings import load

BATCH, WAIT_SECONDS = 1000, 0.1


def main() -> None:
    """Consume until stopped."""
    settings = load(None)
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "group.id": settings.stream.group_id,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": int(settings.stream.session_timeout_s * 1000),
        }
    )
    consumer.subscribe([settings.topics.events])
    progress, done = Progress(), 0
    while True:
        messages = consumer.consume(BATCH, WAIT_SECONDS)
        for message in messages:
            if message.error() is not None:
                raise KafkaException(message.error())
            orjson.loads(message.value())
        done += len(messages)
        progress.add(len(messages))
        progress.set_durable(done)


if __name__ == "__main__":
    main()
