"""The page of the comparison says what the last result says, and medians are medians."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.costs import USERS, Measured, million
from bench.measure import _row_delays
from bench.mixes import MIXES, Sent, read, simulator, write
from bench.peers.library import Counts, OneState, Progress, counted
from bench.picture import bars
from bench.report import DATA, IMAGES, PAGE, filled, pictures
from bench.summary import summary


def test_the_page_and_its_pictures_are_those_of_the_result() -> None:
    result = json.loads(DATA.read_text())
    assert filled(PAGE.read_text(), result) == PAGE.read_text()
    for name, picture in pictures(result).items():
        assert (IMAGES / name).read_text() == picture


def test_summary_takes_medians_of_each_cell_and_leaves_failures_out() -> None:
    cell = {"what": "throughput", "broker": "apache", "mix": "busy", "store": "embedded", "program": "quix"}
    runs = [
        {**cell, "round": number, "events_per_second": speed, "us_per_event": {"program": speed / 10}}
        for number, speed in enumerate((10, 50, 30))
    ]
    (found,) = summary([*runs, {**cell, "round": 3, "error": "ended with 1"}])
    assert (found["runs"], found["events_per_second"], found["us_per_event"]) == (3, 30, {"program": 3})
    (failed,) = summary([{**cell, "error": "ended with 1"}])
    assert (failed["runs"], failed["error"]) == (0, "ended with 1")


def test_bars_are_well_formed_and_as_long_as_their_values() -> None:
    picture = ET.fromstring(bars("a < b", "events", {"one": [1, 3], "two": [2, 0]}, ("x", "y")))  # noqa: S314
    bar = [float(each.attrib["width"]) for each in picture if each.attrib.get("height") == "18"]
    assert bar[1] == pytest.approx(3 * bar[0], rel=0.01)
    assert bar[2] == pytest.approx(2 * bar[0], rel=0.01)


def test_a_row_is_seen_at_the_first_look_that_shows_its_offset() -> None:
    sent = [Sent(0, 0, 100), Sent(0, 1, 100), Sent(1, 0, 150)]
    seen = [(120.0, {}), (200.0, {0: 0}), (300.0, {0: 1, 1: 0})]
    assert sorted(_row_delays(sent, seen)) == [100, 150, 200]


def test_events_of_a_file_are_those_that_were_written(tmp_path: Path) -> None:
    write(tmp_path / "events", MIXES["busy"], 300)
    simulated = [(int(each.arrival_ms), each.key, each.value) for each in simulator(MIXES["busy"], 300).events()]
    assert read(tmp_path / "events") == simulated


def test_progress_is_read_while_it_is_written(tmp_path: Path) -> None:
    assert counted(tmp_path / "progress") == Counts(0, 0)
    progress = Progress(str(tmp_path / "progress"))
    progress.add(3)
    progress.set_durable(2)
    assert counted(tmp_path / "progress") == Counts(3, 2)


def test_one_state_holds_the_state_of_its_user_alone() -> None:
    shard = OneState(b"acme/u1", None)
    shard.put(b"acme/u2", b"other")
    assert (shard.get(b"acme/u2"), len(shard)) == (None, 0)
    shard.put(b"acme/u1", b"state")
    assert (shard.get(b"acme/u1"), len(shard)) == (b"state", 1)


def test_costs_follow_from_the_figures() -> None:
    one = Measured(10_000, 90, 30, 10, 10, 1300, 1000, 100)
    found = {what: amount for what, amount, _ in million(one)}
    assert found["workers"] == "1"  # 4,167 of 5,400: 60% of nine tenths of the speed
    assert found["cores of workers, at most"] == "0.42"
    assert found["memory for state"] == f"{USERS * 1300 / 1e9:.1f} GB"
    slow = {what: amount for what, amount, _ in million(one._replace(events_per_second=1_000))}
    assert (slow["workers"], slow["parts a second"]) == ("8", "56")
