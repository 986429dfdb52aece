"""Properties of the state: order of arrival has no say, repeats change nothing, everything is bounded."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.event import EventKind, SessionEvent
from schemas.finding import Activity
from schemas.policy import TenantPolicy
from worker.detections.engine import TenantRuleEngine
from worker.detections.registry import detections
from worker.detections.rules.session_burst import SessionBurst, usual_limit
from worker.detections.testing import COMMON_DEVICES, COMMON_NETWORKS, START, make_event, network_of
from worker.enrich.model import Device, Enrichment
from worker.pipeline.rows import session_row
from worker.sessions import reorder as module
from worker.sessions.baseline import count_start
from worker.sessions.codec import NEVER, UnknownFormatError
from worker.sessions.fold import live_sessions
from worker.sessions.limits import DAY, HOUR, MINUTE, Limits
from worker.sessions.reorder import apply, expired, is_forgotten, next_timer
from worker.sessions.risk import decayed, raised
from worker.sessions.state import User, decode_user, encode_profile, encode_user, new_profile, new_user

LIMITS = Limits()
JUDGE = TenantRuleEngine(detections().values())
NETWORKS = ("home", "home-next", "home-v6", "office", "berlin", "tokyo", "vpn", "private", "unknown", "japan")
KNOWN = {
    **COMMON_NETWORKS,
    "japan": {"ip": "198.18.7.9", "asn": 64505, "place": "JP", "source": "location"},
    "france": {"ip": "203.0.113.9", "asn": 64500, "place": "FR", "source": "location"},
}
GRANTS: dict[int, dict[str, Any]] = {2: {"amr": ["pwd"], "aud": "web"}, 3: {"amr": ["hwk"], "scopes": ["read"]},
                                     4: {"aud": "admin", "scopes": ["admin"], "max_age": 90},
                                     6: {"type": "service", "amr": ["password", "totp"]},
                                     7: {"type": "account_recovery", "amr": ["code"], "max_age": 0}}  # fmt: skip
DEVICES = ("laptop", "laptop-upgraded", "phone", "curl", "unknown")
Step = tuple[int, int, str, str, int]

steps = st.lists(
    st.tuples(
        st.integers(0, 110 * MINUTE),
        st.integers(0, 3),
        st.sampled_from(NETWORKS),
        st.sampled_from(DEVICES),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=24,
)


def event(step: Step) -> tuple[SessionEvent, Any]:
    at, session, network, device, luck = step
    known = Enrichment(*network_of(KNOWN, network), Device(*COMMON_DEVICES[device]))
    kind = EventKind.DELETED if luck == 0 else EventKind.CHANGED if luck == 1 else EventKind.REFRESHED
    given = {"created": "0m", "max_age": 60} | GRANTS.get(luck, {})
    made = make_event(START + at, f"s{session}", known.network.ip, kind, given)
    return made, known


def applied(events: list[tuple[SessionEvent, Any]], limits: Limits = LIMITS) -> tuple[User, dict[str, Any]]:
    """Return the user after all events, and the findings that stand."""
    user, found = new_user("acme", "u1"), {}
    for made, known in events:
        for change in apply(user, made, known, JUDGE, limits).changes:
            if change.activity is Activity.CLOSE:
                del found[change.uid]
            else:
                found[change.uid] = content(change.finding)
        user = decode_user(encode_user(user, NEVER))
    return user, found


def content(group: Any) -> dict[str, Any]:
    plain = msgspec.structs.asdict(group)
    return {name: value for name, value in plain.items() if name not in ("context", "before")}


def sessions(user: User) -> dict[str, dict[str, Any]]:
    hidden = ("context", "v4", "v6", "trail")
    plain = {uid: msgspec.structs.asdict(session) for uid, session in user.current.sessions.items()}
    return {uid: {k: v for k, v in each.items() if k not in hidden} for uid, each in plain.items()}


@given(steps, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_the_order_of_arrival_has_no_say(plan: list[Step], chance: random.Random) -> None:
    in_order = [event(step) for step in sorted(plan)]
    shuffled = list(in_order)
    chance.shuffle(shuffled)
    one, found = applied(in_order)
    other, found_shuffled = applied(shuffled)
    assert found == found_shuffled
    assert sessions(one) == sessions(other)
    assert one.current.baseline == other.current.baseline
    assert one.current.opened().revoked == other.current.opened().revoked


@given(steps, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_arrival_has_no_say_where_sessions_are_put_out(plan: list[Step], chance: random.Random) -> None:
    # Events at one time of one session have no order of their own when the session is put out between them.
    limits = Limits(sessions=2, revoked=3)
    in_order = [event(step) for step in sorted({step[0]: step for step in plan}.values())]
    shuffled = list(in_order)
    chance.shuffle(shuffled)
    one, found = applied(in_order, limits)
    other, found_shuffled = applied(shuffled, limits)
    assert found == found_shuffled
    assert sessions(one) == sessions(other)
    assert one.current.opened().revoked == other.current.opened().revoked


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_late_traffic_without_end_leaves_the_window_wide(seed: int, share: float) -> None:
    """No event is further behind than a dozen others, so none is too late, and none changes the result."""
    chance = random.Random(seed)
    # Few of them are findings, of which no more than so many are remembered.
    plan = [
        (number * 10_000, chance.randrange(4), chance.choice(["home"] * 60 + ["tokyo", "berlin"]), "laptop", 5)
        for number in range(500)
    ]
    shuffled = sorted(plan, key=lambda step: step[0] + (chance.random() < share) * chance.randrange(120_000))
    user, late = new_user("acme", "u1"), 0
    for step in shuffled:
        late += apply(user, *event(step), JUDGE, LIMITS).late
        assert user.window_size <= 2 * LIMITS.window
    assert not late
    one, found = applied([event(step) for step in plan])
    assert applied([event(step) for step in shuffled])[1] == found
    assert sessions(user) == sessions(one)
    assert user.current.baseline == one.current.baseline


@given(steps)
@settings(max_examples=80, deadline=None)
def test_an_event_that_comes_twice_changes_nothing(plan: list[Step]) -> None:
    events = [event(step) for step in sorted(plan)]
    once, found = applied(events)
    twice, found_twice = applied([each for pair in zip(events, events, strict=True) for each in pair])
    assert found == found_twice
    assert sessions(once) == sessions(twice)


# Few changes and long gaps: what is nearly routine is where the short way may go wrong.
near_routine = st.lists(
    st.tuples(
        st.integers(0, 30 * HOUR) | st.integers(0, 40 * MINUTE),
        st.integers(0, 1),
        st.sampled_from(["home", "home", "home", "tokyo", "vpn", "japan", "france"]),
        st.sampled_from(["laptop", "laptop", "laptop", "phone"]),
        st.sampled_from([0, 1, 5, 5, 5, 5, 5, 5]),
    ),
    max_size=40,
)


@given(steps | near_routine)
@settings(max_examples=200, deadline=None)
def test_the_short_way_of_routine_events_is_the_long_way(plan: list[Step]) -> None:
    events = [event(step) for step in sorted(plan)]
    short, found = applied(events)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_routine", lambda *_: False)
        long, found_long = applied(events)
    assert found == found_long
    assert encode_user(short, NEVER) == encode_user(long, NEVER)
    assert encode_profile(short.current) == encode_profile(long.current)


@pytest.mark.parametrize("seed", range(30))
def test_the_short_way_is_the_long_way_over_days(seed: int) -> None:
    chance = random.Random(seed)
    where = {number: chance.choice(["home", "tokyo", "home-v6", "vpn", "japan", "france"]) for number in range(3)}
    now, plan = 0, []
    for _ in range(150):
        now += chance.choice([1, 1, 5, 20, 20, 50, 130, 700]) * MINUTE + chance.randrange(MINUTE)
        number = chance.randrange(3)
        if chance.random() < 0.05:
            where[number] = chance.choice(NETWORKS)
        plan.append((now, number, where[number], "laptop", chance.choice([0, 1] + [5] * 60)))
    events = [event(step) for step in plan]
    limits = Limits(window=chance.choice([12, 64]))
    short, found = applied(events, limits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_routine", lambda *_: False)
        long, found_long = applied(events, limits)
    assert found == found_long
    assert encode_user(short, NEVER) == encode_user(long, NEVER)


wild = st.tuples(
    st.integers(-3 * DAY, 40 * DAY),
    st.integers(0, 40),
    st.sampled_from(NETWORKS),
    st.sampled_from(DEVICES),
    st.integers(0, 9),
)


@given(st.lists(wild, max_size=60))
@settings(max_examples=80, deadline=None)
def test_no_sequence_raises_and_everything_is_bounded(plan: list[Step]) -> None:
    limits = Limits(sessions=8, window=12, open_findings=6, trail=3, pending=2, clients=2, places=2, reported=3)
    user, _ = applied([event(step) for step in plan], limits)
    assert len(user.current.sessions) <= limits.sessions
    assert user.window_size == len(user.observations()) <= limits.window
    assert len(user.current.open_findings) <= limits.open_findings
    assert len(user.contexts) <= limits.window + 4 * limits.sessions * (3 + limits.trail) + 2 * limits.open_findings
    assert all(len(session.trail) <= limits.trail for session in user.current.sessions.values())
    assert len(user.current.waiting) <= limits.pending
    baseline = user.current.baseline
    assert len(baseline.clients) <= limits.clients
    assert len(baseline.places) <= limits.places
    assert len(baseline.reported) <= limits.reported


@given(steps, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_what_is_told_of_still_has_its_contexts(plan: list[Step], chance: random.Random) -> None:
    limits, user = Limits(sessions=2, window=4, open_findings=2), new_user("acme", "u1")
    chance.shuffle(plan)
    for step in plan:
        done = apply(user, *event(step), JUDGE, limits)
        groups = [change.finding for change in done.changes]
        numbers = {session.context for _, session in done.evicted}
        numbers |= {number for group in groups for number in (group.context, group.before) if number}
        assert numbers <= user.contexts.keys()


def test_a_flood_of_sessions_is_told_of_to_the_last() -> None:
    limits, user, evicted = Limits(window=16), new_user("acme", "u1"), 0
    for second in range(500):
        known = Enrichment(*network_of(COMMON_NETWORKS, "home"), Device(*COMMON_DEVICES["curl"]))
        made = make_event(START + second * 1000, f"s{second}", known.network.ip, EventKind.REFRESHED, {"max_age": 60})
        done = apply(user, made, known, JUDGE, limits)
        for uid, session in done.evicted:
            assert session_row(user, uid, session, limits, evicted=True)
        evicted += len(done.evicted)
    assert (len(user.current.sessions), evicted) == (limits.sessions, 500 - limits.sessions)
    assert len(user.contexts) <= 3 * limits.sessions


@pytest.mark.parametrize("log_ins", [66, 200, 500])
def test_log_ins_do_not_flush_a_revocation(log_ins: int) -> None:
    user, known = new_user("acme", "u1"), Enrichment(*network_of(KNOWN, "home"), Device(*COMMON_DEVICES["laptop"]))

    def comes(minute: float, uid: str, kind: EventKind) -> list[str]:
        made = make_event(START + int(minute * MINUTE), uid, known.network.ip, kind, {})
        return [change.finding.detection for change in apply(user, made, known, JUDGE, LIMITS).changes]

    comes(0, "stolen", EventKind.CREATED)
    comes(1, "stolen", EventKind.DELETED)
    for number in range(log_ins):
        comes(2 + number, f"x{number}", EventKind.CREATED)
        comes(2.5 + number, f"x{number}", EventKind.DELETED)
    assert "stolen" not in user.current.sessions
    assert len(encode_user(user, NEVER)) < 60_000
    user = decode_user(encode_user(user, NEVER))
    assert "use-after-revocation" in comes(1_000, "stolen", EventKind.REFRESHED)
    assert user.current.sessions["stolen"].ended == START + MINUTE


def test_revocations_are_bounded_and_forgotten_after_their_time() -> None:
    limits, user = Limits(sessions=4, revoked=8), new_user("acme", "u1")
    known = Enrichment(*network_of(KNOWN, "home"), Device(*COMMON_DEVICES["laptop"]))
    for number in range(40):
        for kind in (EventKind.CREATED, EventKind.DELETED):
            now = START + number * HOUR + (kind is EventKind.DELETED) * MINUTE
            apply(user, make_event(now, f"s{number}", known.network.ip, kind, {}), known, JUDGE, limits)
    assert len(user.current.opened().revoked) == 8
    assert user.current.revoked_at("s35") == START + 35 * HOUR + MINUTE
    assert user.current.revoked_at("s1") == 0
    late = make_event(START + 60 * DAY, "s35", known.network.ip, EventKind.REFRESHED, {})
    assert not apply(user, late, known, JUDGE, limits).changes


def test_what_a_session_taught_before_it_came_under_suspicion_is_taken_back() -> None:
    user = new_user("acme", "u1")

    def comes(hour: int, uid: str, network: str, device: str) -> list[str]:
        known = Enrichment(*network_of(KNOWN, network), Device(*COMMON_DEVICES[device]))
        made = make_event(START + hour * HOUR, uid, known.network.ip, EventKind.REFRESHED, {"max_age": 6_000})
        return [change.finding.detection for change in apply(user, made, known, JUDGE, LIMITS).changes]

    for day in range(15):
        comes(day * 24, f"s{day}", "home", "laptop")
    comes(360, "taken", "home", "laptop")
    comes(361, "taken", "office", "laptop")
    assert "as64501" in user.current.baseline.networks
    assert "device-change" in comes(362, "taken", "office", "mac")
    assert user.current.baseline.networks.keys() == {"as64500"}
    assert "new-network" in comes(363, "next", "office", "mac")
    comes(400, "s15", "home", "laptop")
    assert "as64501" in user.current.baseline.networks, "nothing came of it for a day"


def test_a_busy_session_stays_small() -> None:
    user = new_user("acme", "u1")
    for number in range(5_000):
        apply(user, *event((number * 1_000, 0, "home", "laptop", 5)), JUDGE, LIMITS)
    assert user.current.sessions["s0"].events == 5_000
    assert user.window_size <= LIMITS.window
    assert len(encode_user(user, NEVER)) < 3_000


def test_later_than_allowed_is_told_and_not_judged() -> None:
    user = new_user("acme", "u1")
    apply(user, *event((3 * HOUR, 0, "home", "laptop", 5)), JUDGE, LIMITS)
    assert apply(user, *event((59 * MINUTE, 0, "tokyo", "laptop", 5)), JUDGE, LIMITS).late
    assert not apply(user, *event((60 * MINUTE, 0, "office", "laptop", 5)), JUDGE, LIMITS).late


def test_an_expiry_is_reported_once_and_again_when_it_slid() -> None:
    user = new_user("acme", "u1")
    apply(user, *event((0, 0, "home", "laptop", 5)), JUDGE, LIMITS)
    assert next_timer(user, LIMITS) == START + HOUR + LIMITS.clock_skew + 1
    assert expired(user, START + HOUR, LIMITS) == []
    assert expired(user, START + 2 * HOUR, LIMITS) == ["s0"]
    assert expired(user, START + 3 * HOUR, LIMITS) == []
    apply(user, *event((30 * MINUTE, 0, "home", "laptop", 5)), JUDGE, LIMITS)
    assert expired(user, START + 3 * HOUR, LIMITS) == ["s0"]
    assert not is_forgotten(user, START + 399 * DAY, LIMITS)
    assert is_forgotten(user, START + 401 * DAY, LIMITS)


def test_a_state_of_the_future_is_refused() -> None:
    with pytest.raises(UnknownFormatError, match="format 9"):
        decode_user(b"\x09" + bytes(20))


def test_risk_adds_up_and_fades() -> None:
    assert raised(0.0, 47) == pytest.approx(47)
    assert raised(raised(0.0, 73), 73) == pytest.approx(92.71)
    assert decayed(80.0, HOUR, HOUR) == pytest.approx(40.0)
    assert raised(100.0, 99) == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("policy", "age", "expires"),
    [
        ({}, 30, 40),
        ({"expiry": "absolute"}, 30, 30),
        ({"expiry": "none"}, 30, 0),
        ({}, 0, 0),
        ({}, None, 0),
        ({"expiry": "absolute"}, 0, 0),
    ],
)
def test_expiry_by_policy(policy: dict[str, Any], age: float | None, expires: int) -> None:
    engine = TenantRuleEngine(detections().values(), TenantPolicy.model_validate(policy))
    user = new_user("acme", "u1")
    for minute in (0, 10):
        known = Enrichment(*network_of(KNOWN, "home"), Device(*COMMON_DEVICES["laptop"]))
        given = {"created": "0m", "max_age": age}
        made = make_event(START + minute * MINUTE, "s0", known.network.ip, EventKind.REFRESHED, given)
        apply(user, made, known, engine, LIMITS)
    assert user.current.sessions["s0"].expires == (START + expires * MINUTE if expires else 0)


def test_a_session_of_unknown_lifetime_is_live_for_a_day_after_its_last_use() -> None:
    user = new_user("acme", "u1")
    known = Enrichment(*network_of(KNOWN, "home"), Device(*COMMON_DEVICES["laptop"]))
    apply(user, make_event(START, "s0", known.network.ip, EventKind.CREATED, {}), known, JUDGE, LIMITS)
    assert live_sessions(user.current, START + DAY) == 1
    assert live_sessions(user.current, START + DAY + 1) == 0
    assert next_timer(user, LIMITS) == START + DAY + LIMITS.clock_skew + 1
    assert expired(user, START + 2 * DAY, LIMITS) == ["s0"]
    row = session_row(user, "s0", user.current.sessions["s0"], LIMITS, by_timer=True)
    assert b"ended" in row
    assert b"idle" in row
    apply(user, make_event(START + 3 * DAY, "s0", known.network.ip, EventKind.REFRESHED, {}), known, JUDGE, LIMITS)
    row = session_row(user, "s0", user.current.sessions["s0"], LIMITS)
    assert b"active" in row


def test_bursts_become_usual() -> None:
    history = new_profile().baseline
    limits, parameters = Limits(), SessionBurst()
    for day in range(12):
        for number in range(14):
            count_start(history, day * DAY + number * 10_000, limits.rate_half_life)
    limit = usual_limit(history.rate, parameters)
    assert limit is None, "11 days are behind it, and their weights fade"
    for day in range(12, 40):
        for number in range(10 + day % 5):
            count_start(history, day * DAY + number * 10_000, limits.rate_half_life)
    limit = usual_limit(history.rate, parameters)
    assert limit is not None
    assert 14 < limit < 20


def test_one_at_a_time_makes_ten_unusual() -> None:
    history = new_profile().baseline
    for hour in range(0, 400, 6):
        count_start(history, hour * 3_600_000, Limits().rate_half_life)
    limit = usual_limit(history.rate, SessionBurst())
    assert limit == pytest.approx(1.0, abs=0.01)
