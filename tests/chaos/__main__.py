"""`python -m chaos`: every fault, and what it cost. Prints a table on stderr and one JSON object on stdout."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

from brokers import ApacheKafka

from chaos.compare import Everything, Verdict, compare, everything
from chaos.faults import FAULTS, LONG, NEEDS_KAFKA, SHORT, nothing
from chaos.world import PARTITIONS, Input, World, produce
from worker.embedded.broker import EmbeddedBroker
from worker.embedded.http import HttpEndpoint
from worker.stream.connection import KafkaSettings, aiokafka_options
from worker.stream.topics import TopicSpec, create

HEAD = ("fault", "events", "kills", "outages", "rows lost", "rows doubled", "rows changed", "findings lost",
        "findings changed", "dead letters", "recovery s")  # fmt: skip


def suffer(
    name: str, source: Input, broker: Any, endpoint: HttpEndpoint, directory: Path, seed: int, size: Any, pace: float
) -> tuple[Everything, dict[str, Any]]:
    """Run one fault to its end; return what came out, and what it took."""
    with World(f"{name}-{seed}", broker.bootstrap_servers, source, endpoint, directory) as world:
        world.proxy.pace = pace
        if pace:
            world.more = {"SESSIONWATCH_DELIVERY__MAX_ROWS": "500", "SESSIONWATCH_DELIVERY__MAX_INFLIGHT_ROWS": "1000",
                          "SESSIONWATCH_STREAM__MAX_BATCH_RECORDS": "200"}  # fmt: skip
        paced = dict(world.more)
        FAULTS.get(name, nothing)(world, Random(f"{seed}{name}"), size, broker)
        world.more = {**paced, **world.more}
        world.proxy.pace = 0.0
        took = world.finish()
        figures = {"kills": world.kills, "outages": sum(world.proxy.hit.values()), "recovery_s": round(took, 1)}
        return everything(world), figures


def main() -> int:
    """Run the faults asked for; fail when one of them changed anything."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broker", choices=["embedded", "kafka"], default="kafka")
    parser.add_argument("--short", action="store_true", help="Fewer kills and shorter outages.")
    parser.add_argument("--pace", type=float, default=0.1, help="Seconds an insert takes longer while faults happen.")
    parser.add_argument("--only", nargs="*", choices=list(FAULTS))
    parser.add_argument("--keep", type=Path, help="Keep logs and data there.")
    asked = parser.parse_args()
    size = SHORT if asked.short else LONG
    # What it says of groups that are no more, and of brokers that were killed, is no news here.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    results: dict[str, Any] = {}
    with ExitStack() as stack:
        directory = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.mkdir(parents=True, exist_ok=True)
        kafka = asked.broker == "kafka"
        broker: Any = stack.enter_context(
            ApacheKafka(directory / "kafka") if kafka else EmbeddedBroker(directory / "broker.log")
        )
        endpoint = stack.enter_context(HttpEndpoint(directory / "store", read_only=False))
        options = aiokafka_options(KafkaSettings(bootstrap_servers=broker.bootstrap_servers))
        asyncio.run(create(options, [TopicSpec("chaos.input", PARTITIONS, 1, {})]))
        source = asyncio.run(produce(options, "chaos.input", asked.events, asked.seed))
        _say(f"{source.records:,} records, {source.accepted:,} of them events, on {asked.broker}")
        reference, _ = suffer("undisturbed", source, broker, endpoint, directory, asked.seed, size, 0.0)
        _check(reference, source)
        _say(" | ".join(HEAD))
        for name in asked.only or FAULTS:
            if name in NEEDS_KAFKA and not kafka:
                continue
            began = time.monotonic()
            found, figures = suffer(name, source, broker, endpoint, directory, asked.seed, size, asked.pace)
            verdict = compare(reference, found)
            results[name] = {**verdict._asdict(), **figures, "seconds": round(time.monotonic() - began, 1)}
            _tell(name, source, verdict, figures)
    print(json.dumps({"events": source.accepted, "broker": asked.broker, "seed": asked.seed, "faults": results}))
    return int(any(any(result[name] for name in Verdict._fields[:6]) for result in results.values()))


def _check(reference: Everything, source: Input) -> None:
    events = len(reference.tables["session_events"])
    assert events == source.accepted, f"the undisturbed run has {events} of {source.accepted} events"
    assert len(reference.letters) == source.records - source.accepted
    assert reference.tables["findings"]
    assert {key[0] for key in reference.tables["findings"]} == reference.published


def _tell(name: str, source: Input, verdict: Verdict, figures: dict[str, Any]) -> None:
    shown = (name, f"{source.accepted:,}", figures["kills"], figures["outages"], verdict.rows_lost,
             verdict.rows_doubled, verdict.rows_changed, verdict.findings_lost, verdict.findings_changed,
             verdict.letters, figures["recovery_s"])  # fmt: skip
    _say(" | ".join(map(str, shown)))
    if verdict.example:
        _say(f"    {verdict.example}")


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
