"""The programs that are compared: how each is started, and how its progress is read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.peers.library import Counts, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.setting import Setting

STREAMS = Path(__file__).parent / "peers" / "kafka-streams"
ACCEPTED = "sessionwatch_events_accepted_total"
ROWS = 'sessionwatch_rows_out_total{table="session_events"}'
BROKERS = ("embedded", "apache")


class Contestant(NamedTuple):
    """A program that is measured.

    Attributes:
        title: name on the page.
        command: returns the command that starts it.
        counts: returns how much it has processed so far.
        missing: returns why it cannot run here; empty when it can.
        store: whether it inserts rows.
        finds: whether it sends findings, so that its latency can be measured.
        poll_seconds: interval at which its progress is read; each reading costs the worker time.
        state: directory of its local state below its own directory; a new machine would not have it.
    """

    title: str
    command: Callable[[], list[str]]
    counts: Callable[[Setting], Counts]
    missing: Callable[[], str]
    store: bool = True
    finds: bool = True
    poll_seconds: float = 0.01
    state: str = ""


def _module(name: str, *arguments: str) -> Callable[[], list[str]]:
    return lambda: [sys.executable, "-m", name, *arguments]


def _needs(*modules: str) -> Callable[[], str]:
    def missing() -> str:
        absent = [module for module in modules if find_spec(module) is None]
        return f"not installed: {', '.join(absent)}" if absent else ""

    return missing


def _needs_java() -> str:
    absent = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def _of_worker(setting: Setting) -> Counts:
    processed, durable = setting.metrics(ACCEPTED, ROWS)
    return Counts(int(processed), int(durable))


def _of_peer(setting: Setting) -> Counts:
    return counted(setting.progress)


def _streams() -> list[str]:
    """Build the Java program if it is not built yet; return the command that starts it."""
    target = STREAMS / "target"
    sources = [STREAMS / "pom.xml", *STREAMS.rglob("*.java")]
    built = target / "built"
    if not built.exists() or any(source.stat().st_mtime > built.stat().st_mtime for source in sources):
        goals = ["compile", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        subprocess.run(["mvn", "-q", "-B", "-f", str(STREAMS / "pom.xml"), *goals], check=True)  # noqa: S607
        built.touch()
    classpath = f"{target / 'classes'}:{target / 'dependency'}/*"
    return ["java", "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classpath, "bench.Sessions"]


CONTESTANTS: Mapping[str, Contestant] = {
    "sessionwatch": Contestant(
        "sessionwatch", _module("worker.cli", "worker"), _of_worker, lambda: "", poll_seconds=0.2
    ),
    "textbook": Contestant("textbook Faust", _module("bench.peers.textbook"), _of_peer, lambda: ""),
    "quix": Contestant(
        "Quix Streams", _module("bench.peers.quix"), _of_peer, _needs("quixstreams"), state="quix"
    ),
    "bytewax": Contestant(
        "bytewax", _module("bench.peers.bytewax_flow"), _of_peer, _needs("bytewax", "confluent_kafka")
    ),
    "kafka-streams": Contestant(
        "Kafka Streams (eight rules, no store)",
        _streams,
        _of_peer,
        _needs_java,
        store=False,
        state="streams",
    ),
    "floor": Contestant(
        "floor: consume and parse", _module("bench.peers.floor"), _of_peer, _needs("confluent_kafka"), store=False,
        finds=False,
    ),
}  # fmt: skip
