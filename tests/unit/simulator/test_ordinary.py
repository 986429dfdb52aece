from __future__ import annotations

import ast
import hashlib
import json
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from schemas.decoding import decode
from schemas.event import EventKind, SessionEvent
from worker.simulator import SimEvent
from worker.simulator.config import DAY, HOUR
from worker.simulator.geo import internet
from worker.simulator.ordinary import OrdinaryConfig, OrdinaryLives, thefts
from worker.simulator.ordinary.personas import CALL_CENTRE, PERSONAS
from worker.simulator.ordinary.population import build_people
from worker.simulator.ordinary.traits import TRAITS

SMALL = OrdinaryConfig(people=60, days=42, thefts_per_kind=1)


@cache
def run() -> tuple[list[SimEvent], dict[str, Any], list[SessionEvent]]:
    lives = OrdinaryLives(SMALL)
    events = list(lives.events())
    return events, lives.labels(), [decoded(event) for event in events]


def decoded(event: SimEvent) -> SessionEvent:
    found = decode(event.value, record_time=event.arrival_ms)
    assert isinstance(found, SessionEvent), (found, event.value)
    return found


def digest(config: OrdinaryConfig) -> str:
    lives, sha = OrdinaryLives(config), hashlib.sha256()
    for event in lives.events():
        sha.update(b"%d|%s|%s\n" % (event.arrival_ms, event.key, event.value))
    sha.update(json.dumps(lives.labels(), sort_keys=True).encode())
    return sha.hexdigest()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = (OrdinaryConfig(seed=seed, people=20, days=28, thefts_per_kind=1) for seed in (3, 3, 4))
    assert digest(first) == digest(again) != digest(other)


def test_a_run_cannot_be_repeated_in_place() -> None:
    lives = OrdinaryLives(OrdinaryConfig(people=5, days=28))
    lives.events()
    with pytest.raises(RuntimeError):
        lives.events()


def test_records_arrive_in_order_within_the_allowed_lateness_but_for_a_snapshot() -> None:
    events, _, sessions = run()
    arrivals = [event.arrival_ms for event in events]
    assert arrivals == sorted(arrivals)
    late = {
        session.tenant_id
        for event, session in zip(events, sessions, strict=True)
        if event.arrival_ms - session.event_time > 2 * HOUR
    }
    assert late == {"shop"}, "a snapshot of that tenant's table repeats rows of days ago"
    assert {session.kind for session in sessions} == set(EventKind)


def test_every_persona_and_trait_has_somebody() -> None:
    people = build_people(OrdinaryConfig(), internet())
    personas = Counter(person.persona.name for person in people)
    assert set(personas) == {persona.name for persona in (*PERSONAS, CALL_CENTRE)}
    assert min(personas.values()) >= 2
    traits = Counter(trait for person in people for trait in person.traits)
    assert set(traits) == {trait.name for trait in TRAITS}
    assert min(traits.values()) >= 2


def test_labels_count_what_was_sent() -> None:
    _, labels, sessions = run()
    stolen = {(theft["tenant_id"], theft["session_uid"]) for theft in labels["attacks"]}
    sent = {(session.tenant_id, session.session_uid) for session in sessions}
    assert stolen <= sent
    assert labels["sessions"] == len(sent)
    assert {(user["tenant_id"], user["user_id"]) for user in labels["users"] if user["days"]} == {
        (session.tenant_id, session.user_id) for session in sessions
    }
    assert max(user["days"] for user in labels["users"]) <= SMALL.days + 1


def test_every_kind_of_theft_takes_place_on_a_user_of_its_own() -> None:
    _, labels, _ = run()
    assert Counter(theft["attack"] for theft in labels["attacks"]) == {kind.name: 1 for kind in thefts.KINDS}
    assert len({theft["user_id"] for theft in labels["attacks"]}) == len(labels["attacks"])
    for theft in labels["attacks"]:
        assert SMALL.start_ms + 20 * DAY < theft["since"] <= theft["until"] < labels["end_ms"]


def test_a_call_centre_opens_behind_one_address() -> None:
    agents = [session for session in run()[2] if session.user_id.startswith("call-centre-")]
    assert len({agent.user_id for agent in agents}) == SMALL.people // 4
    assert len({agent.ip for agent in agents}) == 1
    assert min(agent.event_time for agent in agents) > SMALL.share(0.6)


def test_an_administrator_changes_the_lifetime_of_open_sessions() -> None:
    lifetimes = defaultdict(set)
    for session in run()[2]:
        if session.tenant_id == "office":
            lifetimes[session.session_uid].add(session.max_age_minutes)
    assert any(len(found) > 1 for found in lifetimes.values())


def test_the_simulator_knows_no_detection() -> None:
    """Labels would follow the rules otherwise, and the figures would say nothing."""
    for path in (Path(thefts.__file__).parent).glob("*.py"):
        imported = {
            node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
        }
        assert not {name for name in imported if name.startswith("worker.") and not name.startswith("worker.simulator")}
