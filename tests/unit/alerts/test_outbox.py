from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.finding import Activity, Severity
from worker.alerts.breaker import Breaker
from worker.alerts.dispatcher import pointless
from worker.alerts.limiter import Limiter
from worker.alerts.outbox import AlertDelivery, Outbox, Standing, decode, encode
from worker.alerts.schedule import next_attempt, retry_after

DELAYS = (5, 30, 120, 600, 1_800, 7_200, 28_800, 72_000, 129_600)


def delivery(revision: int = 1, uid: str = "a", **changes: Any) -> AlertDelivery:
    given = {
        "destination": "soc", "incident_uid": uid, "revision": revision, "tenant_id": "acme",
        "activity": Activity.CREATE, "severity": Severity.HIGH, "partition": 0, "offset": revision,
        "queued_at": revision,
    }  # fmt: skip
    return AlertDelivery(**{**given, **changes})


def told(outbox: Outbox, now: int = 100) -> AlertDelivery | None:
    line = outbox.take("soc", now)
    if line is None:
        return None
    done = line.waiting[0].change(standing=Standing.DELIVERED, changed_at=now, attempts=1)
    outbox.settle(line, done)
    return done


def test_states_of_an_incident_are_delivered_in_order_and_one_at_a_time() -> None:
    outbox = Outbox(8)
    for revision in (1, 3, 4):
        outbox.add(delivery(revision))
    first = outbox.take("soc", 100)
    assert first is not None
    assert first.waiting[0].revision == 1
    assert outbox.take("soc", 100) is None, "one of a line is under way at a time"
    outbox.settle(first, first.waiting[0].change(standing=Standing.DELIVERED))
    assert [each.revision for each in (told(outbox), told(outbox)) if each] == [3, 4]
    assert told(outbox) is None


def test_later_states_wait_behind_one_that_is_parked() -> None:
    outbox = Outbox(8)
    outbox.add(delivery(1))
    outbox.add(delivery(2))
    line = outbox.take("soc", 100)
    assert line is not None
    outbox.settle(line, line.waiting[0].change(attempts=1, next_at=5_000))
    assert outbox.take("soc", 4_999) is None
    assert outbox.queue("soc").next_at(4_999) == 5_000
    assert told(outbox, 5_000) == delivery(1).change(
        standing=Standing.DELIVERED, changed_at=5_000, attempts=1, next_at=5_000
    )


def test_other_incidents_pass_one_that_is_parked() -> None:
    outbox = Outbox(8)
    outbox.add(delivery(1, next_at=9_000))
    outbox.add(delivery(1, "b"))
    assert (found := told(outbox)) is not None
    assert found.incident_uid == "b"


def test_criticals_go_first() -> None:
    outbox = Outbox(8)
    for number in range(5):
        outbox.add(delivery(1, f"high-{number}"))
    outbox.add(delivery(9, "critical", severity=Severity.CRITICAL))
    assert (found := told(outbox)) is not None
    assert found.incident_uid == "critical"


def test_a_state_is_told_once_however_often_it_is_read() -> None:
    outbox = Outbox(8)
    outbox.add(delivery(2))
    outbox.add(delivery(2))
    assert told(outbox) is not None
    outbox.add(delivery(2))
    outbox.add(delivery(1))
    assert told(outbox) is None
    assert outbox.knows("soc", "a", 2)
    assert not outbox.knows("soc", "a", 3)


def test_of_too_many_waiting_states_the_middle_ones_are_left_out_and_it_is_said() -> None:
    outbox = Outbox(3)
    left_out = [each for revision in range(1, 6) for each in outbox.add(delivery(revision, next_at=50))]
    line = outbox.line("soc", "a")
    assert line is not None
    assert [each.revision for each in line.waiting] == [1, 4, 5]
    assert [each.revision for each in left_out if each.standing is Standing.LEFT_OUT] == [2, 3]
    assert line.waiting[1].replaced == 2
    assert all("revision 4" in each.reason for each in left_out if each.standing is Standing.LEFT_OUT)


def test_a_destination_knows_an_incident_until_it_is_resolved_there() -> None:
    outbox = Outbox(8)
    outbox.add(delivery(1))
    assert outbox.destinations_of("a") == {"soc"}
    told(outbox)
    assert outbox.destinations_of("a") == {"soc"}
    outbox.add(delivery(2, activity=Activity.CLOSE))
    told(outbox)
    assert outbox.destinations_of("a") == set()


def test_what_is_left_out_triggers_nothing() -> None:
    outbox = Outbox(8)
    outbox.add(delivery(1, standing=Standing.LEFT_OUT))
    assert outbox.destinations_of("a") == set()
    assert outbox.knows("soc", "a", 1)


def test_a_partition_that_was_given_up_is_not_served_any_more() -> None:
    outbox = Outbox(8)
    outbox.add(delivery(1))
    outbox.add(delivery(2))
    line = outbox.take("soc", 100)
    assert line is not None
    outbox.drop_partition(0)
    outbox.settle(line, line.waiting[0].change(standing=Standing.DELIVERED))
    assert outbox.take("soc", 100) is None


def test_what_waits_for_an_unavailable_destination_is_due_when_it_is_back() -> None:
    outbox = Outbox(8)
    outbox.load([delivery(1, next_at=9_000, unavailable=True, attempts=3), delivery(1, "b", next_at=9_000, attempts=1)])
    assert outbox.hurry("soc", 100) == 1
    assert (found := told(outbox)) is not None
    assert found.incident_uid == "a"
    assert told(outbox) is None


def test_a_failed_delivery_is_made_again_on_request() -> None:
    outbox = Outbox(8)
    outbox.load([delivery(1, standing=Standing.FAILED), delivery(2, standing=Standing.DELIVERED)])
    assert told(outbox) is None
    outbox.request(delivery(1, requested=True))
    outbox.request(delivery(1, requested=True))
    assert (found := told(outbox)) is not None
    assert found.revision == 1
    assert told(outbox) is None


def test_a_late_write_of_a_process_that_lost_the_partition_changes_no_order() -> None:
    outbox = Outbox(8)
    stale = delivery(1, attempts=1, next_at=50)
    (overtaken,) = outbox.load([stale, delivery(2, standing=Standing.DELIVERED), delivery(3)])
    assert (overtaken.key, overtaken.standing) == (stale.key, Standing.LEFT_OUT)
    assert (found := told(outbox)) is not None
    assert found.revision == 3
    assert told(outbox) is None


def test_a_state_is_skipped_when_a_later_one_waits() -> None:
    outbox = Outbox(8)
    outbox.add(delivery(2))
    assert outbox.knows("soc", "a", 1)
    outbox.add(delivery(1))
    assert (found := told(outbox)) is not None
    assert found.revision == 2
    assert told(outbox) is None


def test_what_waits_is_counted_with_its_age() -> None:
    outbox = Outbox(8)
    outbox.load([delivery(1, queued_at=7), delivery(2, queued_at=9), delivery(1, "b", queued_at=5, next_at=900)])
    assert outbox.waiting("soc") == (3, 5)
    assert outbox.destinations() == ["soc"]
    while told(outbox):
        pass
    assert outbox.waiting("soc") == (1, 5)
    outbox.drop_partition(0)
    assert outbox.waiting("soc") == (0, 0)
    assert outbox.destinations() == []


def test_lines_expire_with_the_keys_of_their_records() -> None:
    outbox = Outbox(8)
    outbox.load(
        [delivery(1, standing=Standing.DELIVERED, changed_at=10), delivery(2, standing=Standing.FAILED, changed_at=20)]
    )
    assert outbox.expire(20) == []
    (line,) = outbox.expire(21)
    assert line.record_keys() == ["soc/a/1", "soc/a/2"]
    assert not outbox.knows("soc", "a", 1)


def test_a_resolution_is_not_told_where_the_incident_was_not() -> None:
    outbox = Outbox(8)
    outbox.add(delivery(2, activity=Activity.CLOSE))
    line = outbox.line("soc", "a")
    assert line is not None
    assert "did not get" in pointless(line)
    outbox.add(delivery(1, "b", next_at=50, reason="quiet hours: night"))
    outbox.add(delivery(2, "b", next_at=50, activity=Activity.CLOSE))
    line = outbox.line("soc", "b")
    assert line is not None
    assert "quiet hours" in pointless(line)


@settings(deadline=None)
@given(st.data())
def test_after_any_crash_the_journal_leads_to_the_same_end(data: st.DataObject) -> None:  # noqa: C901  a small simulation
    """Whatever is written when, and wherever the process is killed: all is told, in order."""
    chance = Random(data.draw(st.integers(0, 10_000)))
    states = [(f"i{number}", revision) for number in range(3) for revision in (1, 2, 5)]
    journal: dict[str, AlertDelivery] = {}
    arrived: list[tuple[str, int]] = []
    outbox, read, now = Outbox(8), 0, 0
    for _ in range(300):
        now += 10
        step = chance.random()
        if step < 0.1:
            outbox = Outbox(8)
            outbox.load(journal.values())
            read = max(read - chance.randint(0, 2), 0)
        elif step < 0.5 and read < len(states):
            uid, revision = states[read]
            new = delivery(revision, uid, next_at=now, queued_at=now)
            if not outbox.knows("soc", uid, revision):
                journal[new.key] = new
                outbox.add(new)
            read += 1
        elif (line := outbox.take("soc", now)) is not None:
            first = line.waiting[0]
            works = chance.random() < 0.6
            if works:
                arrived.append((first.incident_uid, first.revision))
            if chance.random() < 0.1:
                outbox = Outbox(8)
                outbox.load(journal.values())
                continue
            change = {"standing": Standing.DELIVERED} if works else {"next_at": now + 20}
            outcome = first.change(attempts=first.attempts + 1, changed_at=now, **change)
            journal[outcome.key] = outcome
            outbox.settle(line, outcome)
    while read < len(states):
        uid, revision = states[read]
        if not outbox.knows("soc", uid, revision):
            outbox.add(delivery(revision, uid, queued_at=now))
        read += 1
    while (last := told(outbox, now + 1_000)) is not None:
        arrived.append((last.incident_uid, last.revision))
    assert set(arrived) == set(states)
    for uid in {uid for uid, _ in states}:
        revisions = [revision for each, revision in arrived if each == uid]
        assert revisions == sorted(revisions)


def test_a_delivery_survives_the_journal() -> None:
    made = delivery(3, activity=Activity.UPDATE, error="HTTP 500 \u202e", attempts=2, reason="x")
    assert decode(encode(made)) == made


def test_there_are_ten_attempts_over_three_days() -> None:
    now, times = 0, [0]
    while at := next_attempt(DELAYS, len(times), now, None, "key"):
        now = at
        times.append(at)
    assert len(times) == 10
    assert 60 * 3_600_000 < now < 80 * 3_600_000
    assert times == sorted(times)


def test_a_receiver_may_ask_for_more_time_but_not_for_less() -> None:
    assert next_attempt(DELAYS, 1, 0, 60.0, "k") == 60_000
    assert next_attempt(DELAYS, 1, 0, 1.0, "k") >= 5_000
    assert retry_after("soon", 0) is None
    assert retry_after("999999999", 0) == 24 * 3_600
    assert retry_after("-5", 0) is None


def test_a_breaker_opens_probes_and_closes() -> None:
    breaker = Breaker(3, 1_000, 4_000)
    for now in (1, 2):
        breaker.begin()
        assert not breaker.fail(now)
    breaker.begin()
    assert breaker.fail(3)
    assert breaker.allows_at() == 1_003
    breaker.begin()
    assert breaker.allows_at() == float("inf"), "one probe at a time"
    assert not breaker.fail(1_100)
    assert breaker.allows_at() == 3_100, "twice as long after a failed probe"
    breaker.begin()
    assert breaker.succeed()
    assert breaker.allows_at() == 0
    assert not breaker.is_open


def test_one_failure_does_not_open_a_breaker() -> None:
    breaker = Breaker(5, 1_000, 4_000)
    for _ in range(100):
        breaker.fail(1)
        breaker.succeed()
    assert not breaker.is_open


@pytest.mark.parametrize(("rate", "burst"), [(1, 3), (10, 1), (50, 50)])
def test_a_limit_holds(rate: float, burst: int) -> None:
    limiter, now, sent = Limiter(rate, burst), 1_000, 0
    while now < 11_000:
        if limiter.allows_at(now) <= now:
            limiter.spend(now)
            sent += 1
        else:
            now += 1
    assert sent <= burst + rate * 10 + 1
    assert sent >= burst + rate * 10 - 2
