"""Further input topics: each with its own mapping, and offsets of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from schemas.decoding import Decoder
from schemas.mappings import builtin
from schemas.sources import source_number
from tests.support.records import T0, TOPICS, Taken, session
from worker.detections.policies import Policies
from worker.detections.registry import detections
from worker.enrich.enricher import build_enricher
from worker.pipeline.batch import Pipeline
from worker.pipeline.readers import KafkaReader
from worker.sessions.limits import Limits
from worker.settings import TopicSettings
from worker.stream.state_store import MemoryShard

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.pipeline.ports import BatchResult

OTHER = "keycloak.events"
LOGIN = orjson.dumps({
    "type": "LOGIN", "realmId": "acme", "userId": "u1", "sessionId": "k1", "ipAddress": "203.0.113.7", "time": T0,
    "clientId": "portal", "details": {},
})  # fmt: skip


def pipeline(partition_of: Callable[[bytes], int] = lambda _key: 0) -> Pipeline:
    return Pipeline(
        reader=KafkaReader(
            build_enricher(None, None), Decoder(), {OTHER: Decoder(mapping=builtin()["keycloak"], tenant_id="acme")}
        ),
        engine_for=Policies(detections().values()).engine_for, topics=TOPICS, partition_of=partition_of,
        limits=Limits(),
    )  # fmt: skip


def rows(result: BatchResult) -> int:
    return len(result.rows.get("session_events", ()))


def test_a_topics_offsets_say_nothing_of_another_topics() -> None:
    shard, heart = MemoryShard(), pipeline()
    assert rows(heart.process(0, [Taken(session(), 7)], shard)) == 1
    assert rows(heart.process(0, [Taken(LOGIN, 7, OTHER)], shard)) == 1
    again = heart.process(0, [Taken(LOGIN, 7, OTHER)], shard)
    assert (rows(again), again.counters["deduplicated",]) == (0, 1)
    assert rows(heart.process(0, [Taken(session(last_used_at=T0 + 1), 8)], shard)) == 1


def test_a_forward_is_read_as_the_topic_it_came_from() -> None:
    forwarded = pipeline(lambda _key: 1).process(0, [Taken(LOGIN, 3, OTHER)], MemoryShard()).messages
    (message,) = forwarded
    assert (message.topic, message.partition) == (TOPICS.by_user, 1)
    shard, heart = MemoryShard(), pipeline(lambda _key: 1)
    record = Taken(message.value, 0, TOPICS.by_user, 1, T0, message.key, message.headers)
    assert rows(heart.process(1, [record], shard)) == 1
    assert heart.process(1, [record], shard).counters["deduplicated",] == 1


def test_numbers_of_source_partitions_are_no_partitions_numbers() -> None:
    numbers = {source_number(topic, partition) for topic in ("a", "b") for partition in (0, 9_999)}
    assert len(numbers) == 4
    assert min(numbers) > 9_999


def test_a_source_has_a_name_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"auth\.sessions is the name of another topic"):
        TopicSettings(sources={"auth.sessions": {"mapping": "okta"}})  # type: ignore[dict-item]
