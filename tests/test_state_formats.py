"""States written by earlier versions: `tests/states/user-<format>.bin` is what a version wrote, and is never changed.

`python tests/test_state_formats.py` writes the one of the newest format, once it is new.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from schemas.event import EventKind
from worker.detections.catalogue import CatalogueJudge, detections
from worker.detections.testing import COMMON_DEVICES, COMMON_NETWORKS, START, make_event, network_of
from worker.enrich.model import Device
from worker.pipeline import Pipeline, Wire
from worker.sessions import state as module
from worker.sessions.limits import HOUR, MINUTE, Limits
from worker.sessions.state import FORMAT, READERS, UnknownFormatError, User, decode_user, encode_user, new_user
from worker.sessions.user import apply, wake_time
from worker.stream.store import MemoryShard

STATES = Path(__file__).with_name("states")
LIMITS = Limits()
JUDGE = CatalogueJudge(detections().values())
LIFE = [
    (0, "s1", "home", "laptop", EventKind.REFRESHED),
    (10, "s1", "home", "laptop", EventKind.REFRESHED),
    (20, "s2", "office", "phone", EventKind.REFRESHED),
    (25, "s1", "tokyo", "curl", EventKind.REFRESHED),
    (15, "s1", "home", "laptop", EventKind.CHANGED),
    (30, "s2", "office", "phone", EventKind.DELETED),
]


def live(user: User, minute: int, uid: str, network: str, device: str, kind: EventKind) -> Any:
    seen = (*network_of(COMMON_NETWORKS, network), Device(*COMMON_DEVICES[device]))
    made = make_event(START + minute * MINUTE, uid, seen[0].ip, kind, {"created": "0m", "max_age": 60})
    user.offsets[2] = user.offsets.get(2, 40) + 1
    return apply(user, made, seen, JUDGE, LIMITS)


def written() -> bytes:
    user = new_user("acme", "u/1")
    for step in LIFE:
        live(user, *step)
    return encode_user(user, wake_time(user, LIMITS))


def stored(version: int) -> bytes:
    return (STATES / f"user-{version}.bin").read_bytes()


@pytest.mark.parametrize("version", sorted(READERS))
def test_what_an_earlier_version_wrote_is_read(version: int) -> None:
    state = stored(version)
    assert state[0] == version
    user = decode_user(state)
    assert (user.tenant_id, user.user_id, user.applied, user.offsets) == ("acme", "u/1", len(LIFE), {2: 46})
    sessions = user.head.sessions
    assert {uid: (session.events, session.ended - START) for uid, session in sessions.items()} == {
        "s1": (4, -START),
        "s2": (2, 30 * MINUTE),
    }
    assert [each.time - START for each in user.observations()] == [
        minute * MINUTE for minute in sorted(minute for minute, *_ in LIFE)
    ]
    assert {group.detection for group in user.head.groups.values()} >= {"location-change", "device-change"}


@pytest.mark.parametrize("version", sorted(READERS))
def test_it_lives_on_in_the_newest_format(version: int) -> None:
    user = decode_user(stored(version))
    # Late, so that everything is folded anew, and then on time.
    assert not live(user, 22, "s1", "home", "laptop", EventKind.REFRESHED).late
    assert live(user, 40, "s2", "office", "phone", EventKind.REFRESHED).changes, "use after revocation was not seen"
    again = decode_user(encode_user(user, 5))
    assert encode_user(again, 5)[0] == FORMAT
    assert msgspec.to_builtins(again.head.sessions) == msgspec.to_builtins(user.head.sessions)


def test_every_format_this_version_reads_has_its_fixture() -> None:
    assert FORMAT in READERS
    assert {path.name for path in STATES.iterdir()} == {f"user-{version}.bin" for version in READERS}


def test_a_state_of_a_newer_version_is_neither_swept_away_nor_taken_for_none() -> None:
    topics = SimpleNamespace(events="e", by_user="b", starts="s", dlq="d", findings="f", incidents="i", feedback="v")
    pipeline = Pipeline(
        source=Wire(SimpleNamespace(enrich=None)),  # type: ignore[arg-type]  it is not come to
        judge=lambda _tenant: JUDGE, topics=topics, partition_of=lambda _key: 0, limits=LIMITS,
    )  # fmt: skip
    shard, state = MemoryShard(), bytes((FORMAT + 1,)) + START.to_bytes(8, "big") + b"?"
    shard.put(b"acme/u", state)
    with pytest.raises(UnknownFormatError, match=f"format {FORMAT + 1}"):
        pipeline.sweep(0, START + HOUR, shard)
    assert shard.get(b"acme/u") == state


def test_kinds_of_states_are_told_apart_by_their_formats() -> None:
    from worker.sessions import budget, cross  # noqa: PLC0415  for this alone

    assert not {budget.FORMAT, cross.FORMAT} & set(READERS)
    assert budget.FORMAT != cross.FORMAT
    assert module.is_user(written())


if __name__ == "__main__":
    STATES.mkdir(exist_ok=True)
    path = STATES / f"user-{FORMAT}.bin"
    if path.exists():
        sys.exit(f"{path} is there, and what a version wrote does not change: raise FORMAT first")
    path.write_bytes(written())
