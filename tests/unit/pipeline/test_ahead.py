"""A record's own timestamp ahead of the worker's clock is clamped, flagged, and the same after a crash.

Source: a security review. One record stamped 2099 made all later thefts of its user "late": nothing judged them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.finding import Severity
from schemas.keys import user_key
from tests.support.records import T0, TOPICS, Taken, pipeline, session
from worker.pipeline.ports import AHEAD, AheadRecord, Message, arrived
from worker.sessions.state import decode_user
from worker.stream.state_store import MemoryShard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.pipeline.ports import BatchResult

MINUTE, HOUR, TOLERANCE = 60_000, 3_600_000, 600_000
FAR = 4_070_908_800_000
"""The year 2099, milliseconds."""
NOW = T0 + HOUR


def bare(offset: int, timestamp: int, **said: Any) -> Taken:
    """Return a record without times of its own: its timestamp decides."""
    times = dict.fromkeys(("created_at", "last_used_at"))
    return Taken(session(**times, **said), offset, timestamp=timestamp)


def forwards(result: BatchResult) -> list[Message]:
    return [message for message in result.messages if message.topic == TOPICS.by_user]


def taken(message: Message, offset: int) -> Taken:
    """Return a forward as the same partition's consumer gets it."""
    return Taken(message.value, offset, TOPICS.by_user, 0, message.timestamp or 0, message.key, message.headers)


def test_records_as_they_arrive() -> None:
    records = [bare(0, T0), bare(1, NOW + TOLERANCE), bare(2, FAR)]
    assert arrived(records[:2], NOW, TOLERANCE) is not None
    assert list(arrived(records[:2], NOW, TOLERANCE)) == records[:2]
    first, second, third = arrived(records, NOW, TOLERANCE)
    assert (first, second) == (records[0], records[1])
    assert isinstance(third, AheadRecord)
    assert (third.timestamp, third.ahead, third.offset, third.value) == (NOW, FAR - NOW, 2, records[2].value)


def applied_after(reads: Sequence[int]) -> tuple[MemoryShard, list[BatchResult]]:
    """Read a record from the future as often as there are times of reading: all but the first are after crashes."""
    heart, shard, results = pipeline(), MemoryShard(), []
    heart.process(0, [Taken(session(), 0)], shard)
    record = bare(1, FAR, uid="s2")
    sent = [
        message for now in reads for message in forwards(heart.process(0, arrived([record], now, TOLERANCE), shard))
    ]
    assert [message.timestamp for message in sent] == list(reads)
    results += [heart.process(0, [taken(message, offset)], shard) for offset, message in enumerate(sent)]
    return shard, results


def test_it_is_clamped_to_its_arrival_and_flagged() -> None:
    shard, (result,) = applied_after([NOW])
    user = decode_user(shard.get(user_key("acme", "u1")) or b"")
    assert user.current.time == NOW
    assert result.counters["accepted",] == 1
    assert any(finding.detection == "clock-anomaly" for finding in result.findings)


def test_what_is_computed_again_after_a_crash_is_the_same() -> None:
    """The forward that was published first counts, whenever the record is read again."""
    shard, (first, second, third) = applied_after([NOW, NOW + MINUTE, NOW + HOUR])
    once, (only,) = applied_after([NOW])
    assert shard.get(user_key("acme", "u1")) == once.get(user_key("acme", "u1"))
    assert first.rows == only.rows
    assert first.findings == only.findings
    for again in (second, third):
        assert not again.rows
        assert again.counters["deduplicated",] == 1


def test_other_records_of_the_partition_are_not_taken_for_repeated() -> None:
    heart, shard = pipeline(), MemoryShard()
    records = [Taken(session(), 0), bare(1, FAR), Taken(session(last_used_at=T0 + MINUTE), 2, timestamp=T0 + MINUTE)]
    result = heart.process(0, arrived(records, NOW, TOLERANCE), shard)
    assert result.counters["accepted",] == 2
    assert result.counters["clamped",] == 1
    (message,) = forwards(result)
    assert dict(message.headers)[AHEAD] == str(FAR - NOW).encode()
    assert heart.process(0, [taken(message, 0)], shard).counters["accepted",] == 1


def test_a_theft_after_it_is_judged() -> None:
    heart, shard = pipeline(), MemoryShard()
    first = heart.process(0, arrived([Taken(session(), 0), bare(1, FAR)], T0 + MINUTE, TOLERANCE), shard)
    heart.process(0, [taken(message, 0) for message in forwards(first)], shard)
    at = T0 + 10 * MINUTE
    stolen = session(last_used_at=at, ip="198.51.100.9", user_agent="python-requests/2.32", location="Tokyo, JP")
    result = heart.process(0, [Taken(stolen, 2, timestamp=at)], shard)
    assert not result.counters["late",]
    assert {finding.detection: finding.severity for finding in result.findings}["session-hijack"] >= Severity.HIGH
