from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidReplicationFactorError

from worker.settings import KafkaSettings, TopicSettings
from worker.stream.connection import aiokafka_options
from worker.stream.topics import TopicSpec, check, compare, create, specs


def _options(broker: Any) -> dict[str, Any]:
    return aiokafka_options(KafkaSettings(bootstrap_servers=broker.bootstrap_servers))


def _wanted(prefix: str, partitions: int = 3) -> Any:
    names = {name: f"{prefix}.{name}" for name, field in TopicSettings.model_fields.items() if field.annotation is str}
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


def test_input_forwards_and_changelog_have_as_many_partitions() -> None:
    counts = {spec.name: spec.partitions for spec in specs(TopicSettings(partitions=5), "g")}
    assert counts["auth.sessions"] == counts["auth.sessions.by-user"] == counts["g-user-state-changelog"] == 5


def test_workers_that_start_together_do_not_get_in_each_others_way(broker: Any) -> None:
    wanted = _wanted("together")

    async def both() -> Any:
        return await asyncio.gather(*(create(_options(broker), wanted) for _ in range(4)))

    created = asyncio.run(both())
    assert sorted(name for names in created for name in names) == sorted(spec.name for spec in wanted)


def test_other_settings_than_wanted_are_told_with_advice(broker: Any) -> None:
    changelog = _wanted("settings")[-1]
    asyncio.run(create(_options(broker), [changelog._replace(config={"cleanup.policy": "delete"})]))
    problems = asyncio.run(check(_options(broker), [changelog]))
    (problem,) = [problem for problem in problems if "cleanup.policy" in problem.what]
    assert problem.what == "cleanup.policy is delete, not compact"
    assert f"--entity-name {changelog.name} --add-config cleanup.policy=compact" in problem.advice


def test_more_replicas_than_brokers_are_told_before_anything_is_created(broker: Any) -> None:
    wanted = [spec._replace(replication=3) for spec in _wanted("replicated")]
    problems = asyncio.run(check(_options(broker), wanted))
    assert {problem.what for problem in problems} == {
        "does not exist",
        "is to have 3 replicas, but there are 1 brokers",
    }


@pytest.mark.kafka
def test_a_refusal_names_the_topic_and_the_reason(kafka_broker: Any) -> None:
    wanted = [_wanted("refused")[0]._replace(replication=3)]
    with pytest.raises(InvalidReplicationFactorError, match=r"refused\.events: .*only 1 broker"):
        asyncio.run(create(_options(kafka_broker), wanted))


def _partition(number: int, leader: int = 1, replicas: int = 2) -> dict[str, Any]:
    return {"partition": number, "leader": leader, "replicas": list(range(replicas))}


SPEC = TopicSpec("t", 2, 2, {"cleanup.policy": "compact", "max.message.bytes": "1000"})
GOOD_CONFIG = {"cleanup.policy": "compact", "max.message.bytes": "1000", "retention.ms": "1"}


@pytest.mark.parametrize("config", [GOOD_CONFIG, {**GOOD_CONFIG, "max.message.bytes": "1001"}, {}])
def test_what_is_right_larger_or_not_reported_is_no_problem(config: dict[str, str | None]) -> None:
    assert compare(SPEC, [_partition(0), _partition(1)], config) == []


@pytest.mark.parametrize(
    ("partitions", "config", "what"),
    [
        ([_partition(0)], {}, "has 1 partitions, not 2"),
        ([_partition(0), _partition(1, replicas=1)], {}, "has 1 replicas, not 2"),
        ([_partition(1, leader=-1), _partition(0, leader=-1)], {}, "has no leader for partitions 0, 1"),
        ([_partition(0), _partition(1)], {"cleanup.policy": "delete"}, "cleanup.policy is delete, not compact"),
        ([_partition(0), _partition(1)], {"max.message.bytes": "999"}, "max.message.bytes is 999, not 1000"),
    ],
)
def test_each_thing_wrong_is_one_problem(
    partitions: list[dict[str, Any]], config: dict[str, str | None], what: str
) -> None:
    assert [problem.what for problem in compare(SPEC, partitions, config)] == [what]
