"""A crowd on one network: findings and their ids are a function of the events, however they are cut and shuffled."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from schemas.policy import TenantPolicy
from tests.support.records import CHROME, T0, TOPICS, Taken
from worker.detections.engine import TenantRuleEngine
from worker.detections.registry import detections
from worker.enrich.enricher import build_enricher
from worker.enrich.model import Enrichment
from worker.pipeline.batch import Pipeline
from worker.pipeline.readers import KafkaReader
from worker.sessions.limits import DAY, HOUR, MINUTE, Limits
from worker.stream.state_store import MemoryShard

USERS = 300
Standing = dict[str, tuple[str, str, int]]


class NumberedSystems:
    """The enricher, with an autonomous system for each first byte of an address."""

    def __init__(self) -> None:
        self._enricher = build_enricher(None, None)

    def enrich(self, ip: str, location: str | None, user_agent: str) -> Enrichment:
        known = self._enricher.enrich(ip, location, user_agent)
        return known._replace(network=replace(known.network, asn=64_500 + int(ip.partition(".")[0])))


ENRICHER = NumberedSystems()


def lives() -> list[tuple[int, bytes]]:
    """Return records by event time: everybody at home, then behind one address, then with another lifetime."""
    chance, records = random.Random(7), []
    for number in range(USERS):
        user, home = f"u{number}", f"10{number % 3}.{number % 250}.7.9"
        for day in (0, 16, 17):
            ip = home if day == 0 else "203.0.113.7"
            at = T0 + day * DAY + chance.randrange(8 * HOUR)
            records += session(user, f"{user}-{day}", at, ip, (480, 480))
        records += session(user, f"{user}-18", T0 + 18 * DAY + chance.randrange(HOUR), "203.0.113.7", (480, 1440))
    return sorted(records)


def session(user: str, uid: str, at: int, ip: str, ages: tuple[int, int]) -> list[tuple[int, bytes]]:
    given: dict[str, Any] = {"tenant_id": "acme", "user_id": user, "uid": uid, "ip": ip, "user_agent": CHROME,
                             "amr": ["pwd"], "created_at": at}  # fmt: skip
    times = (at, at + 30 * MINUTE)
    return [
        (time, orjson.dumps({**given, "last_used_at": time, "max_age_minutes": age}))
        for time, age in zip(times, ages, strict=True)
    ]


def replay(records: list[tuple[int, bytes]], seed: int, mfa: str = "always") -> Standing:
    """Return the findings that stand after all records, cut into batches and interleaved by chance."""
    engine = TenantRuleEngine(detections().values(), TenantPolicy.model_validate({"mfa": mfa}))
    chance, found = random.Random(seed), Standing()
    heart = Pipeline(reader=KafkaReader(ENRICHER), engine_for=lambda _tenant: engine, topics=TOPICS, limits=Limits(),
                     partition_of=lambda _key: 0)  # fmt: skip
    shard, waiting, announced, position = MemoryShard(), list[Any](), 0, 0
    while position < len(records) or waiting:
        if position < len(records) and (not waiting or chance.random() < 0.5):
            size = chance.choice((1, 50, 400))
            taken = [Taken(value, position + n, timestamp=T0 + 30 * DAY)
                     for n, (_, value) in enumerate(records[position : position + size])]  # fmt: skip
            position += len(taken)
            result = heart.process(0, taken, shard)
            waiting += [message for message in result.messages if message.topic == "starts"]
        else:
            size = chance.choice((1, 30, 900))
            batch, waiting = waiting[:size], waiting[size:]
            starts = [Taken(each.value, announced + n, "starts", key=each.key, timestamp=each.timestamp)
                      for n, each in enumerate(batch)]  # fmt: skip
            result = heart.process(0, starts, shard)
            announced += len(batch)
        for finding in result.findings:
            found[finding.uid] = (finding.detection, finding.status.value, int(finding.severity))
    kinds = {"updated": "new"}
    return {uid: (name, kinds.get(status, status), severity) for uid, (name, status, severity) in found.items()
            if status != "closed"}  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed() -> Standing:
    return replay(lives(), 0)


def test_a_crowd_is_one_finding_and_a_new_lifetime_another(undisturbed: Standing) -> None:
    crowds = [each for each in undisturbed.values() if each[0] == "network-many-users"]
    assert crowds
    told = replay(lives(), 0, mfa="never")
    wide = [each for each in told.values() if each[0] == "tenant-wide-change"]
    assert wide == [("tenant-wide-change", "new", 0)]
    grown = [status for name, status, _ in told.values() if name == "lifetime-extension"]
    assert len(grown) == USERS
    assert set(grown) == {"suppressed"}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_how_it_is_cut_has_no_say(undisturbed: Standing, seed: int) -> None:
    assert replay(lives(), seed) == undisturbed


@pytest.mark.parametrize("seed", [4, 5])
def test_nor_has_the_order_of_arrival(undisturbed: Standing, seed: int) -> None:
    chance = random.Random(seed)
    shuffled = sorted(lives(), key=lambda each: each[0] + chance.randrange(110 * MINUTE))
    assert replay(shuffled, seed) == undisturbed
    assert replay(shuffled, seed, mfa="never") == replay(lives(), 0, mfa="never")


def test_nor_have_partitions_that_are_days_apart(undisturbed: Standing) -> None:
    ahead = sorted(lives(), key=lambda each: each[0] + (4 * DAY if b'"u1' in each[1] else 0))
    assert replay(ahead, 6) == undisturbed
