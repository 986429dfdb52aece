"""What an event costs, against the textbook way to do the same: a ratio, which holds on any machine."""

from __future__ import annotations

from pathlib import Path

from bench.contestants import CONTESTANTS
from bench.measure import Run, cost
from bench.mixes import MIXES, Event, simulator
from bench.setting import Setting, store_of
from worker.embedded.broker import EmbeddedBroker

LEAST_RATIO = 2.0
"""More than four on a quiet machine (docs/benchmarks.md)."""
WARM, MEASURED = 1_000, 5_000


def test_an_event_costs_at_most_half_of_what_a_textbook_agent_takes(
    tmp_path: Path, embedded_broker: EmbeddedBroker
) -> None:
    simulated = simulator(MIXES["busy"], WARM + MEASURED).events()
    events = [Event(int(each.arrival_ms), each.key, each.value) for each in simulated]
    costs = {name: _cost(name, events, tmp_path, embedded_broker) for name in ("sessionwatch", "textbook")}
    assert costs["textbook"] / costs["sessionwatch"] >= LEAST_RATIO, costs


def _cost(name: str, events: list[Event], directory: Path, broker: EmbeddedBroker) -> float:
    where = directory / f"store-{name}"
    where.mkdir()
    with store_of("acknowledging", where) as store:
        setting = Setting(broker, directory, f"ratio-{name}", store.dsn)
        with setting.program(CONTESTANTS[name].command()) as process:
            return cost(Run(CONTESTANTS[name], setting, store, process), events[:WARM], events[WARM:])
