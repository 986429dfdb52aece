"""When nothing of before is still to come, of any partition and through all topics."""

from __future__ import annotations

from faust.types import TP

from worker.stream.watermark import MAX_NOTES, Progress, Watermark

INPUT, DERIVED = TP("events", 0), TP("starts", 3)


def at(**ends: tuple[int, int]) -> dict[TP, Progress]:
    """Return how far both partitions are: end and committed."""
    return {tp: Progress(0, *ends.get(name, (0, 0))) for name, tp in (("input", INPUT), ("derived", DERIVED))}


def test_what_records_bring_about_is_waited_for_as_well() -> None:
    mark = Watermark(2)
    assert mark.behind(500) == 0
    mark.look(1_000, at(input=(10, 0)))
    assert mark.behind(1_500) == 500
    mark.look(2_000, at(input=(20, 9)))
    assert mark.time == 0
    # What was there at the beginning is eaten, and what it brought about is not.
    mark.look(3_000, at(input=(30, 12), derived=(5, 0)))
    mark.look(4_000, at(input=(40, 29), derived=(5, 4)))
    assert mark.time == 0
    mark.look(5_000, at(input=(50, 30), derived=(9, 5)))
    assert mark.time == 1_000
    assert mark.behind(5_500) == 4_500
    # What was noted in the meantime goes its own way.
    mark.look(6_000, at(input=(50, 50), derived=(9, 9)))
    assert mark.time == 3_000
    mark.look(7_000, at(input=(50, 50), derived=(9, 9)))
    assert mark.time == 5_000


def test_while_nothing_moves_no_time_passes_and_nothing_piles_up() -> None:
    mark = Watermark(1)
    for second in range(1, 1_000):
        mark.look(second * 1_000, at(input=(second, 0)))
    assert mark.time == 0
    assert mark.behind(1_000_000) == 999_000
    mark.look(1_000_000, at(input=(1_000, 1_000)))
    assert mark.time == MAX_NOTES * 1_000
    mark.look(1_001_000, at(input=(1_000, 1_000)))
    assert mark.time == 1_000_000


def test_what_was_deleted_before_anybody_ate_it_is_not_waited_for() -> None:
    mark = Watermark(1)
    gone = {INPUT: Progress(begin=10, end=10, committed=0)}
    mark.look(1_000, gone)
    mark.look(2_000, gone)
    assert mark.time == 1_000


def test_a_clock_that_is_set_back_takes_nothing_back() -> None:
    mark = Watermark(1)
    for now in (9_000, 9_500, 2_000, 2_500, 3_000):
        mark.look(now, at())
    assert mark.time == 9_500
