"""A deterministic selection of what `make fuzz` does: no input breaks the way of an event, or keeps it busy."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.drive import SLOW_SECONDS, Driver
from tests.fuzz.mutate import mutated, seeds


@pytest.fixture(scope="module")
def known() -> list[bytes]:
    return seeds()


@pytest.fixture(scope="module")
def driver() -> Driver:
    return Driver()


def test_the_seeds_are_of_every_kind(known: list[bytes], driver: Driver) -> None:
    driver.take(known)
    assert driver.outcomes["accepted"] > len(known) * 0.9
    assert driver.outcomes["ignored"]


def test_mutated_records(known: list[bytes], driver: Driver) -> None:
    rng = Random(2)
    driver.take([mutated(rng, known) for _ in range(6_000)])
    assert driver.outcomes["accepted"] > 1_000
    rejects = {name for name in driver.outcomes if name.startswith("rejected")}
    assert len(rejects) >= 8
    assert driver.slowest[0] < SLOW_SECONDS, driver.slowest


@given(data=st.data())
@settings(max_examples=60, derandomize=True, deadline=None, database=None)
def test_mutations_that_hypothesis_chooses(known: list[bytes], driver: Driver, data: st.DataObject) -> None:
    rng = data.draw(st.randoms(use_true_random=False))
    driver.take([mutated(rng, known)])
