"""`make bench`: the worker and its peers, measured on the same machine, broker, store and events. Writes JSON.

Every round starts a fresh broker and preloads the same events; then one program after the other consumes them, in an
order that rotates from round to round. The file is written after each program, so that a run can be interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import ClickHouseError

from bench.contestants import BROKERS, CONTESTANTS
from bench.measure import Run, changelog, latency, restart, stored, throughput
from bench.mixes import MIXES, preload, read, recent, write
from bench.setting import STORES, EndedError, Setting, Store, say, store_of
from bench.summary import summary
from tests.support.brokers import ApacheKafka, missing
from worker.embedded.broker import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.mixes import Event
    from bench.setting import Broker

PARTS = ("throughput", "latency", "parts", "memory")
ELSEWHERE = ("sessionwatch", "textbook")
"""Programs that are measured without the cost of the store as well."""
FAILURES = (EndedError, KafkaError, ClickHouseError, OSError)
"""Of one program: the others are measured all the same."""
UNHURRIED = "broker.session.timeout.ms=9000\nbroker.heartbeat.interval.ms=2000\nlog.cleaner.backoff.ms=15000\n"
"""Apache Kafka's defaults, where the tests have shorter times."""
NO_STORE = Store("", "", ())


class Cell(NamedTuple):
    """What is the same for all programs that are compared."""

    broker: str
    mix: str
    store: str


CELLS = (
    Cell("apache", "busy", "embedded"),
    Cell("apache", "steady", "embedded"),
    Cell("embedded", "busy", "embedded"),
    Cell("embedded", "busy", "acknowledging"),
    Cell("embedded", "steady", "acknowledging"),
)


class Bench:
    """A whole run: what was asked for, the events, and what was found so far."""

    def __init__(self, asked: argparse.Namespace, directory: Path) -> None:
        self._asked = asked
        self._directory = directory
        self._until = time.monotonic() + asked.minutes * 60
        self._number = 0
        self.result: dict[str, Any] = {**_machine(), "events": asked.events, "runs": []}
        self._skipped = {name: why for name in asked.contestants if (why := CONTESTANTS[name].missing())}
        self.result["left_out"] = self._skipped

    def save(self) -> None:
        """Write what was found so far."""
        self.result["summary"] = summary(self.result["runs"])
        self._asked.json.write_text(json.dumps(self.result, indent=1) + "\n")

    def is_over(self) -> bool:
        """Tell whether the time is up."""
        return time.monotonic() > self._until

    def cells(self) -> list[Cell]:
        """Return the cells that were asked for."""
        asked = self._asked
        return [
            cell
            for cell in CELLS
            if cell.broker in asked.brokers and cell.mix in asked.mixes and cell.store in asked.stores
        ]

    def programs(self, cell: Cell, number: int) -> list[str]:
        """Return the programs to measure in a cell, in the order of a round."""
        names = [
            name
            for name in self._asked.contestants
            if name not in self._skipped
            # What inserts nothing is the same with any store; of what inserts, the store elsewhere is for two.
            and (cell.store == "embedded" or name in ELSEWHERE)
        ]
        turn = number % len(names) if names else 0
        return names[turn:] + names[:turn]

    def throughput(self, number: int) -> None:
        """Measure one round of all cells."""
        for cell in self.cells():
            if not self.is_over():
                self._round(cell, number)

    def _round(self, cell: Cell, number: int) -> None:
        names = self.programs(cell, number)
        if not names:
            return
        events = self.events(cell.mix)
        with self.broker(cell.broker) as broker:
            topics = Setting(broker, self._directory, self._name("input"))
            say(f"round {number + 1}, {'/'.join(cell)}: {len(events):,} events are produced")
            asyncio.run(preload(topics.options, topics.topic, events))
            for name in names:
                if not self.is_over():
                    self._one(cell, number, name, broker, topics.topic, events)

    def _one(self, cell: Cell, number: int, name: str, broker: Broker, topic: str, events: Sequence[Event]) -> None:
        found = {"what": "throughput", **cell._asdict(), "program": name, "round": number}
        contestant = CONTESTANTS[name]
        with self.store(name, cell.store) as store:
            command = contestant.command()
            try:
                setting = Setting(broker, self._directory, self._name(name), store.dsn, topic)
                started = time.perf_counter()
                with setting.program(command) as process:
                    run = Run(contestant, setting, store, process)
                    found |= throughput(run, len(events), self._asked.seconds, started)
                if number == 0 and cell.store == "embedded":
                    found |= self._after(cell, name, setting, store, events)
            except FAILURES as error:
                found["error"] = str(error)
        self._keep(found)

    def _after(self, cell: Cell, name: str, setting: Setting, store: Store, events: Sequence[Event]) -> dict[str, Any]:
        """Return what is looked at once: what is in the store, the changelog, and a second start."""
        contestant = CONTESTANTS[name]
        found: dict[str, Any] = stored(store) if contestant.store else {}
        if name == "floor":
            return found
        found |= asyncio.run(changelog(setting))
        recovery = setting.directory / "bytewax"
        if recovery.exists():
            found["recovery_files_bytes"] = sum(each.stat().st_size for each in recovery.iterdir())
        if cell.mix == "busy":
            found |= restart(contestant, setting, store, events[-1])
        return found

    def latency(self) -> None:
        """Measure latency on Apache Kafka, or on the embedded broker if that alone was asked for."""
        broker_name = "apache" if "apache" in self._asked.brokers else "embedded"
        cell = Cell(broker_name, "busy", "embedded")
        for number in range(self._asked.latency_rounds):
            for rate in self._asked.rates:
                for name in self.programs(cell, number):
                    if CONTESTANTS[name].finds and not self.is_over():
                        self._latency_unless_too_slow(cell, number, name, rate)

    def _latency_unless_too_slow(self, cell: Cell, number: int, name: str, rate: int) -> None:
        found = {"what": "latency", **cell._asdict(), "program": name, "round": number, "asked_rate": rate}
        speeds = [
            run["events_per_second"]
            for run in self.result["runs"]
            if run["program"] == name and run["mix"] == cell.mix and "events_per_second" in run
        ]
        if speeds and max(speeds) < rate:
            self._keep(found | {"error": f"its full speed is {max(speeds):,.0f} events/s"})
        else:
            self._keep(found | self._latency_of(cell, name, rate))

    def _latency_of(self, cell: Cell, name: str, rate: int) -> dict[str, Any]:
        contestant = CONTESTANTS[name]
        events = recent(MIXES[cell.mix], int(rate * self._asked.latency_seconds))
        with self.broker(cell.broker) as broker, self.store(name, cell.store) as store:
            try:
                setting = Setting(broker, self._directory, self._name(name), store.dsn)
                with setting.program(contestant.command()) as process:
                    return asyncio.run(latency(Run(contestant, setting, store, process), events, rate))
            except FAILURES as error:
                return {"error": str(error)}

    def _keep(self, found: dict[str, Any]) -> None:
        self.result["runs"].append(found)
        say(json.dumps(found))
        self.save()

    def _name(self, name: str) -> str:
        self._number += 1
        return f"b{self._number:03d}-{name}"

    def events(self, mix: str) -> list[Event]:
        """Return the events of a mix; they are simulated once."""
        path = self._directory / f"{mix}.events"
        if not path.exists():
            say(f"simulating {self._asked.events:,} events, {mix}")
            write(path, MIXES[mix], self._asked.events)
        return read(path)

    @contextmanager
    def broker(self, kind: str) -> Iterator[Broker]:
        """Run a broker."""
        directory = self._directory / self._name("broker")
        directory.mkdir()
        if kind == "embedded":
            with EmbeddedBroker(directory / "broker.log") as broker:
                yield broker
        else:
            with ApacheKafka(directory, UNHURRIED) as broker:
                yield broker

    @contextmanager
    def store(self, name: str, kind: str) -> Iterator[Store]:
        """Run a store, for those who use one."""
        if not CONTESTANTS[name].store:
            yield NO_STORE
            return
        directory = self._directory / self._name("store")
        directory.mkdir()
        with store_of(kind, directory) as store:
            yield store

    def module(self, key: str, *arguments: str) -> None:
        """Run a module that prints one JSON object, and keep that."""
        command = [sys.executable, "-m", f"bench.{key}", *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        self.result[key] = json.loads(done.stdout)
        self.save()


def _machine() -> dict[str, Any]:
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "cores": os.cpu_count(),
        "processor": model.partition(": ")[2],
        "python": platform.python_version(),
        "load_before": [round(each, 2) for each in os.getloadavg()],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="*", default=PARTS, help="parts to measure")
    parser.add_argument("--contestants", choices=CONTESTANTS, nargs="*", default=list(CONTESTANTS))
    parser.add_argument("--brokers", choices=BROKERS, nargs="*", default=BROKERS)
    parser.add_argument("--mixes", choices=MIXES, nargs="*", default=list(MIXES))
    parser.add_argument("--stores", choices=STORES, nargs="*", default=STORES)
    parser.add_argument("--events", type=int, default=80_000, help="events on the input topic")
    parser.add_argument("--memory-events", type=int, default=300_000, help="events for the memory a session takes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=25, help="longest a program is measured at full speed")
    parser.add_argument("--rates", type=int, nargs="*", default=[1_000, 5_000], help="events a second, for latency")
    parser.add_argument("--latency-seconds", type=float, default=12)
    parser.add_argument("--latency-rounds", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=25, help="no program is started after that")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where the result goes")
    return parser.parse_args()


def main() -> None:
    """Measure what was asked for."""
    asked = _arguments()
    if "apache" in asked.brokers and (reason := missing()):
        say(f"without Apache Kafka: {reason}")
        asked.brokers = ["embedded"]
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(asked, Path(scratch))
        try:
            measure(bench, asked)
        except KeyboardInterrupt:
            bench.result["interrupted"] = True
        bench.save()
    print(json.dumps(bench.result["summary"]))


def measure(bench: Bench, asked: argparse.Namespace) -> None:
    """Measure the parts that were asked for: one round of everything, then what takes the longest again."""
    if "parts" in asked.only:
        bench.module("parts", "--events", str(min(asked.events, 60_000)))
    if "memory" in asked.only:
        bench.module("memory", str(asked.memory_events), str(asked.memory_events // 10))
    for number in range(asked.rounds):
        if "throughput" in asked.only:
            bench.throughput(number)
        if "latency" in asked.only and not number:
            bench.latency()


if __name__ == "__main__":
    main()
