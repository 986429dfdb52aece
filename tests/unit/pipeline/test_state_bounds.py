"""One user's state is bounded in bytes, whatever a client or a producer puts into its records.

Source: a security review. Eight records of 250 KB with 1,024 made-up scopes each made a state of over 8 MiB, which no
changelog takes: the worker ended, and ended again after each restart.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from schemas.finding import Severity
from schemas.keys import user_key
from tests.support.records import T0, TOPICS, Taken
from tests.unit.pipeline.test_batch import run
from worker.sessions.limits import Limits
from worker.sessions.state import decode_user
from worker.stream.state_store import MemoryShard

LARGEST_STATE = 8 << 20
MINUTE = 60_000
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
)


def record(number: int, **said: Any) -> Taken:
    session = {
        "tenant_id": "acme", "user_id": "u1", "uid": "s1", "ip": "203.0.113.7", "user_agent": CHROME,
        "created_at": T0, "last_used_at": T0 + number * MINUTE, **said,
    }  # fmt: skip
    return Taken(json.dumps(session).encode(), number, timestamp=T0 + number * MINUTE)


def made_up(rng: Random, count: int = 1_024, length: int = 240) -> list[str]:
    return [f"{rng.randbytes(length // 2).hex()}" for _ in range(count)]


def noise(rng: Random, field: str) -> dict[str, Any]:
    words = {
        "scopes": made_up(rng),
        "amr": made_up(rng, 64, 64),
        "aud": "".join(made_up(rng, 40)),
        "session_type": "".join(made_up(rng, 40)),
        "user_agent": "".join(made_up(rng, 60)),
        "location": "".join(made_up(rng, 60)),
    }
    return {field: words[field], "uid": f"s{rng.randrange(200)}"}


@pytest.mark.parametrize("field", ["scopes", "amr", "aud", "session_type", "user_agent", "location"])
def test_a_state_stays_within_its_bytes_and_is_read_again(field: str) -> None:
    rng, shard = Random(4), MemoryShard()
    records = [record(number, **noise(rng, field)) for number in range(240)]
    run(records, shard, [60] * 4)
    state = shard.get(user_key("acme", "u1"))
    assert state is not None
    assert len(state) < LARGEST_STATE
    assert decode_user(state).applied == 240


def test_what_is_cut_is_counted_and_the_session_is_judged() -> None:
    """After the flood the user's session is used by a script from elsewhere: that is found."""
    rng, shard = Random(5), MemoryShard()
    flood = [record(number, scopes=made_up(rng)) for number in range(400)]
    stolen = record(401, ip="198.51.100.9", user_agent="python-requests/2.32", location="Tokyo, JP", scopes=["read"])
    outcomes = run([record(0, location="Paris, FR"), *flood[1:], stolen], shard, [40] * 11)
    assert sum(outcome.counters["accepted",] for outcome in outcomes) == 401
    assert sum(outcome.counters["truncated",] for outcome in outcomes) >= 1
    found = {finding.detection: finding.severity for outcome in outcomes for finding in outcome.findings}
    assert found["session-hijack"] >= Severity.HIGH


def test_contexts_are_what_is_bounded() -> None:
    rng, shard = Random(6), MemoryShard()
    run([record(number, scopes=made_up(rng)) for number in range(400)], shard)
    user = decode_user(shard.get(user_key("acme", "u1")) or b"")
    assert sum(map(len, user.contexts.values())) <= Limits().context_bytes


def test_no_message_is_larger_than_a_topic_takes() -> None:
    """Evidence names the first of what was gained, and how many more there are."""
    rng, shard = Random(7), MemoryShard()
    outcomes = run([record(number, scopes=made_up(rng)) for number in range(20)], shard)
    # What users of a tenant may share goes to the second stage first.
    ours = {TOPICS.findings, TOPICS.starts}
    messages = [each for outcome in outcomes for each in outcome.messages if each.topic in ours]
    assert messages
    assert max(len(each.value or b"") for each in messages) < 100_000
