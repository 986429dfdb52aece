from __future__ import annotations

import random
from typing import Any

import pytest

from schemas.finding import Severity
from schemas.keys import user_key
from tests.support.records import T0, TOPICS, Taken, pipeline, session
from worker.detections.policies import Policies
from worker.detections.registry import detections
from worker.pipeline.correlation import MAX_STARTS
from worker.pipeline.ports import ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TOPIC, REPLAYED, BatchResult
from worker.sessions.limits import DAY, Limits
from worker.sessions.state import decode_user
from worker.stream.state_store import MemoryShard


def run(records: list[Taken], shard: MemoryShard, sizes: list[int] | None = None, **options: Any) -> list[BatchResult]:
    heart, outcomes, start = pipeline(**options), [], 0
    for size in sizes or [len(records)]:
        outcomes.append(heart.process(0, records[start : start + size], shard))
        start += size
    return outcomes


def test_an_event_becomes_a_row_and_a_state() -> None:
    shard = MemoryShard()
    (outcome,) = run([Taken(session(), 0)], shard)
    assert [len(rows) for rows in outcome.rows.values()] == [1]
    assert list(outcome.states) == [user_key("acme", "u1")]
    user = decode_user(shard.get(user_key("acme", "u1")) or b"")
    assert user.current.sessions["s1"].expires == T0 + 3_600_000
    assert outcome.counters == {("accepted",): 1}


def test_good_neighbours_of_bad_records_are_unaffected() -> None:
    bad = [b"{bad", b"\xff", b"[]", b"", b'{"user_id": []}', b"x" * (2 << 20), b"[" * 100_000, session(ip="nonsense"),
           session(created_at=1), session(created_at="2150-01-01T00:00:00Z"), session(last_used_at="soon")]  # fmt: skip
    records = [Taken(value, offset) for offset, value in enumerate([session(), *bad, session(last_used_at=T0 + 1)])]
    (outcome,) = run(records, MemoryShard())
    assert outcome.counters[("accepted",)] == 2
    letters = [message for message in outcome.messages if message.topic == "dlq"]
    assert [letter.value for letter in letters] == bad
    for offset, letter in enumerate(letters, 1):
        headers = dict(letter.headers)
        assert headers["sw-reason"]
        assert headers["sw-reason"]
        assert headers[ORIGIN_TOPIC] == b"events"
        assert headers[ORIGIN_OFFSET] == str(offset).encode()
    fields = [dict(letter.headers)["sw-field"] for letter in letters]
    assert fields[4] == b"user_id"
    assert fields[7:] == [b"ip", b"created_at", b"created_at", b"last_used_at"]


def test_nothing_is_ignored_silently() -> None:
    values = [None, b"null", b'{"op": "t", "ts_ms": 1790000000000}']
    (outcome,) = run([Taken(value, offset) for offset, value in enumerate(values)], MemoryShard())
    assert sum(outcome.counters.values()) == 3
    assert {key[0] for key in outcome.counters} == {"ignored"}


@pytest.mark.parametrize(("skew", "found"), [(60_000, {"clock-anomaly"}), (600_000, set())])
def test_the_skew_is_a_setting_when_records_are_read_as_well(skew: int, found: set[str]) -> None:
    record = Taken(session(last_used_at=T0 + 300_000), 0)
    (outcome,) = run([record], MemoryShard(), limits=Limits(clock_skew=skew))
    assert {each.detection for each in outcome.findings} == found


def test_a_record_read_again_is_skipped() -> None:
    shard, records = MemoryShard(), [Taken(session(), 0), Taken(session(last_used_at=T0 + 1), 1)]
    run(records, shard)
    before = shard.get(user_key("acme", "u1"))
    (again,) = run(records, shard)
    assert again.counters == {("deduplicated",): 2}
    assert not again.rows
    assert shard.get(user_key("acme", "u1")) == before


def test_a_misplaced_record_is_forwarded_with_its_origin_and_applied_there() -> None:
    (sent,) = run([Taken(session(), 7, partition=3, key=b"other")], MemoryShard(), partition_of=lambda _key: 2)
    (message,) = sent.messages
    assert (message.topic, message.partition, message.timestamp) == ("by-user", 2, T0)
    assert dict(message.headers)[ORIGIN_PARTITION] == b"3"
    shard = MemoryShard()
    forwarded = Taken(message.value, 99, "by-user", 2, T0, message.key, message.headers)
    outcome = pipeline(lambda _key: 2).process(2, [forwarded, forwarded._replace(offset=100)], shard)
    assert outcome.counters == {("accepted",): 1, ("deduplicated",): 1}
    assert decode_user(shard.get(user_key("acme", "u1")) or b"").offsets == {3: 7}


def test_a_forward_that_names_no_origin_is_a_dead_letter() -> None:
    (outcome,) = run([Taken(session(), 0, topic="by-user")], MemoryShard())
    assert outcome.counters == {("rejected", "missing-field"): 1}


@pytest.mark.parametrize("seed", range(5))
def test_batches_cut_differently_give_the_same(seed: int) -> None:
    chosen = random.Random(seed)
    places = [("203.0.113.7", "Paris, FR"), ("198.51.100.7", "Tokyo, JP"), ("192.0.2.9", "Berlin, DE")]
    records = []
    for offset in range(200):
        ip, place = chosen.choice(places)
        used = T0 + offset * 60_000 - chosen.choice([0, 0, 0, 5_400_000])
        value = session(uid=f"s{chosen.randrange(4)}", user_id=f"u{chosen.randrange(3)}", ip=ip, location=place,
                        last_used_at=used, is_deleted=chosen.random() < 0.02)  # fmt: skip
        records.append(Taken(value, offset, timestamp=T0 + offset * 60_000))
    whole, cut = MemoryShard(), MemoryShard()
    one = run(records, whole)
    sizes = [chosen.randrange(1, 40) for _ in range(200)]
    many = run(records, cut, sizes)
    assert dict(whole.items()) == dict(cut.items())
    assert _rows(one, "session_events") == _rows(many, "session_events")
    assert _last(one) == _last(many)
    assert [m for o in one for m in o.messages] == [m for o in many for m in o.messages]


def _rows(outcomes: list[BatchResult], table: str) -> list[bytes]:
    return [row for outcome in outcomes for row in outcome.rows.get(table, [])]


def _last(outcomes: list[BatchResult]) -> dict[str, Any]:
    return {finding.uid: finding for outcome in outcomes for finding in outcome.findings}


def test_time_alone_ends_sessions_and_forgets_users() -> None:
    shard = MemoryShard()
    run([Taken(session(), 0)], shard)
    heart = pipeline()
    assert not heart.fire_timers(0, T0 + 3_600_000, shard).rows
    ended = heart.fire_timers(0, T0 + 3_600_000 + 120_000, shard)
    assert len(ended.rows["sessions"]) == 1
    assert ended.counters == {("expired",): 1}
    assert not heart.fire_timers(0, T0 + DAY, shard).rows
    forgotten = heart.fire_timers(0, T0 + 401 * DAY, shard)
    assert forgotten.states == {user_key("acme", "u1"): None}
    assert len(shard) == 0


def test_keys_are_unambiguous() -> None:
    assert user_key("a/b", "c") != user_key("a", "b/c")
    assert user_key("a%2Fb", "c") != user_key("a/b", "c")


def test_what_a_detection_cannot_evaluate_is_counted() -> None:
    (outcome,) = run([Taken(session(ip="10.0.0.1", user_agent="?", location="-", amr=None), 0)], MemoryShard())
    reasons = {key[1:]: count for key, count in outcome.counters.items() if key[0] == "unevaluated"}
    assert reasons["new-network", "unknown-network"] == 1
    assert reasons["device-change", "unknown-device"] == 1
    assert reasons["impossible-travel", "unknown-place"] == 1
    assert reasons["weak-authentication", "unknown-amr"] == 1
    assert all(uid != "use-after-expiry" for uid, _ in reasons)


def test_a_tenant_s_own_client_is_no_script() -> None:
    policies = Policies(detections().values())
    policies.set("acme", b'{"first_party_clients": ["^AcmeSync/"]}')
    severities = {}
    for tenant in ("acme", "other"):
        agent = "AcmeSync/1.2 python-requests/2.32"
        records = [
            Taken(session(tenant_id=tenant), 0),
            Taken(session(tenant_id=tenant, last_used_at=T0 + 300_000, ip="198.51.100.7", location="Tokyo, JP",
                          user_agent=agent), 1),
        ]  # fmt: skip
        (outcome,) = run(records, MemoryShard(), engine_for=policies.engine_for)
        severities[tenant] = {each.detection: each.severity for each in outcome.findings}
    assert severities["other"]["session-hijack"] is Severity.CRITICAL
    # Its own application is no other device; where it is used from is judged all the same.
    assert "session-hijack" not in severities["acme"]
    assert severities["acme"]["impossible-travel"] >= Severity.MEDIUM


def test_a_tombstone_under_a_users_key_erases_the_user() -> None:
    shard, key = MemoryShard(), user_key("acme", "u1")
    run([Taken(session(), 0)], shard)
    gone = Taken(None, 7, TOPICS.by_user, 0, T0, key)
    (outcome,) = run([gone], shard)
    assert outcome.counters == {("forgotten",): 1}
    assert outcome.states == {key: None, b"/incident/" + key: None}
    assert shard.get(key) is None


def test_who_comes_back_after_an_erasure_is_somebody_new() -> None:
    shard, key = MemoryShard(), user_key("acme", "u1")
    run([Taken(session(), 0), Taken(session(last_used_at=T0 + 1), 1)], shard)
    headers = ((ORIGIN_TOPIC, b"events"), (ORIGIN_PARTITION, b"3"), (ORIGIN_OFFSET, b"9"))
    back = Taken(session(uid="s2", last_used_at=T0 + 2), 8, TOPICS.by_user, 0, T0, key, headers)
    run([Taken(None, 7, TOPICS.by_user, 0, T0, key), back], shard)
    user = decode_user(shard.get(key) or b"")
    assert (user.applied, list(user.current.sessions)) == (1, ["s2"])


def test_a_tombstone_of_a_producer_erases_nothing() -> None:
    shard, key = MemoryShard(), user_key("acme", "u1")
    run([Taken(session(), 0)], shard)
    (outcome,) = run([Taken(None, 1, key=key)], shard)
    assert outcome.counters == {("ignored", "tombstone"): 1}
    assert shard.get(key) is not None


def test_dead_letters_come_back_in_any_order_and_twice() -> None:
    def letter(offset: int, last_used_at: int) -> Taken:
        place = (ORIGIN_TOPIC, b"events"), (ORIGIN_PARTITION, b"0"), (ORIGIN_OFFSET, b"%d" % offset)
        headers = (*place, (REPLAYED, b"1"))
        return Taken(session(last_used_at=last_used_at), 100 + offset, TOPICS.by_user, 0, T0 + DAY, b"k", headers)

    shard = MemoryShard()
    run([Taken(session(), 50)], shard)
    (outcome,) = run([letter(7, T0 + 2), letter(3, T0 + 1), letter(7, T0 + 2)], shard)
    assert outcome.counters == {("accepted",): 3, ("duplicate",): 1}
    user = decode_user(shard.get(user_key("acme", "u1")) or b"")
    assert user.current.sessions["s1"].events == 3
    assert user.offsets == {0: 50}, "the place of a letter says nothing of the input"


def test_a_flood_of_sessions_of_one_user_is_not_announced_without_end() -> None:
    records = [Taken(session(uid=f"s{number}", last_used_at=T0 + number), number) for number in range(MAX_STARTS + 100)]
    (outcome,) = run(records, MemoryShard())
    assert sum((message.key or b"").startswith(b"/uid/") for message in outcome.messages) == MAX_STARTS
    assert outcome.counters["starts-capped",] == 100
    assert outcome.counters["evicted",] == MAX_STARTS + 100 - Limits().sessions
    assert outcome.counters["accepted",] == len(records)
