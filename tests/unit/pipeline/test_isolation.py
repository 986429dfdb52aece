"""What one user or tenant sends does not touch the findings of another."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.finding import Activity, Finding
from tests.support.records import T0, TOPICS, Taken, pipeline, session
from worker.detections.policies import Policies
from worker.detections.registry import detections
from worker.enrich.enricher import build_enricher
from worker.enrich.model import Network
from worker.pipeline.batch import Pipeline
from worker.pipeline.correlation import announcements
from worker.pipeline.local import LocalPipeline
from worker.pipeline.ports import LocalRecord
from worker.pipeline.readers import KafkaReader
from worker.sessions.announcements import SessionStart
from worker.sessions.correlation import MAX_CLAIMANTS
from worker.sessions.limits import MINUTE, Limits
from worker.stream.state_store import MemoryShard


def reused(user: str, uid: str = "shared") -> list[bytes]:
    """A session that is deleted and used afterwards."""
    return [
        session(uid=uid, user_id=user, is_deleted=True, updated_at=T0),
        session(uid=uid, user_id=user, last_used_at=T0 + 10 * 60_000),
    ]


def begun(tenant: str, user: str, uid: str, at: int = 0, ip: str = "203.0.113.7") -> bytes:
    time = T0 + at * MINUTE
    return session(tenant_id=tenant, user_id=user, uid=uid, ip=ip, created_at=time, last_used_at=time)


def standing(values: Iterable[bytes], operator: str = "", batch: int = 3) -> dict[str, dict[str, Finding]]:
    """Return the findings that stand after everything went through both stages: by tenant, by id."""
    heart = Pipeline(
        reader=KafkaReader(build_enricher(None, None)), engine_for=Policies(detections().values()).engine_for,
        topics=TOPICS, partition_of=lambda _key: 0, limits=Limits(), operator=operator,
    )  # fmt: skip
    both, found = LocalPipeline(heart, MemoryShard(), (TOPICS.starts,)), dict[str, dict[str, Finding]]()
    records = [
        LocalRecord("events", 0, number, T0 + 90 * MINUTE, None, value, ()) for number, value in enumerate(values)
    ]
    for start in range(0, len(records), batch):
        for outcome in both.process(records[start : start + batch]):
            for each in outcome.findings:
                known = found.setdefault(each.tenant_id, {})
                known.pop(each.uid, None)
                if each.activity is not Activity.CLOSE:
                    known[each.uid] = each
    return found


def test_two_users_of_one_uid_have_two_findings() -> None:
    values = [*reused("alice"), *reused("bob")]
    outcome = pipeline().process(
        0, [Taken(value, number, timestamp=T0 + 90 * MINUTE) for number, value in enumerate(values)], MemoryShard()
    )
    found = {each.user_id: each.uid for each in outcome.findings if each.detection == "use-after-revocation"}
    assert set(found) == {"alice", "bob"}
    assert found["alice"] != found["bob"]
    assert len({each.uid for each in outcome.findings}) == len(outcome.rows["findings"])


def test_one_uid_in_two_tenants_is_nothing() -> None:
    assert standing([begun("acme", "ann", "s1"), begun("zeta", "zoe", "s1", 5)]) == {}


@pytest.mark.parametrize(
    ("one", "other"), [(("a", "b/c"), ("a/b", "c")), (("a%2Fb", "c"), ("a/b", "c")), (("a", "%2F"), ("a", "/"))]
)
def test_no_name_makes_the_key_of_another_tenant_or_session(one: tuple[str, str], other: tuple[str, str]) -> None:
    net = Network("203.0.113.7", 4, "203.0.113.0/24", 0, "", "")
    keys = [
        {message.key for message in announcements(
            SessionStart(tenant, "u", uid, T0, (), has_baseline=False, is_learned=True, is_new=True, origin=("t", 0, 0),
                  record_time=T0), net, "starts", is_derived=False)}
        for tenant, uid in (one, other)
    ]  # fmt: skip
    assert keys[0].isdisjoint(keys[1])
    assert standing([begun(one[0], "ann", one[1]), begun(other[0], "bob", other[1], 5)]) == {}


sent = st.lists(
    st.builds(
        begun,
        st.sampled_from(["zeta", "acme/s1", "acme%2F", "ac", "ACME"]),
        st.sampled_from(["ann", "bob", "zoe", "acme/ann"]),
        st.sampled_from(["s1", "s2", "acme/s1", "/s1"]),
        st.integers(-9, 60),
        st.sampled_from(["203.0.113.7", "198.51.100.9"]),
    ),
    max_size=30,
)


@given(theirs=sent, chance=st.randoms(use_true_random=False), operator=st.sampled_from(["", "operator"]))
@settings(max_examples=60, deadline=None)
def test_nothing_other_tenants_send_changes_what_is_found_of_one(
    theirs: list[bytes], chance: random.Random, operator: str
) -> None:
    ours = [begun("acme", user, uid, at) for at, (user, uid) in enumerate(
        [("ann", "s1"), ("bob", "s1"), ("ann", "s2"), ("cid", "s1"), ("bob", "s2")])]  # fmt: skip
    places = sorted(chance.randrange(len(ours) + 1) for _ in theirs)
    mixed: list[Any] = list(ours)
    for place, value in reversed(list(zip(places, theirs, strict=True))):
        mixed.insert(place, value)
    alone, among = (standing(each, operator).get("acme", {}) for each in (ours, mixed))
    assert len(alone) >= 3
    assert told(among) == told(alone)


def told(found: dict[str, Finding]) -> dict[str, Any]:
    return {
        uid: (each.user_id, each.summary, each.count, each.evidence, each.event_time) for uid, each in found.items()
    }


def test_who_says_that_uids_are_unique_has_findings_of_their_own() -> None:
    values = [begun("acme", "ann", "s1"), begun("acme", "bob", "s1", 2), begun("zeta", "zoe", "s1", 5)]
    found = standing(values, "operator")
    assert {tenant: [each.detection for each in known.values()] for tenant, known in found.items()} == {
        "acme": ["owner-change"], "operator": ["owner-change"],
    }  # fmt: skip
    ((across,), (inside,)) = (list(found[tenant].values()) for tenant in ("operator", "acme"))
    assert (across.session_uid, across.user_id, inside.user_id) == ("s1", "", "bob")
    assert all(word in across.summary for word in ("zoe", "zeta", "ann", "acme"))
    assert "zeta" not in inside.summary + inside.evidence.decode()
    assert across.uid != inside.uid


def test_a_tenants_claims_do_not_push_another_out_of_the_operators_view() -> None:
    crowd = [begun("zeta", f"z{number}", "s1", -number) for number in range(3 * MAX_CLAIMANTS)]
    found = standing([begun("acme", "ann", "s1"), *crowd], "operator")
    (across,) = found["operator"].values()
    assert "ann" in across.summary
