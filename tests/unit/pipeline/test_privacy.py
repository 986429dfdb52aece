"""Pseudonyms: what leaves the process bears no true name, and nothing is judged otherwise for it."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from schemas.keys import partition_of, user_key
from schemas.policy import TenantPolicy
from tests.support.records import T0, TOPICS, Taken
from worker.cli import run as command
from worker.detections.engine import TenantRuleEngine
from worker.detections.registry import detections
from worker.enrich.enricher import Enricher, build_enricher
from worker.pipeline.batch import Pipeline
from worker.pipeline.ports import BatchResult
from worker.pipeline.privacy import Pseudonyms, home_partitions
from worker.pipeline.readers import KafkaReader
from worker.sessions.limits import Limits
from worker.sessions.state import decode_profile, decode_user, is_user
from worker.settings import PrivacySettings, load
from worker.simulator import Simulator, profile, write_geo
from worker.stream.state_store import MemoryShard

KEY = "0123456789abcdef" * 2
HIDDEN = Pseudonyms(KEY, users=True, addresses="network", meta_data=False)


@pytest.fixture(scope="module")
def enricher(tmp_path_factory: pytest.TempPathFactory) -> Enricher:
    return build_enricher(*write_geo(tmp_path_factory.mktemp("geo")))


def pipeline(enricher: Enricher, pseudonyms: Pseudonyms | None, policy: Any = None, **more: Any) -> Pipeline:
    engine = TenantRuleEngine(detections().values(), TenantPolicy.model_validate(policy or {}))
    given: dict[str, Any] = {"partition_of": lambda _key: 0, **more}
    return Pipeline(reader=KafkaReader(enricher), engine_for=lambda _tenant: engine, topics=TOPICS, limits=Limits(),
                    pseudonyms=pseudonyms, **given)  # fmt: skip


def traffic(count: int = 1_500) -> list[Taken]:
    config = profile("demo", seed=5, start_ms=T0, users=60, rate=200.0, warmup_days=2.0)
    return [
        Taken(event.value, offset, timestamp=int(event.arrival_ms), key=event.key)
        for offset, event in enumerate(islice(Simulator(config).events(), count))
    ]


def both_stages(heart: Pipeline, records: list[Taken], shard: MemoryShard) -> list[BatchResult]:
    """Run records through, and what is announced through the second stage."""
    outcomes = [heart.process(0, records, shard)]
    starts = [Taken(each.value, number, "starts", key=each.key, timestamp=each.timestamp or 0)
              for number, each in enumerate(outcomes[0].messages) if each.topic == "starts"]  # fmt: skip
    return [*outcomes, heart.process(0, starts, shard)]


def readable(shard: MemoryShard) -> bytes:
    """Return all that is kept, not compressed."""
    found = []
    for key, state in shard.items():
        found.append(key)
        if is_user(state):
            user = decode_user(state)
            found += [
                msgspec.msgpack.encode(each)
                for each in (user, decode_profile(user.checkpoint), decode_profile(user.midpoint))
            ]
        else:
            found.append(state)
    return b"\n".join(found)


def written(outcomes: list[BatchResult]) -> bytes:
    """Return all that is written but what carries the record itself."""
    messages = [each for outcome in outcomes for each in outcome.messages if each.topic not in ("dlq", "by-user")]
    rows = [row for outcome in outcomes for table in outcome.rows.values() for row in table]
    return b"\n".join([*rows, *(part for each in messages for part in (each.key or b"", each.value or b""))])


def told(outcomes: list[BatchResult]) -> Counter[tuple[Any, ...]]:
    return Counter(
        (each.detection, each.severity, each.activity, each.status, each.event_time, each.count, each.suppressed_by)
        for outcome in outcomes for each in outcome.findings
    )  # fmt: skip


def names_in(records: list[Taken]) -> tuple[set[str], set[str], set[str]]:
    """Return the users, addresses and prefixes that records name."""
    text = b"\n".join(each.value or b"" for each in records).decode(errors="ignore")
    users = set(re.findall(r'"user_id":\s*"([^"]{3,})"', text))
    addresses = set(re.findall(r'"ip":\s*"([0-9.]{7,}|[0-9a-f:]{8,})"', text))
    return users, addresses, {each.rpartition(".")[0] + ".0/24" for each in addresses if "." in each}


def test_nothing_that_is_kept_or_written_bears_a_true_name(enricher: Enricher) -> None:
    records = traffic()
    users, addresses, prefixes = names_in(records)
    assert min(len(users), len(addresses)) > 30
    plain, hidden = MemoryShard(), MemoryShard()
    before = both_stages(pipeline(enricher, None), records, plain)
    after = both_stages(pipeline(enricher, HIDDEN), records, hidden)
    assert told(before) == told(after)
    assert sum(told(after).values()) > 20
    kept, out = readable(hidden), written(after)
    names = {each.encode() for each in users | addresses | prefixes}
    for text in (kept, out):
        assert [each for each in names if each in text] == []
    for text in (readable(plain), written(before)):
        assert sum(each in text for each in names) > 100
    user = min(users)
    tenant = next(orjson.loads(each.value or b"")["tenant_id"] for each in records
                  if f'"user_id":"{user}"'.encode() in (each.value or b""))  # fmt: skip
    assert HIDDEN.user(tenant, user).encode() in kept
    assert HIDDEN.user(tenant, user).encode() in out


def test_the_prefix_stays_when_the_settings_say_so(enricher: Enricher) -> None:
    event = orjson.dumps({"tenant_id": "acme", "user_id": "alice", "user_agent": "x", "ip": "203.0.113.7", "uid": "s"})
    for addresses, stays in (("address", True), ("network", False)):
        shard, hidden = MemoryShard(), Pseudonyms(KEY, users=False, addresses=addresses)  # type: ignore[arg-type]
        out = written([pipeline(enricher, hidden).process(0, [Taken(event, 0)], shard)])
        for text in (out, readable(shard)):
            assert b"203.0.113.7" not in text
            assert (b"203.0.113.0/24" in text) == stays
            assert b"alice" in text


def session(number: int, **changes: Any) -> bytes:
    at = T0 + number * 60_000
    return orjson.dumps({"tenant_id": "acme", "user_id": "alice", "user_agent": "curl/8.9", "uid": "s1",
                         "created_at": T0, "last_used_at": at, "max_age_minutes": 600,
                         "ip": "198.51.100.9", "location": "Paris, FR", **changes})  # fmt: skip


@pytest.mark.parametrize("hidden", [None, HIDDEN])
def test_a_tenants_lists_hold_for_the_true_address_whatever_the_order(
    enricher: Enricher, hidden: Pseudonyms | None
) -> None:
    policy = {"denied_networks": ["192.0.2.0/28"], "allowed_networks": ["198.51.100.0/24"]}
    events = [session(0), session(1, ip="192.0.2.7"), session(2, ip="198.51.100.77", location="Tokyo, JP")]
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        shard = MemoryShard()
        heart = pipeline(enricher, hidden, policy)
        for offset, number in enumerate(order):
            heart.process(0, [Taken(events[number], offset, timestamp=T0 + number * 60_000)], shard)
        ((_, state),) = shard.items()
        groups = decode_user(state).current.open_findings.values()
        assert [each.count for each in groups if each.detection == "denied-network"] == [1]
        assert [each.suppressed_by for each in groups if each.detection == "impossible-travel"] == [
            ("allowed-network",)
        ]


def test_a_user_lives_where_the_true_name_says(enricher: Enricher) -> None:
    partitioned = partial(partition_of, partitions=4)
    home = partitioned(user_key("acme", "alice"))
    heart = pipeline(enricher, HIDDEN, partition_of=partitioned)
    shard = MemoryShard()
    heart.process(home, [Taken(session(0), 0)], shard)
    pseudonym = HIDDEN.user("acme", "alice")
    assert [key for key, _ in shard.items()] == [user_key("acme", pseudonym)]
    forwarded = heart.process((home + 1) % 4, [Taken(session(0), 0)], MemoryShard()).messages
    assert [(each.topic, each.key, each.partition) for each in forwarded] == [
        ("by-user", user_key("acme", "alice"), home)
    ]
    assert home_partitions("acme", "alice", 4) == [home]
    assert home_partitions("acme", pseudonym, 4) == [0, 1, 2, 3]
    erased = Taken(None, 9, "by-user", key=user_key("acme", HIDDEN.names("acme", "alice")[0]))
    heart.process(home, [erased], shard)
    assert len(shard) == 0


def test_pseudonyms_are_the_same_for_the_same_key_tenant_and_kind() -> None:
    other = Pseudonyms(KEY[::-1], users=True, addresses="network")
    assert HIDDEN.user("a", "b") == Pseudonyms(KEY, users=True, addresses="keep").user("a", "b")
    made = [HIDDEN.user("a", "b"), HIDDEN.user("ab", ""), HIDDEN.user("", "ab"), other.user("a", "b"),
            HIDDEN.address("a"), HIDDEN.prefix("a")]  # fmt: skip
    assert len({each.partition("-")[2] for each in made}) == len(made)
    assert HIDDEN.prefix("") == ""
    assert HIDDEN.names("a", "b") == [HIDDEN.user("a", "b"), "b"]
    assert HIDDEN.names("a", HIDDEN.user("a", "b")) == [HIDDEN.user("a", "b")]


def test_a_derived_uid_cannot_be_tried_out(enricher: Enricher) -> None:
    event = orjson.loads(session(0))
    del event["uid"]
    uids = []
    for hidden in (None, HIDDEN):
        shard = MemoryShard()
        pipeline(enricher, hidden).process(0, [Taken(orjson.dumps(event), 0)], shard)
        ((_, state),) = shard.items()
        uids += decode_user(state).current.sessions
    assert len(set(uids)) == 2
    assert all(re.fullmatch("d-[0-9a-f]{32}", uid) for uid in uids)


@pytest.mark.parametrize("given", [{"users": True}, {"addresses": "address"}, {"users": True, "key": "x" * 31}])
def test_pseudonyms_need_a_key(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"privacy\.key of 32 characters"):
        PrivacySettings(**given)


def test_without_a_wish_nothing_is_done() -> None:
    assert PrivacySettings().pseudonyms() is None


def test_the_command_tells_pseudonyms_and_never_the_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(["pseudonym", "--tenant", "acme", "--user", "alice"]) == 2
    for name, value in (("KEY", KEY), ("USERS", "true"), ("ADDRESSES", "network")):
        monkeypatch.setenv(f"SESSIONWATCH_PRIVACY__{name}", value)
    capsys.readouterr()
    assert command(["pseudonym", "--tenant", "acme", "--user", "alice", "--ip", "::ffff:203.0.113.7", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"user": HIDDEN.user("acme", "alice"), "ip": HIDDEN.address("203.0.113.7"),
                    "prefix": HIDDEN.prefix("203.0.113.0/24")}  # fmt: skip
    assert command(["pseudonym", "--ip", "nowhere"]) == 2
    assert command(["pseudonym", "--user", "alice"]) == 2
    shown = str(load().effective()) + repr(load()) + capsys.readouterr().err
    assert KEY not in shown
