"""Findings to incidents: what belongs together, in whatever order it arrives and however it is cut into batches."""

from __future__ import annotations

from itertools import permutations
from typing import Any, NamedTuple

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.finding import Activity, Finding, Severity, Status
from schemas.incident import Incident, IncidentState, Resolution, Side, decode_incident, incident_uid
from schemas.keys import user_key
from tests.support.records import CHROME, TOPICS
from worker.detections.engine import TenantRuleEngine
from worker.detections.registry import detections
from worker.enrich.enricher import build_enricher
from worker.enrich.model import Enrichment, Network, Place
from worker.pipeline.batch import Pipeline
from worker.pipeline.incident_report import report
from worker.pipeline.incidents import FEEDBACK_PREFIX, INCIDENT_PREFIX, IncidentStage, about
from worker.pipeline.ports import BatchResult
from worker.pipeline.readers import KafkaReader
from worker.sessions.incidents import (
    IncidentLimits,
    IncidentTracker,
    decode_tracker,
    encode_tracker,
    is_tracker,
    next_due,
)
from worker.sessions.limits import DAY, HOUR, MINUTE, Limits
from worker.stream.state_store import MemoryShard

T0 = 1_790_000_000_000
KEY = user_key("acme", "alice")
LIMITS = IncidentLimits()
KINDS = ("session-hijack", "impossible-travel", "ip-change", "new-country")


class Taken(NamedTuple):
    value: bytes | None
    key: bytes | None = KEY
    offset: int = 0
    topic: str = "findings"
    partition: int = 0
    timestamp: int = T0
    headers: tuple[tuple[str, bytes], ...] = ()


def finding(uid: str, **changes: Any) -> Finding:
    about = detections()[changes.get("detection", "session-hijack")]
    values: dict[str, Any] = {
        "uid": uid, "activity": Activity.CREATE, "status": Status.NEW, "detection": about.id, "title": about.title,
        "description": about.description, "severity": Severity.HIGH, "risk_score": 73, "attacks": about.attacks,
        "runbook": about.runbook, "tenant_id": "acme", "user_id": "alice", "session_uid": "s1", "subject": "",
        "summary": f"summary of {uid}", "bucket_time": T0, "event_time": T0, "detected_at": T0, "count": 1,
        "revision": 1, "suppressed_by": (), "shadow": False, "evidence": b'{"observed": {}}', "source": ("t", 0, 0),
    }  # fmt: skip
    values |= changes
    return Finding(**{"last_event_time": values["event_time"], **values})


def taken(*findings: Finding) -> list[Taken]:
    return [Taken(each.message()) for each in findings]


class Run:
    """A stage and its shard, and the last state published of each incident."""

    def __init__(self, limits: IncidentLimits = LIMITS) -> None:
        self.stage, self.shard, self.published = IncidentStage("incidents", limits), MemoryShard(), {}
        self.messages: list[Incident] = []

    def take(self, *findings: Finding) -> list[Incident]:
        return self._told(self.stage.process(taken(*findings), self.shard))

    def verdict(self, uid: str, verdict: str, time: int = T0, **more: Any) -> list[Incident]:
        document = orjson.dumps(
            {"finding_uid": uid, "verdict": verdict, "tenant_id": "acme", "user_id": "alice", **more}
        )
        return self._told(self.stage.process([Taken(document, FEEDBACK_PREFIX + KEY, timestamp=time)], self.shard))

    def advance(self, now: int) -> list[Incident]:
        return self._told(self.stage.advance([INCIDENT_PREFIX + KEY], now, self.shard))

    def _told(self, outcome: BatchResult) -> list[Incident]:
        incidents = [decode_incident(message.value or b"") for message in outcome.messages]
        for each in incidents:
            before = self.published.get(each.uid)
            assert before is None or each.revision > before.revision
            self.published[each.uid] = each
        self.messages += incidents
        return incidents

    def live(self) -> dict[str, Incident]:
        ended = (Resolution.MERGED, Resolution.WITHDRAWN)
        return {uid: each for uid, each in self.published.items() if each.resolution not in ended}


def test_findings_of_one_session_are_one_incident() -> None:
    run = Run()
    (first,) = run.take(finding("a"))
    assert (first.state, first.activity, first.severity) == (IncidentState.OPEN, Activity.CREATE, Severity.HIGH)
    assert first.uid == incident_uid("acme", "alice", "s1")
    assert run.take(finding("b", event_time=T0 + 3 * DAY)) == []
    (second,) = run.take(finding("c", detection="impossible-travel", event_time=T0 + MINUTE))
    assert (second.uid, second.state, second.activity) == (first.uid, IncidentState.UPDATED, Activity.UPDATE)
    assert second.finding_count == 3


def test_findings_close_in_time_are_one_incident_and_others_are_not() -> None:
    run = Run()
    run.take(finding("a"), finding("b", session_uid="s2", event_time=T0 + LIMITS.quiet))
    run.take(finding("c", session_uid="s3", event_time=T0 + 2 * LIMITS.quiet + 1))
    assert sorted(each.sessions for each in run.live().values()) == [("s1", "s2"), ("s3",)]


@pytest.mark.parametrize("status", [Status.SUPPRESSED, Status.CLOSED])
@pytest.mark.parametrize("severity", [Severity.LOW, Severity.HIGH])
def test_what_does_not_alert_begins_no_incident(status: Status, severity: Severity) -> None:
    run = Run()
    assert run.take(finding("a", status=status, severity=severity)) == []


def test_suppressed_findings_are_named_with_the_reason_and_join_nothing() -> None:
    run = Run()
    quiet = finding("x", session_uid="s2", event_time=T0 + 4 * HOUR, status=Status.SUPPRESSED,
                    suppressed_by=("allowed-network",))  # fmt: skip
    run.take(finding("a"), quiet, finding("b", session_uid="s3", event_time=T0 + 8 * HOUR))
    assert len(run.live()) == 2
    (named,) = [each for incident in run.live().values() for each in incident.suppressed]
    assert (named.uid, named.suppressed_by) == ("x", ("allowed-network",))


def test_a_late_finding_joins_two_incidents_and_the_later_is_closed_with_a_pointer() -> None:
    run = Run()
    run.take(finding("a"), finding("c", session_uid="s3", event_time=T0 + 7 * HOUR))
    first, second = sorted(run.live().values(), key=lambda each: each.started_at)
    told = run.take(finding("b", session_uid="s2", event_time=T0 + 210 * MINUTE))
    assert [(each.uid, each.resolution, each.merged_into) for each in told] == [
        (second.uid, Resolution.MERGED, first.uid)
    ]
    assert run.live().keys() == {first.uid}


def test_an_incident_whose_findings_are_closed_is_resolved_and_may_come_back() -> None:
    run = Run()
    (first,) = run.take(finding("a"))
    (closed,) = run.take(finding("a", revision=2, status=Status.CLOSED))
    assert (closed.uid, closed.activity, closed.resolution) == (first.uid, Activity.CLOSE, Resolution.WITHDRAWN)
    assert closed.findings or closed.title
    (back,) = run.take(finding("a", revision=3))
    assert (back.uid, back.activity, back.state) == (first.uid, Activity.UPDATE, IncidentState.OPEN)


def test_an_incident_is_resolved_when_it_was_quiet_and_opened_again_by_its_session() -> None:
    run = Run()
    (first,) = run.take(finding("a"))
    assert run.advance(T0 + LIMITS.quiet - 1) == []
    (closed,) = run.advance(T0 + LIMITS.quiet)
    assert (closed.resolution, closed.resolved_at) == (Resolution.QUIET, T0 + LIMITS.quiet)
    (again,) = run.take(finding("b", event_time=T0 + DAY, detected_at=T0 + DAY))
    assert (again.uid, again.activity) == (first.uid, Activity.UPDATE)
    (_,) = run.advance(T0 + DAY + LIMITS.quiet)
    assert run.advance(T0 + DAY + LIMITS.quiet + LIMITS.retention) == []
    assert len(run.shard) == 0


def test_an_incident_is_resolved_before_it_is_forgotten_however_late_its_timer_fires() -> None:
    run = Run()
    run.take(finding("a"))
    (closed,) = run.advance(T0 + LIMITS.quiet + LIMITS.retention + DAY)
    assert (closed.activity, closed.resolution) == (Activity.CLOSE, Resolution.QUIET)
    assert run.advance(T0 + LIMITS.quiet + LIMITS.retention + DAY) == []
    assert len(run.shard) == 0


def test_feedback_acknowledges_an_incident_until_it_says_that_all_is_false() -> None:
    run = Run()
    (first,) = run.take(finding("a"))
    assert (first.acknowledged_at, first.ocsf()["status_id"]) == (0, 1)
    (taken_up,) = run.verdict("a", "investigating", T0 + 1)
    assert (taken_up.activity, taken_up.state) == (Activity.UPDATE, IncidentState.OPEN)
    assert taken_up.acknowledged_at == T0 + 1
    assert taken_up.ocsf()["status_id"] == 2
    assert run.verdict("a", "true_positive", T0 + 2) == [], "it is acknowledged already"
    (over,) = run.verdict("a", "false_positive", T0 + 3)
    assert (over.activity, over.resolution, over.acknowledged_at) == (Activity.CLOSE, Resolution.FALSE_POSITIVE, 0)


def test_feedback_on_a_resolved_incident_is_kept_and_tells_nobody() -> None:
    run = Run()
    run.take(finding("a"))
    run.advance(T0 + LIMITS.quiet)
    assert run.verdict("a", "true_positive", T0 + LIMITS.quiet + 1) == []
    (again,) = run.take(finding("b", detection="new-country", event_time=T0 + DAY, detected_at=T0 + DAY))
    assert (again.state, again.acknowledged_at) == (IncidentState.UPDATED, T0 + LIMITS.quiet + 1)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_latest_verdict_counts_in_whatever_order_they_arrive(order: tuple[int, ...]) -> None:
    run, given = Run(), ("false_positive", "investigating", "true_positive")
    run.take(finding("a"))
    for number in order:
        run.verdict("a", given[number], T0 + number)
    (state,) = [decode_tracker(state) for _, state in run.shard.items()]
    assert {uid: each.verdict for uid, each in state.verdicts.items()} == {"a": "true_positive"}
    (incident,) = run.live().values()
    assert not incident.is_resolved
    assert incident.acknowledged_at


def test_one_verdict_on_all_findings_resolves_an_incident_in_one_step() -> None:
    run = Run()
    run.take(finding("a"), finding("b", detection="new-country", event_time=T0 + 1))
    (over,) = run.verdict("a", "false_positive", T0 + 2, more_findings=["b", "unknown"])
    assert over.resolution is Resolution.FALSE_POSITIVE


def test_false_positives_resolve_an_incident_and_are_taken_back() -> None:
    run = Run()
    run.take(finding("a"), finding("b", severity=Severity.MEDIUM, detection="new-country", event_time=T0 + 1))
    (less,) = run.verdict("a", "false_positive", T0 + 1)
    assert (less.severity, less.state) == (Severity.MEDIUM, IncidentState.OPEN)
    (over,) = run.verdict("b", "false_positive", T0 + 2)
    assert (over.activity, over.resolution, over.resolved_at) == (Activity.CLOSE, Resolution.FALSE_POSITIVE, T0 + 2)
    (again,) = run.verdict("b", "true_positive", T0 + 3)
    assert again.state is IncidentState.OPEN
    assert run.verdict("unknown", "false_positive") == []


def test_findings_that_come_again_change_nothing() -> None:
    run = Run()
    run.take(finding("a", revision=2))
    states = dict(run.shard.items())
    assert run.take(finding("a", revision=2), finding("a", revision=1, status=Status.CLOSED)) == []
    assert dict(run.shard.items()) == states


def test_feedback_reaches_incidents_without_a_user_by_their_key_and_tenant() -> None:
    key = b"/network/198.51.100.0/24/acme"
    alone = finding("n", user_id="", session_uid="", subject="198.51.100.0/24", detection="network-many-users")
    stage, shard = IncidentStage("incidents", LIMITS), MemoryShard()
    (found,) = stage.process([Taken(alone.message(), key)], shard).incidents
    assert found.key.encode() == key
    for tenant, resolutions in (("other", []), ("acme", [Resolution.FALSE_POSITIVE])):
        said = orjson.dumps({"finding_uid": "n", "verdict": "false_positive", "tenant_id": tenant})
        outcome = stage.process([Taken(said, FEEDBACK_PREFIX + key)], shard)
        assert [each.resolution for each in outcome.incidents] == resolutions


def test_every_finding_without_a_user_names_what_it_is_about() -> None:
    for subject, named in (("Firefox/Linux/desktop", "Firefox/Linux/desktop (acme)"), ("", "(acme)")):
        (found,) = Run().take(finding("n", user_id="", session_uid="", subject=subject, detection="shared-agent"))
        assert found.title.startswith(named if subject else detections()["shared-agent"].title)


def test_the_title_says_once_where_something_was_seen() -> None:
    context = {"ip": "203.0.113.7", "asn": 64500, "as_org": "Example", "network_kind": "isp", "country": "FR",
               "city": "Lyon", "ua_family": "Firefox", "ua_major": 138, "os_family": "Linux"}  # fmt: skip
    evidence = orjson.dumps({"observed": {}, "after": context})
    where = "Firefox 138 on Linux at 203.0.113.7 (AS64500 Example, isp), Lyon, FR"
    for summary, said in ((f"new network: {where}", f"new network: {where}, since"),
                          ("used from 203.0.113.7 (AS64500 Example, isp)", "(AS64500 Example, isp), Lyon, FR, since"),
                          ("weak sign-in", f"weak sign-in, at {where}, since")):  # fmt: skip
        (found,) = Run().take(finding("n", detection="new-network", summary=summary, evidence=evidence))
        assert said in found.title
        assert found.title.count("203.0.113.7") == 1
        assert found.timeline[0].what == "Somebody: " + detections()["new-network"].title.lower()


def test_a_network_without_a_user_is_an_incident_of_its_own() -> None:
    run = Run()
    evidence = orjson.dumps({"observed": {"network": "198.51.100.0/24", "users": ["a", "b"]}})
    (found,) = run.take(finding("n", user_id="", session_uid="", subject="198.51.100.0/24",
                                detection="network-many-users", evidence=evidence))  # fmt: skip
    assert (found.user_id, found.subject) == ("", "198.51.100.0/24")
    assert "198.51.100.0/24 (acme)" in found.title


def test_what_is_no_finding_is_counted_and_left_alone() -> None:
    outcome = Run().stage.process([Taken(b"{}"), Taken(None), Taken(b"x")], MemoryShard())
    assert outcome.counters == {("ignored", "not-a-finding"): 2, ("findings-correlated",): 3}
    assert not outcome.messages


def test_a_users_findings_are_bounded_in_number_and_bytes() -> None:
    run = Run(LIMITS._replace(findings=32, first=8))
    for number in range(200):
        text = "x" * 5_000
        run.take(finding(f"{number:03}", summary=text, event_time=T0 + number * MINUTE, detected_at=T0 + number))
    (state,) = [state for _, state in run.shard.items()]
    tracker = decode_tracker(state)
    kept = sorted(tracker.findings)
    assert kept == [f"{number:03}" for number in (*range(8), *range(176, 200))]
    assert tracker.dropped == 168
    assert len(run.published) == 1
    assert max(len(each.message()) for each in run.messages) < 100_000


def test_a_state_reads_back_and_tells_its_next_timer() -> None:
    run = Run()
    run.take(finding("a"))
    ((_, state),) = run.shard.items()
    assert is_tracker(state)
    tracker = decode_tracker(state)
    assert encode_tracker(tracker, LIMITS) == state
    assert int.from_bytes(state[1:9], "big") == next_due(tracker, LIMITS) == T0 + LIMITS.quiet
    assert next_due(IncidentTracker(), LIMITS) == 2**64 - 1


# Order of arrival


@st.composite
def states_of_findings(draw: st.DrawFn) -> list[Finding]:
    """Return states of a few findings, of each one or more revisions."""
    found = []
    for number in range(draw(st.integers(1, 7))):
        kind = draw(st.sampled_from(KINDS))
        session = draw(st.sampled_from(["", "s1", "s2", "s3"]))
        time = T0 + draw(st.integers(0, 40)) * 30 * MINUTE
        for revision in range(1, draw(st.integers(1, 3)) + 1):
            status = draw(st.sampled_from([Status.NEW, Status.UPDATED, Status.SUPPRESSED, Status.CLOSED]))
            severity = draw(st.sampled_from([Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL]))
            found.append(finding(
                f"f{number}", detection=kind, session_uid=session, event_time=time, revision=revision, status=status,
                severity=severity, detected_at=T0 + 20 * HOUR + draw(st.integers(0, 1_000)),
            ))  # fmt: skip
    return found


def in_batches(data: st.DataObject, records: list[Taken], shard: MemoryShard) -> list[BatchResult]:
    stage, outcomes = IncidentStage("incidents", LIMITS), []
    while records:
        size = data.draw(st.integers(1, len(records)))
        outcomes.append(stage.process(records[:size], shard))
        records = records[size:]
    return outcomes


def published(outcomes: list[BatchResult]) -> dict[str, Incident]:
    return {each.uid: each for outcome in outcomes for each in outcome.incidents}


def standing(shard: MemoryShard) -> dict[str, Any]:
    """Return what is to be told of the incidents there are."""
    state = shard.get(INCIDENT_PREFIX + KEY)
    records = decode_tracker(state).records if state else {}
    return {uid: record.material() for uid, record in records.items() if record.exists}


@settings(deadline=None)
@given(states_of_findings(), st.data())
def test_incidents_depend_neither_on_order_nor_on_batches(found: list[Finding], data: st.DataObject) -> None:
    one, other = MemoryShard(), MemoryShard()
    in_order = in_batches(data, taken(*found), one)
    shuffled = data.draw(st.permutations([*found, *data.draw(st.lists(st.sampled_from(found), max_size=5))]))
    out_of_order = in_batches(data, taken(*shuffled), other)
    assert standing(one) == standing(other)
    live = standing(one)
    for outcomes in (in_order, out_of_order):
        last = published(outcomes)
        # Whatever was published and is no more has been closed, and what is there was published.
        assert {uid for uid, each in last.items() if not each.is_resolved} == live.keys()
        assert all(each.merged_into in live for each in last.values() if each.resolution is Resolution.MERGED)
    first, second = published(in_order), published(out_of_order)
    assert {uid: first[uid].severity for uid in live} == {uid: second[uid].severity for uid in live}


@settings(deadline=None)
@given(states_of_findings(), st.data())
def test_a_batch_computed_again_publishes_no_state_twice(found: list[Finding], data: st.DataObject) -> None:
    """After a kill batches are cut otherwise: a receiver that skips revisions not above its last loses nothing."""
    shard = MemoryShard()
    outcomes = [*in_batches(data, taken(*found), MemoryShard()), *in_batches(data, taken(*found), shard)]
    seen: dict[str, Incident] = {}
    told: list[tuple[str, int]] = []
    for each in (each for outcome in outcomes for each in outcome.incidents):
        if each.uid not in seen or each.revision > seen[each.uid].revision:
            seen[each.uid] = each
            told.append((each.uid, each.revision))
    assert len(told) == len(set(told))
    materials = standing(shard)
    assert {uid for uid, each in seen.items() if not each.is_resolved} == materials.keys()
    assert all(seen[uid].severity == material[0] for uid, material in materials.items())


# The thief


NETWORKS = {
    "198.51.100.7": (Network("198.51.100.7", 4, "198.51.100.0/24", 64500, "Home ISP", "isp"),
                     Place("FR", "Paris", 48.85, 2.35, 10.0, "ip")),
    "203.0.113.66": (Network("203.0.113.66", 4, "203.0.113.0/24", 64666, "Far Networks", ""),
                     Place("NG", "Lagos", 6.45, 3.4, 10.0, "ip")),
}  # fmt: skip
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"


class KnownNetworks:
    """Enriches the addresses above as geo databases would; the one away is of a kind, "" for no ASN database."""

    def __init__(self, kind: str) -> None:
        self._others = build_enricher(None, None)
        self._kind = kind

    def enrich(self, ip: str, location: str | None, user_agent: str) -> Enrichment:
        network, place = NETWORKS[ip]
        network = msgspec.structs.replace(network, kind=network.kind or self._kind, asn=network.asn * bool(self._kind))
        return Enrichment(network, place, self._others.enrich(ip, location, user_agent).device)


def event(time: int, ip: str, agent: str, offset: int) -> Taken:
    # Before the day of the theft every day has a session of its own.
    uid, created = ("s1", T0) if time >= T0 else (f"s-{time}", time)
    value = orjson.dumps({"uid": uid, "user_id": "alice", "tenant_id": "acme", "user_agent": agent, "ip": ip,
                          "created_at": created, "last_used_at": time, "max_age_minutes": 600})  # fmt: skip
    return Taken(value, None, offset, "events", timestamp=time)


@pytest.mark.parametrize("thief", [FIREFOX, "python-requests/2.32.0", CHROME.replace("131", "119")])
@pytest.mark.parametrize("known_days", [0, 20])
@pytest.mark.parametrize("kind", ["hosting", "isp", ""])
def test_a_stolen_session_is_one_incident_that_names_the_thief(thief: str, known_days: int, kind: str) -> None:
    home, away = "198.51.100.7", "203.0.113.66"
    earlier = [(T0 - day * DAY, home, CHROME) for day in range(known_days, 0, -1)]
    day = [(T0 + minute * MINUTE, home, CHROME) for minute in range(0, 480, 20)]
    hour = [(T0 + minute * MINUTE, away, thief) for minute in range(485, 545, 5)]
    again = [(T0 + minute * MINUTE, home, CHROME) for minute in range(550, 700, 20)]
    events = [event(*each, number) for number, each in enumerate([*earlier, *day, *hour, *again])]
    engine = TenantRuleEngine(detections().values())
    pipeline = Pipeline(reader=KafkaReader(KnownNetworks(kind)), engine_for=lambda _tenant: engine, topics=TOPICS,
                        partition_of=lambda _key: 0, limits=Limits())  # fmt: skip
    shard, messages = MemoryShard(), []
    for each in events:
        outcome = pipeline.process(0, [each], shard)
        found = [Taken(each.value, each.key) for each in outcome.messages if each.topic == "findings"]
        if found:
            messages += pipeline.process(0, found, shard).incidents
    assert {each.uid for each in messages} == {incident_uid("acme", "alice", "s1")}
    tracker = decode_tracker(shard.get(INCIDENT_PREFIX + KEY) or b"")
    (record,) = tracker.records.values()
    last = report(tracker, record, about)
    assert last.severity >= Severity.HIGH
    _, _, rest = last.title.partition(" from ")
    before, _, after = rest.partition(" to ")
    assert home in before
    assert away in after
    sides = {each.ip: each.side for each in last.sightings}
    assert sides == {home: Side.USER, away: Side.INTRUDER}
    moments = {entry.after.ip: entry.text for entry in last.timeline if entry.after}
    (severity,) = {entry.severity for entry in last.timeline if entry.text == moments[away]}
    who = "The intruder" if severity >= Severity.CRITICAL else "Probably the intruder"
    assert moments[away].startswith(f"{who} (")
    assert moments[home].startswith("The user (")
    assert "before: " in moments[away]
    told = {entry.after.ip: entry.what for entry in last.timeline if entry.after}
    assert told[away].startswith(f"{who}: ")
    assert told[home] == "The user is back in the session"
