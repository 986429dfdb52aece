"""Deletions that name nothing but a database row's key: applied where the row's user is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.support.records import T0, TOPICS, Taken, pipeline, session
from worker.detections.policies import Policies
from worker.detections.registry import detections
from worker.enrich.enricher import build_enricher
from worker.pipeline.batch import Pipeline
from worker.pipeline.privacy import Pseudonyms
from worker.pipeline.readers import KafkaReader
from worker.sessions.limits import Limits
from worker.sessions.row_owners import KEPT, RENEWED, RowOwner, encode_row_owner, renewed
from worker.sessions.state import decode_user
from worker.stream.state_store import MemoryShard

if TYPE_CHECKING:
    from worker.pipeline.ports import BatchResult, Message

KEY_ALONE = [
    {"before": {"uid": "s1"}, "after": None, "op": "d", "ts_ms": T0 + 5},
    {"before": {"uid": "s1", "tenant_id": "", "user_id": "", "is_deleted": False, "created_at": 0}, "op": "d",
     "ts_ms": T0 + 5},
    {"payload": {"before": {"uid": "s1", "user_id": None}, "after": None, "op": "d", "ts_ms": T0 + 5}},
    {"uid": "s1", "__deleted": "true", "__ts_ms": T0 + 5},
]  # fmt: skip


def create(**changes: Any) -> bytes:
    return orjson.dumps({"before": None, "after": orjson.loads(session(**changes)), "op": "c", "ts_ms": T0})


def deletion(uid: Any = "s1") -> bytes:
    return orjson.dumps({"before": {"uid": uid}, "after": None, "op": "d", "ts_ms": T0 + 5})


def forwards(result: BatchResult) -> list[Message]:
    return [message for message in result.messages if message.topic == TOPICS.by_user]


def letters(result: BatchResult) -> list[Message]:
    return [message for message in result.messages if message.topic == TOPICS.dlq]


def taken(message: Message, offset: int, partition: int) -> Taken:
    return Taken(message.value, offset, TOPICS.by_user, partition, T0, message.key, message.headers)


def is_ended(shard: MemoryShard, uid: str = "s1") -> bool:
    state = shard.get(b"acme/u1")
    assert state is not None
    return decode_user(state).current.sessions[uid].ended > 0


@pytest.mark.parametrize("value", KEY_ALONE)
def test_it_is_applied_in_the_partition_of_the_rows_user(value: dict[str, Any]) -> None:
    heart, source, home = pipeline(lambda _key: 1), MemoryShard(), MemoryShard()
    sent = forwards(heart.process(0, [Taken(create(), 0), Taken(orjson.dumps(value), 1)], source))
    assert [message.key for message in sent] == [b"acme/u1", b"acme/u1"]
    result = heart.process(1, [taken(each, offset, 1) for offset, each in enumerate(sent)], home)
    assert len(result.rows["session_events"]) == 2
    assert is_ended(home)
    again = heart.process(1, [taken(sent[1], 2, 1)], home)
    assert again.counters["deduplicated",] == 1


def test_records_that_overtake_it_do_not_make_it_a_repetition() -> None:
    heart, shard = pipeline(), MemoryShard()
    (sent,) = forwards(heart.process(0, [Taken(create(), 0), Taken(deletion(), 1)], shard))
    other = create(uid="s2", created_at=T0 + 9, last_used_at=T0 + 9)
    heart.process(0, [Taken(other, 2)], shard)
    assert len(heart.process(0, [taken(sent, 0, 0)], shard).rows["session_events"]) == 1
    assert is_ended(shard)
    assert not is_ended(shard, "s2")


def test_a_row_that_was_not_seen_on_the_topic_is_a_dead_letter() -> None:
    heart, shard = pipeline(), MemoryShard()
    heart.process(0, [Taken(create(uid="s2"), 0), Taken(session(), 1)], shard)
    heart.process(0, [Taken(create(), 0, "another")], shard)
    (letter,) = letters(heart.process(0, [Taken(deletion(), 2)], shard))
    assert b"REPLICA IDENTITY FULL" in dict(letter.headers)["sw-message"]


def test_a_numbered_row_and_a_long_key_are_found() -> None:
    for uid in (17, "t" * 1_000):
        heart, shard = pipeline(), MemoryShard()
        assert len(forwards(heart.process(0, [Taken(create(uid=uid), 0), Taken(deletion(uid), 1)], shard))) == 1


def test_a_row_is_forgotten_a_month_after_its_last_change() -> None:
    heart, shard = pipeline(), MemoryShard()
    heart.process(0, [Taken(create(), 0)], shard)
    heart.fire_timers(0, T0 + KEPT + 1, shard)
    assert letters(heart.process(0, [Taken(deletion(), 1)], shard))


def test_an_entry_is_written_anew_once_a_day() -> None:
    state = encode_row_owner(RowOwner("acme", "u1", T0))
    assert renewed(state, RowOwner("acme", "u1", T0 + 1)) is None
    assert renewed(state, RowOwner("acme", "u1", T0 + RENEWED)) is not None
    assert renewed(state, RowOwner("acme", "u2", T0 + 1)) is not None
    assert renewed(state, RowOwner("acme", "u2", T0 - 1)) is None


def test_a_row_that_two_tenants_claim_is_nobodys() -> None:
    heart, shard = pipeline(), MemoryShard()
    heart.process(
        0, [Taken(create(), 0), Taken(create(tenant_id="other"), 1), Taken(create(last_used_at=T0 + 9), 2)], shard
    )
    (letter,) = letters(heart.process(0, [Taken(deletion(), 3)], shard))
    assert b"REPLICA IDENTITY FULL" in dict(letter.headers)["sw-message"]


def test_with_pseudonyms_no_state_names_the_rows_user() -> None:
    heart = Pipeline(
        reader=KafkaReader(build_enricher(None, None)), engine_for=Policies(detections().values()).engine_for,
        topics=TOPICS, partition_of=lambda _key: 0, limits=Limits(),
        pseudonyms=Pseudonyms("k" * 32, users=True, addresses="keep"),
    )  # fmt: skip
    shard = MemoryShard()
    assert len(letters(heart.process(0, [Taken(create(), 0), Taken(deletion(), 1)], shard))) == 1
    assert not any(b"u1" in state for _, state in shard.items())
