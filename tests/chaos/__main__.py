"""`python -m chaos`: every fault, and what it cost. Prints a table on stderr and one JSON object on stdout."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.chaos import alerts
from tests.chaos.compare import Everything, Verdict, compare, everything, flooded
from tests.chaos.faults import FAULTS, LONG, SHORT, SMALL, Fault, Size, nothing
from tests.chaos.feed import ALL, POISONS, Input, Sent, feed, start_of_day, traffic
from tests.chaos.world import World
from tests.support.brokers import ApacheKafka, KafkaCluster
from worker.embedded.broker import EmbeddedBroker
from worker.embedded.store import Address, EmbeddedStore
from worker.settings import KafkaSettings
from worker.stream.connection import aiokafka_options

HEAD = ("fault", "events", "kills", "outages", "rows lost", "rows doubled", "rows changed", "findings lost",
        "findings changed", "dead letters", "rollups", "recovery s", "stop s", "peak MiB")  # fmt: skip
COMPACTING = """
log.cleaner.min.cleanable.ratio=0.01
log.segment.bytes=16777216
log.roll.ms=5000
log.cleaner.min.compaction.lag.ms=0
"""
"""The changelog is compacted while it is written and read."""
MORE_MIB, MORE_PER_STATE = 300, 4_000
"""How much more memory than undisturbed a fault may take, and bytes for each state that a flood brings about."""
MIB = 1 << 20
LEAST_INCIDENTS = 20
"""Incidents of the undisturbed run: with fewer of them, a fault would not show what it does to incidents."""


class Setup(NamedTuple):
    """What all faults of a run share."""

    directory: Path
    endpoint: Address
    records: list[Sent]
    seed: int
    size: Size
    pace: float


class Trial:
    """One fault on one broker."""

    def __init__(self, name: str, fault: Fault, setup: Setup, broker: Any) -> None:
        self._name = name
        self._fault = fault
        self._setup = setup
        self._broker = broker

    def input(self, topic: str) -> Input:
        """Make the input on the broker."""
        poison = POISONS.get(self._fault.poison)
        if poison and poison.every in (1, ALL):
            poison = poison._replace(flood=poison.flood * self._setup.size.flood)
        options = aiokafka_options(KafkaSettings(bootstrap_servers=self._broker.bootstrap_servers))
        return feed(options, topic, self._setup.records, poison)

    def run(self, source: Input) -> tuple[Everything, dict[str, Any]]:
        """Run the fault to its end; return what came out, and what it took."""
        setup, broker = self._setup, self._broker
        replication = 3 if self._fault.broker == "cluster" else 1
        with World(f"{self._name}-{setup.seed}", broker.bootstrap_servers, source, setup.endpoint, setup.directory,
                   replication=replication) as world:  # fmt: skip
            if self._fault.lasts and setup.pace:
                world.proxy.pace = setup.pace
                world.more = dict(SMALL)
            self._fault.run(world, Random(f"{setup.seed}{self._name}"), setup.size, broker)
            world.proxy.pace = 0.0
            took = world.finish()
            # When all is eaten before the fault is over, its last part had no effect: --pace makes it last.
            idle = self._fault.lasts and world.idle
            if source.flood:
                flooded(world, self._fault.poison)
            figures = {"kills": world.kills, "outages": sum(world.proxy.hit.values()), "recovery_s": round(took, 1),
                       "stop_s": round(world.longest_stop, 1), "peak_mib": world.peak // MIB, "idle": idle}  # fmt: skip
            return everything(world), figures


def main() -> int:
    """Run the faults asked for; fail when one of them changed anything."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=start_of_day(), help="Event time of the first, milliseconds.")
    parser.add_argument("--broker", choices=["embedded", "kafka"], default="kafka")
    parser.add_argument("--short", action="store_true", help="Fewer kills and shorter outages.")
    parser.add_argument("--pace", type=float, help="Seconds an insert takes longer while faults happen.")
    parser.add_argument("--only", nargs="*", choices=[*FAULTS, *alerts.WRONG])
    parser.add_argument("--keep", type=Path, help="Keep logs and data there.")
    asked = parser.parse_args()
    # What it says of groups that are no more, and of brokers that were killed, is no news here.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        directory = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.mkdir(parents=True, exist_ok=True)
        names = asked.only or [*FAULTS, "alerts-all"]
        size = SHORT if asked.short else LONG
        pace = size.pace if asked.pace is None else asked.pace
        needs_input = any(name in FAULTS for name in names)
        records = list(traffic(asked.events, asked.seed, asked.start)) if needs_input else []
        endpoint = stack.enter_context(EmbeddedStore(directory / "store")).address
        setup = Setup(directory, endpoint, records, asked.seed, size, pace)
        broker = _broker(setup.directory, asked.broker, stack)
        results = _suite(setup, broker, [name for name in names if name in FAULTS], asked.broker)
        results |= _alerts(setup, broker, [name for name in names if name in alerts.WRONG], short=asked.short)
    say = {"broker": asked.broker, "seed": asked.seed, "start": asked.start, "faults": results}
    print(json.dumps({"events": sum(sent.is_event for sent in records), **say}))
    return int(any(not result["clean"] for result in results.values()))


def _broker(directory: Path, kind: str, stack: ExitStack) -> Any:
    return stack.enter_context(
        ApacheKafka(directory / "kafka", COMPACTING) if kind == "kafka" else EmbeddedBroker(directory / "broker.log")
    )


def _alerts(setup: Setup, broker: Any, names: list[str], *, short: bool) -> dict[str, Any]:
    """Run the faults of alert delivery; return what each came to."""
    results = {}
    for name in names:
        size = alerts.SHORT if short else alerts.LONG
        found = alerts.run(name, broker.bootstrap_servers, setup.directory, size, setup.seed)
        results[name] = {"clean": found.is_clean, **found._asdict()}
        _say(f"{name} | {found}")
    return results


def _suite(setup: Setup, broker: Any, names: list[str], kind: str) -> dict[str, Any]:
    """Run the undisturbed worker and then the faults; return what is told of each."""
    if not names:
        return {}
    quiet = Trial("undisturbed", Fault(nothing, lasts=False), setup, broker)
    source = quiet.input("chaos.input")
    _say(f"{source.records:,} records, {source.accepted:,} of them events, on {kind}")
    reference, figures = quiet.run(source)
    _check(reference, source)
    states = Counter(dict(row)["resolution"] for row in reference.tables["incidents"].values())
    _say(f"{len(reference.tables['incidents'])} incidents, resolved as {dict(states)}")
    _say(" | ".join(HEAD))
    results = {}
    for name in names:
        fault = FAULTS[name]
        if not fault.broker or kind == "kafka":
            results[name] = _try(name, setup, broker, source, (reference, figures["peak_mib"]))
    return results


def _try(name: str, setup: Setup, broker: Any, source: Input, reference: tuple[Everything, int]) -> dict[str, Any]:
    """Run one fault; return what is told of it, also when it fails in another way than by a difference."""
    began, fault = time.monotonic(), FAULTS[name]
    try:
        with ExitStack() as stack:
            if fault.broker == "cluster":
                broker = stack.enter_context(KafkaCluster(setup.directory / "cluster", COMPACTING))
            trial = Trial(name, fault, setup, broker)
            own = fault.poison or fault.broker == "cluster"
            source = trial.input(f"chaos.{name}") if own else source
            found, figures = trial.run(source)
    except Exception as error:  # noqa: BLE001  the other faults are of interest, too
        _say(f"{name} | failed: {error}")
        traceback.print_exc()
        return {"clean": False, "failed": str(error)}
    verdict = compare(reference[0], found, fault.but)
    allowed = reference[1] + MORE_MIB + _states(fault, source) * MORE_PER_STATE // MIB
    _tell(name, source, verdict, figures, allowed)
    clean = verdict.is_clean and figures["peak_mib"] <= allowed
    seconds = round(time.monotonic() - began, 1)
    return {"clean": clean, **verdict._asdict(), **figures, "seconds": seconds}


def _states(fault: Fault, source: Input) -> int:
    """Return how many states a flood may bring about: of its users, and of their sessions' uids."""
    return 2 * source.floods if fault.poison in ("tenants", "limit") else 0


def _check(reference: Everything, source: Input) -> None:
    events = len(reference.tables["session_events"])
    assert events == source.accepted, f"the undisturbed run has {events} of {source.accepted} events"
    assert len(reference.letters) == source.records - source.accepted
    assert reference.tables["findings"]
    assert len(reference.tables["incidents"]) >= LEAST_INCIDENTS, f"{len(reference.tables['incidents'])} incidents"
    assert not reference.rollups
    assert {key[0] for key in reference.tables["findings"]} == reference.published


def _tell(name: str, source: Input, verdict: Verdict, figures: dict[str, Any], allowed: int) -> None:
    shown = (name, f"{source.accepted:,}", figures["kills"], figures["outages"], verdict.rows_lost,
             verdict.rows_doubled, verdict.rows_changed, verdict.findings_lost, verdict.findings_changed,
             verdict.letters, verdict.rollups,
             figures["recovery_s"], figures["stop_s"], figures["peak_mib"])  # fmt: skip
    _say(" | ".join(map(str, shown)))
    if figures["idle"]:
        _say("    the input was eaten before the fault was over: --pace makes it last")
    if verdict.example:
        _say(f"    {verdict.example}")
    if figures["peak_mib"] > allowed:
        _say(f"    more memory than the {allowed} MiB allowed")


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
