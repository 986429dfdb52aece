from __future__ import annotations

from types import SimpleNamespace

import pytest

from worker.detections.engine import TenantRuleEngine
from worker.detections.registry import detections
from worker.detections.testing import START
from worker.pipeline.batch import Pipeline
from worker.pipeline.readers import KafkaReader
from worker.sessions.codec import BUDGET, CORRELATION, INCIDENTS, NEVER, ROW_OWNER, USER, UnknownFormatError
from worker.sessions.limits import HOUR, Limits
from worker.sessions.state import decode_user, encode_user, is_user, new_user
from worker.stream.state_store import MemoryShard

ENGINE = TenantRuleEngine(detections().values())


def test_a_state_of_an_unknown_format_is_neither_dropped_nor_misread() -> None:
    topics = SimpleNamespace(events="e", by_user="b", starts="s", dlq="d", findings="f", incidents="i", feedback="v")
    pipeline = Pipeline(
        reader=KafkaReader(SimpleNamespace(enrich=None)),  # type: ignore[arg-type]  it is not called
        engine_for=lambda _tenant: ENGINE, topics=topics, partition_of=lambda _key: 0, limits=Limits(),
    )  # fmt: skip
    shard, unknown = MemoryShard(), bytes((USER + 100,)) + START.to_bytes(8, "big") + b"?"
    shard.put(b"acme/u", unknown)
    with pytest.raises(UnknownFormatError, match=f"format {USER + 100}"):
        pipeline.fire_timers(0, START + HOUR, shard)
    assert shard.get(b"acme/u") == unknown


def test_kinds_of_states_are_told_apart_by_their_formats() -> None:
    assert len({BUDGET, CORRELATION, INCIDENTS, ROW_OWNER, USER}) == 5
    encoded = encode_user(new_user("acme", "u/1"), NEVER)
    assert is_user(encoded)
    assert decode_user(encoded).user_id == "u/1"
