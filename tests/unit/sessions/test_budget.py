from __future__ import annotations

import random

import orjson
import pytest

from schemas.finding import Severity
from tests.support.records import CHROME, T0, TOPICS, Taken, session
from worker.detections.policies import Policies
from worker.detections.registry import detection, detections
from worker.enrich.enricher import build_enricher
from worker.pipeline.batch import Pipeline
from worker.pipeline.ports import BatchResult
from worker.pipeline.readers import KafkaReader
from worker.sessions.budget import DAYS, MOST, AlertRequest, Budget, Day, count, decode_budget, encode_budget
from worker.sessions.codec import UnknownFormatError
from worker.sessions.limits import DAY, HOUR, Limits
from worker.stream.state_store import MemoryShard

KEY = b"/budget/acme"


def moved(user: str, at: int = T0) -> list[bytes]:
    """A session that goes from Paris to Tokyo, to another device: several alerts."""
    other = {"location": "Tokyo, JP", "ip": "198.51.100.9", "user_agent": CHROME.replace("Windows NT 10.0", "X11")}
    return [
        session(uid=f"s-{user}", user_id=user, created_at=at, last_used_at=at),
        session(uid=f"s-{user}", user_id=user, created_at=at, last_used_at=at + 60_000, **other),
    ]


def revoked(user: str) -> list[bytes]:
    """A session that is used after it was deleted."""
    return [
        session(uid=f"r-{user}", user_id=user, is_deleted=True, updated_at=T0),
        session(uid=f"r-{user}", user_id=user, last_used_at=T0 + 10 * 60_000),
    ]


def active(users: int, *days: int) -> Budget:
    budget = Budget()
    for day in days:
        for number in range(users):
            budget.see(str(number).encode(), day * DAY)
    return budget


def take(values: list[bytes], policy: bytes, shard: MemoryShard | None = None) -> BatchResult:
    policies = Policies(detections().values())
    policies.set("acme", policy)
    heart = Pipeline(reader=KafkaReader(build_enricher(None, None)), engine_for=policies.engine_for, topics=TOPICS,
                     partition_of=lambda _key: 0, limits=Limits())  # fmt: skip
    records = [Taken(value, number, timestamp=T0 + 2 * DAY) for number, value in enumerate(values)]
    return heart.process(0, records, MemoryShard() if shard is None else shard)


def alerts(outcome: BatchResult) -> set[str]:
    return {finding.uid for finding in outcome.findings if finding.is_alert()}


def exempt(outcome: BatchResult) -> set[str]:
    """Return the findings that no budget holds back."""
    return {
        each.uid
        for each in outcome.findings
        if each.severity == Severity.CRITICAL or detection(each.detection).invariant
    }


def test_alerts_beyond_the_budget_are_stored_and_not_raised() -> None:
    lines = [line for number in range(20) for line in moved(f"u{number}")]
    free, bound = take(lines, b"{}"), take(lines, b'{"alert_budget": 200}')
    # 20 users, 200 alerts per 1,000: four a day, less one or so that the estimate of the users leaves out.
    assert len(alerts(free)) == 20  # one deed, one alert
    assert 3 <= len(alerts(bound) - exempt(bound)) <= 4
    assert len({each.user_id for each in bound.findings if each.is_alert() and each.uid not in exempt(bound)}) >= 3
    assert len(bound.rows["findings"]) == len(free.rows["findings"])
    held = [each for each in bound.findings if each.suppressed_by == ("alert-budget",)]
    assert {each.status for each in held} == {"suppressed"}
    assert len({each.uid for each in held} | alerts(bound)) == len(alerts(free))
    assert sum(n for key, n in bound.counters.items() if key[0] == "over-budget") == len({each.uid for each in held})


def test_one_alert_a_day_is_always_allowed() -> None:
    outcome = take([*moved("a"), *moved("b", T0 + DAY)], b'{"alert_budget": 0.001}')
    assert len(alerts(outcome) - exempt(outcome)) == 2


def test_hard_invariants_are_exempt() -> None:
    outcome = take([*moved("a"), *revoked("z")], b'{"alert_budget": 0.001}')
    told = {each.detection for each in outcome.findings if each.is_alert()}
    assert "use-after-revocation" in told
    assert len(alerts(outcome) - exempt(outcome)) == 1


def test_critical_findings_are_exempt_and_take_nothing_of_the_budget() -> None:
    policy = {"alert_budget": 0.001, "detections": {"location-change": {"severity": "critical"}}}
    outcome = take([*moved("a"), *moved("b")], orjson.dumps(policy))
    told = [each for each in outcome.findings if each.is_alert()]
    assert {each.user_id for each in told if each.severity == Severity.CRITICAL} == {"a", "b"}
    # The other findings of these two belong to the incidents of the critical ones; a third user's need the budget.
    more = take([*moved("a"), *moved("b"), *revoked("c")], b'{"alert_budget": 0.001}')
    assert {each.user_id for each in more.findings if each.is_alert()} == {"a", "c"}


def test_the_most_severe_of_one_event_goes_first() -> None:
    outcome = take(moved("a"), b'{"alert_budget": 0.001}')
    last = max(each.event_time for each in outcome.findings)
    told = [each for each in outcome.findings if each.uid not in exempt(outcome)]
    (alert,) = {each.uid: each for each in told if each.is_alert()}.values()
    assert len({each.severity for each in told if each.last_event_time == last}) > 1
    assert alert.severity == max(each.severity for each in told if each.event_time == alert.event_time)


def test_one_user_does_not_spend_the_budget_of_all() -> None:
    """A user who alerts all day leaves nine tenths to the others."""
    budget = active(1_000, 1)
    noisy = [
        budget.admit(AlertRequest(f"n{number}", b"acme/noisy", DAY + number), 50, quiet=0) for number in range(100)
    ]
    assert 4 <= sum(noisy) <= 5
    assert noisy == sorted(noisy, reverse=True)
    others = [budget.admit(AlertRequest(f"o{number}", f"acme/{number}".encode(), DAY), 50) for number in range(100)]
    assert sum(noisy) + sum(others) in range(48, 53)
    assert budget.admit(AlertRequest("n0", b"acme/noisy", DAY), 50)


@pytest.mark.parametrize("is_high", [False, True])
def test_one_user_does_not_spend_what_a_small_tenant_has_in_two_weeks(is_high: bool) -> None:  # noqa: FBT001
    budget = active(60, *range(1, 15))
    times = [day * DAY + part * 6 * HOUR for day in range(1, 15) for part in range(4)]
    assert sum(budget.admit(AlertRequest(f"{time}", b"acme/noisy", time, is_high), 20) for time in times) <= 4
    assert budget.admit(AlertRequest("other", b"acme/other", 14 * DAY), 20)


def test_alerts_of_one_incident_cost_one() -> None:
    budget = active(100, 1)
    day = range(DAY, 2 * DAY, 3 * HOUR)
    assert all(budget.admit(AlertRequest(f"{time}", b"acme/a", time), 20) for time in day)
    assert budget.days[1].spent == 1
    assert budget.admit(AlertRequest("before", b"acme/a", DAY - HOUR), 20)
    assert budget.days[1].spent == 1
    assert budget.admit(AlertRequest("on another day", b"acme/a", 2 * DAY + 3 * HOUR), 20)
    assert budget.days[2].spent == 1


def test_an_incident_that_turns_critical_gives_back_what_it_cost() -> None:
    budget = Budget()
    assert budget.admit(AlertRequest("first", b"acme/a", DAY), 0.001)
    assert not budget.admit(AlertRequest("held", b"acme/b", DAY), 0.001)
    assert budget.admit(AlertRequest("critical", b"acme/a", DAY + HOUR, is_high=True, is_exempt=True), 0.001)
    assert budget.admit(AlertRequest("held", b"acme/b", DAY), 0.001)
    assert budget.admit(AlertRequest("first", b"acme/a", DAY), 0.001)
    assert budget.days[1].spent == 1


def test_findings_of_high_severity_use_what_two_weeks_left() -> None:
    alerts = [AlertRequest(f"{number}", f"u{number}".encode(), 14 * DAY, number % 2 == 1) for number in range(80)]
    medium, high = (
        sum(budget.admit(each._replace(is_high=is_high), 20) for each in alerts)
        for is_high in (False, True)
        for budget in [active(100, *range(1, 15))]
    )
    # 100 users, 20 alerts per 1,000: two a day.
    assert 13 <= medium <= 14
    assert 27 <= high <= 28


def test_a_budget_that_allows_everything_is_bounded() -> None:
    budget = Budget()
    for number in range(1_000):
        budget.see(str(number).encode(), DAY)
    told = sum(
        budget.admit(AlertRequest(f"n{number:032}", f"u{number}".encode(), DAY), 1e15) for number in range(MOST + 50)
    )
    assert told == MOST
    assert len(encode_budget(budget)) * DAYS < 4 << 20


def test_what_quiet_days_leave_may_be_used_within_a_week() -> None:
    budget = active(100, *range(1, 9))
    # 100 users, 20 alerts per 1,000: two a day. Six days were quiet.
    told = sum(budget.admit(AlertRequest(f"n{number}", f"u{number}".encode(), 7 * DAY), 20) for number in range(30))
    assert 13 <= told <= 14
    assert (
        1
        <= sum(budget.admit(AlertRequest(f"m{number}", f"u{number}".encode(), 8 * DAY), 20) for number in range(30))
        <= 2
    )


def test_findings_about_no_one_user_have_no_share() -> None:
    budget = Budget()
    for number in range(1_000):
        budget.see(str(number).encode(), DAY)
    assert all(budget.admit(AlertRequest(f"n{number}", b"", DAY), 50) for number in range(40))


def test_without_a_budget_nothing_is_counted() -> None:
    assert KEY not in take(moved("a"), b"{}").states
    assert KEY in take(moved("a"), b'{"alert_budget": 5}').states


def test_what_is_applied_again_after_a_crash_counts_once() -> None:
    """States are written in their order; a crash may keep the budget's and lose the users'."""
    lines = [line for number in range(10) for line in moved(f"u{number}")]
    shard, policy = MemoryShard(), b'{"alert_budget": 300}'
    once = take(lines, policy, shard)
    again = MemoryShard()
    again.put(KEY, shard.get(KEY))
    assert alerts(take(lines, policy, again)) == alerts(once)
    assert again.get(KEY) == shard.get(KEY)


def test_time_alone_forgets_it() -> None:
    shard = MemoryShard()
    take(moved("a"), b'{"alert_budget": 5}', shard)
    policies = Policies(detections().values())
    heart = Pipeline(reader=KafkaReader(build_enricher(None, None)), engine_for=policies.engine_for, topics=TOPICS,
                     partition_of=lambda _key: 0, limits=Limits())  # fmt: skip
    assert KEY not in heart.fire_timers(0, T0 + 2 * DAY, shard).states
    assert heart.fire_timers(0, T0 + (DAYS + 2) * DAY, shard).states[KEY] is None
    assert shard.get(KEY) is None


@pytest.mark.parametrize("users", [0, 1, 100, 5_000, 20_000])
def test_users_are_estimated(users: int) -> None:
    budget = Budget(days={0: Day()})
    for number in range(users):
        budget.see(f"tenant/{number}".encode(), 0)
        assert not budget.see(f"tenant/{number}".encode(), HOUR)
    assert count(budget.days[0]) == pytest.approx(users, rel=0.04, abs=1)


def test_the_day_before_counts_when_it_had_more_users() -> None:
    budget = Budget()
    for number in range(1_000):
        budget.see(str(number).encode(), DAY)
    # Fractions of an alert are left as well: two and a bit a day are five in two days.
    assert sum(budget.admit(AlertRequest(f"before {number}", str(number).encode(), DAY), 3) for number in range(5)) == 2
    told = [budget.admit(AlertRequest(str(number), str(number).encode(), 2 * DAY), 3) for number in range(5)]
    assert told == [True, True, True, False, False]
    assert budget.admit(AlertRequest("0", b"0", 2 * DAY + HOUR), 3)


def test_days_are_bounded_and_what_is_older_is_free() -> None:
    budget, chance = Budget(), random.Random(1)
    for _ in range(500):
        time = chance.randrange(60) * DAY
        budget.see(b"user", time)
        budget.admit(AlertRequest(str(chance.random()), b"user", time), 1)
        assert len(budget.days) <= DAYS
    assert all(budget.admit(AlertRequest(str(number), b"user", DAY), 1) for number in range(5))
    assert decode_budget(encode_budget(budget)) == budget
    with pytest.raises(UnknownFormatError):
        decode_budget(b"\x09" + encode_budget(budget)[1:])
