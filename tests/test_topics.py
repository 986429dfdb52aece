from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from worker.stream.connection import KafkaSettings, aiokafka_options
from worker.stream.topics import TopicSettings, check, create, specs


def _options(broker: Any) -> dict[str, Any]:
    return aiokafka_options(KafkaSettings(bootstrap_servers=broker.bootstrap_servers))


def _wanted(prefix: str, partitions: int = 3) -> Any:
    names = {name: f"{prefix}.{name}" for name in ("events", "by_user", "dlq", "findings", "policies")}
    return specs(TopicSettings(partitions=partitions, **names), prefix)


def test_topics_are_created_once_and_found_right(broker: Any) -> None:
    options, wanted = _options(broker), _wanted("created")
    assert asyncio.run(create(options, wanted)) == [spec.name for spec in wanted]
    assert asyncio.run(create(options, wanted)) == []
    assert asyncio.run(check(options, wanted)) == []


def test_what_is_wrong_with_topics_is_told_with_advice(broker: Any) -> None:
    options = _options(broker)
    asyncio.run(create(options, _wanted("wrong")))
    problems = asyncio.run(check(options, _wanted("wrong", partitions=6)))
    assert {problem.topic for problem in problems} >= {"wrong.events", "wrong.by_user", "wrong-user-state-changelog"}
    assert all("3 partitions, not 6" in problem.what and problem.advice for problem in problems)


def test_missing_topics_are_told(broker: Any) -> None:
    wanted = _wanted("missing")
    problems = asyncio.run(check(_options(broker), wanted))
    assert [(problem.topic, problem.what) for problem in problems] == [(s.name, "does not exist") for s in wanted]


def test_a_broker_keeps_keys_headers_and_timestamps(broker: Any) -> None:
    async def round_trip() -> Any:
        options, topic = _options(broker), "kept.events"
        await create(options, _wanted("kept"))
        async with AIOKafkaProducer(**options) as producer:
            sent = {"value": b"v", "key": b"k", "headers": [("a", b"1")], "timestamp_ms": 1_700_000_000_123}
            await producer.send_and_wait(topic, partition=1, **sent)
        async with AIOKafkaConsumer(**options, auto_offset_reset="earliest") as consumer:
            consumer.assign([TopicPartition(topic, 1)])
            return await asyncio.wait_for(consumer.getone(), 20)

    record = asyncio.run(round_trip())
    assert (record.value, record.key, record.headers) == (b"v", b"k", (("a", b"1"),))
    assert record.timestamp == 1_700_000_000_123
