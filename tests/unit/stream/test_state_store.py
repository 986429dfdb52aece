"""Shards and their wheel of wake-ups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.stream.state_store import MemoryShard, RocksShard
from worker.stream.timers import MINUTE, NEVER, timer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAKES = st.one_of(st.integers(0, 10 * MINUTE), st.just(NEVER))
KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, WAKES),
        st.tuples(st.just("delete"), KEYS, st.just(0)),
        st.tuples(st.just("pass"), st.just(b""), st.integers(0, 3 * MINUTE)),
    ),
    max_size=60,
)


def state(wake: int, rest: bytes = b"") -> bytes:
    return bytes([1]) + wake.to_bytes(8, "big") + rest


@pytest.fixture(params=["memory", "rocks"])
def open_shard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    opened: list[Any] = []

    def make(**options: Any) -> Any:
        if request.param == "memory":
            return MemoryShard(**options)
        pytest.importorskip("rocksdict")
        opened.append(RocksShard(tmp_path / "shard", **options))
        return opened[-1]

    yield make
    for shard in opened:
        shard.close()


@settings(max_examples=300)
@given(STEPS)
def test_every_key_comes_up_when_it_is_due_and_only_then(steps: list[tuple[str, bytes, int]]) -> None:
    shard, model, now = MemoryShard(), dict[bytes, int](), 0
    for step, key, number in [*steps, ("pass", b"", 20 * MINUTE)]:
        if step == "put":
            shard.put(key, state(number))
            model[key] = number
        elif step == "delete":
            shard.put(key, None)
            model.pop(key, None)
        else:
            now += number
            due = shard.pop_due(now)
            assert sorted(due) == sorted(key for key, wake in model.items() if wake <= now)
            for woken in due:  # as a fire_timers does
                model[woken] = now + 90_000 if woken < b"c" else NEVER
                shard.put(woken, state(model[woken]))
    assert dict(shard.items()) == {key: state(wake) for key, wake in model.items()}
    assert len(shard) == len(model)


def test_what_was_handed_out_and_not_put_comes_again() -> None:
    shard = MemoryShard()
    shard.put(b"a", state(5))
    shard.put(b"b", state(6))
    assert shard.pop_due(10) == [b"a", b"b"]
    shard.put(b"a", state(NEVER))
    assert shard.pop_due(10) == [b"b"]
    shard.put(b"b", None)
    assert shard.pop_due(10**12) == []


def test_due_is_bounded_and_goes_on_where_it_stopped() -> None:
    shard = MemoryShard(max_due=3)
    for i in range(7):
        shard.put(b"%d" % i, state(i))
    seen = []
    while due := shard.pop_due(100):
        assert len(due) <= 3
        for key in due:
            shard.put(key, None)
        seen += due
    assert seen == [b"%d" % i for i in range(7)]


def test_a_clock_that_goes_back_loses_nothing() -> None:
    shard = MemoryShard()
    shard.put(b"a", state(10 * MINUTE))
    assert shard.pop_due(9 * MINUTE) == []
    shard.put(b"b", state(2 * MINUTE))
    assert shard.pop_due(MINUTE) == []
    assert shard.pop_due(2 * MINUTE) == [b"b"]


def test_restored_states_wake(open_shard: Callable[..., Any]) -> None:
    shard = open_shard()
    shard.restore([(b"a", state(5)), (b"b", state(6)), (b"a", None)], 17)
    shard.restore([(b"c", state(7)), (b"b", state(8))], 19)
    shard.restored()
    assert (len(shard), shard.offset) == (2, 19)
    assert sorted(shard.pop_due(7)) == [b"c"]
    assert dict(shard.items()) == {b"b": state(8), b"c": state(7)}


def test_cleared_is_empty(open_shard: Callable[..., Any]) -> None:
    shard = open_shard()
    shard.restore([(b"a", state(5))], 17)
    shard.restored()
    shard.put(b"b", state(6))
    shard.clear()
    assert (len(shard), shard.offset, dict(shard.items()), shard.pop_due(100)) == (0, None, {}, [])


def test_the_disk_stands_at_the_last_durable_point(tmp_path: Path) -> None:
    pytest.importorskip("rocksdict")
    shard = RocksShard(tmp_path / "0")
    old, new, newer = state(5, b"old"), state(6, b"new"), state(7, b"newer")
    shard.put(b"a", old)
    shard.put(b"gone", old)
    shard.persist({b"a": old, b"gone": old}, 3)
    shard.put(b"a", new)
    shard.put(b"gone", None)
    shard.put(b"a", newer)
    shard.persist({b"a": new, b"gone": None}, 5)
    shard.put(b"b", old)
    assert (shard.get(b"a"), shard.get(b"b"), shard.get(b"gone"), len(shard)) == (newer, old, None, 2)
    shard.close()  # as a crash: what was put and not persisted is gone
    again = RocksShard(tmp_path / "0")
    assert (dict(again.items()), again.offset, len(again)) == ({b"a": new}, 5, 1)
    assert again.pop_due(6) == [b"a"]
    again.close()


def test_wake_of_reads_the_header() -> None:
    assert timer_of(state(NEVER, b"x")) == NEVER
    assert timer_of(state(1)) == 1
