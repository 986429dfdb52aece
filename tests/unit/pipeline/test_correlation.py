"""Properties of the second stage: neither the order of announcements nor a repeated one has a say."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.finding import Activity, Severity
from worker.detections.engine import TenantRuleEngine
from worker.detections.registry import detections
from worker.sessions.announcements import SessionStart, decode_start, encode_start
from worker.sessions.codec import UnknownFormatError
from worker.sessions.correlation import (
    MAX_CLAIMANTS,
    CorrelationState,
    arrive,
    claim,
    decode_correlation,
    encode_correlation,
)
from worker.sessions.crowds import CELL, CELL_USERS, REGULAR_FOR, REGULARS
from worker.sessions.limits import DAY, HOUR, MINUTE, Limits

T0 = 1_790_000_000_000
NETWORK = "203.0.113.0/24"
LIMITS = Limits()
JUDGE = TenantRuleEngine(detections().values())
Standing = dict[str, tuple[str, str, Any]]


def start(
    at: int, user: str, session: str = "", *, tenant: str = "acme", new: bool = True, **other: Any
) -> SessionStart:
    known = {"has_baseline": True, "is_learned": True, **other}
    uid = session or f"s-{user}"
    return SessionStart(
        tenant, user, uid, T0 + at, ("203.0.113.7",), is_new=new, origin=("t", 0, 0), record_time=0, **known
    )


def after(
    starts: list[SessionStart], *, uid: bool = False, state: CorrelationState | None = None
) -> tuple[CorrelationState, Standing]:
    """Return the state and the findings that stand after all announcements."""
    state, found = state or CorrelationState(), Standing()
    for each in starts:
        changed = claim(state, each, JUDGE, LIMITS) if uid else arrive(state, each, NETWORK, JUDGE, LIMITS)
        for one in changed:
            if one.activity is Activity.CLOSE:
                del found[one.uid]
            else:
                found[one.uid] = (one.tenant_id, one.user_id, msgspec.structs.asdict(one.finding))
        state = decode_correlation(encode_correlation(state))
    return state, found


crowds = st.lists(
    st.builds(
        lambda at, user, new, learned: start(at, f"u{user}", f"s{user}-{at // HOUR}", new=new, is_learned=learned),
        st.integers(0, 2 * HOUR),
        st.integers(0, 11),
        st.sampled_from([True, True, True, False]),
        st.sampled_from([True, True, True, False]),
    ),
    max_size=30,
    unique_by=lambda each: each.session_uid,
)
claims = st.lists(
    st.builds(
        lambda at, user, tenant: start(at, f"u{user}", "s1", tenant=f"t{tenant}"),
        st.integers(0, 2 * HOUR),
        st.integers(0, 3),
        st.integers(0, 2),
    ),
    max_size=MAX_CLAIMANTS,
)


@given(crowds, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_the_order_of_arrivals_has_no_say(starts: list[SessionStart], chance: random.Random) -> None:
    shuffled = list(starts)
    chance.shuffle(shuffled)
    (one, found), (other, found_shuffled) = after(starts), after(shuffled)
    assert found == found_shuffled
    assert one.crowd == other.crowd


@given(claims, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_the_order_of_claims_has_no_say(starts: list[SessionStart], chance: random.Random) -> None:
    shuffled = list(starts)
    chance.shuffle(shuffled)
    (one, found), (other, found_shuffled) = after(starts, uid=True), after(shuffled, uid=True)
    assert found == found_shuffled
    assert one.claimants == other.claimants


@given(crowds, claims)
@settings(max_examples=100, deadline=None)
def test_repeated_announcements_change_nothing(starts: list[SessionStart], claimants: list[SessionStart]) -> None:
    twice = [each for pair in zip(starts, starts, strict=True) for each in pair]
    assert after(starts)[1] == after(twice)[1]
    assert after(claimants, uid=True)[1] == after([*claimants, *claimants], uid=True)[1]


@pytest.mark.parametrize("users", [4, 5])
def test_five_make_a_crowd(users: int) -> None:
    _, found = after([start(n * MINUTE, f"u{n}") for n in range(users)])
    assert len(found) == (users == 5)


def test_the_earliest_start_of_a_session_counts() -> None:
    state, _ = after([start(9 * MINUTE, "u1"), start(MINUTE, "u1", replaces=T0 + 9 * MINUTE), start(MINUTE, "u1")])
    assert state.crowd is not None
    assert list(state.crowd.new.values()) == [{"u1": T0 + MINUTE}]


def test_regulars_make_a_network_shared_egress_and_fade() -> None:
    regulars = [start(-day * DAY, f"r{n}", f"r{n}-{day}", is_learned=False) for day in (4, 3) for n in range(6)]
    crowd = [start(n * MINUTE, f"u{n}") for n in range(6)]
    assert after([*regulars, *crowd])[1] == {}
    later = [start(REGULAR_FOR + n * MINUTE, f"u{n}") for n in range(6)]
    (found,) = after([*regulars, *later])[1].values()
    assert found[2]["severity"] == Severity.HIGH


def test_what_is_forgotten_closes_nothing() -> None:
    state, found = after([start(n * MINUTE, f"u{n}") for n in range(6)])
    assert len(found) == 1
    changes = arrive(state, start(20 * DAY, "late"), NETWORK, JUDGE, LIMITS)
    assert [each for each in changes if each.activity is Activity.CLOSE] == []


def test_everything_is_bounded() -> None:
    state, _ = after([start(n * 100, f"u{n}") for n in range(3 * REGULARS)])
    assert state.crowd is not None
    assert max(map(len, state.crowd.new.values())) == CELL_USERS
    assert len(state.crowd.visits) == len(state.crowd.last) == REGULARS
    state, _ = after([start(n * CELL, f"u{n % 7}", f"s{n}") for n in range(0, 20_000, 40)])
    assert state.crowd is not None
    assert len(state.crowd.new) <= 14 * DAY // CELL // 40 + 2
    claimants, found = after([start(n, f"u{n}", "s1") for n in range(3 * MAX_CLAIMANTS)], uid=True)
    assert len(claimants.claimants) == MAX_CLAIMANTS
    assert len(found) == MAX_CLAIMANTS - 1


def test_one_uid_of_two_owners_is_critical_and_names_the_later_one() -> None:
    _, found = after([start(0, "u1", "s1"), start(MINUTE, "u2", "s1")], uid=True)
    ((tenant, user, group),) = found.values()
    assert (tenant, user, group["severity"]) == ("acme", "u2", Severity.CRITICAL)


def test_an_announcement_and_a_state_survive_their_encoding() -> None:
    one = start(0, "u1")
    assert decode_start(encode_start(one)) == one
    with pytest.raises(UnknownFormatError):
        decode_correlation(b"\x01" + bytes(9))
