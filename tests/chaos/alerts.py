"""Faults of alert delivery: the real process, real servers on loopback, kills, and what must be true afterwards.

`python -m chaos --only alerts-all` runs 10,000 incidents; the tests run a short form.
"""

from __future__ import annotations

import json
import resource
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from random import Random
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from schemas.finding import Activity, Severity
from tests.support.receivers import AlertProcess, HttpReceiver, Received, incident, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from schemas.incident import Incident

SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RETRIES = [0.2, 0.5, 1, 1, 2, 2, *([3] * 26)]
"""Seconds between attempts: short, so that a run ends; more of them than any outage here takes."""
RATE = 60
"""States published a second: four destinations get 240 messages a second, a third of what one processor can do."""
PATIENCE = 600.0
P99_SECONDS = 2.0


class AlertSize(NamedTuple):
    """How much: incidents, kills, and the seconds a destination is away each time."""

    incidents: int
    kills: int
    away: float


SHORT, LONG = AlertSize(400, 2, 2.0), AlertSize(10_000, 3, 20.0)


class Findings(NamedTuple):
    """What a run came to.

    Attributes:
        missing: states that some destination never took. `reordered`: states that arrived after a later one of their
            incident. `repeated`: states taken more than once, by destination. `strange`: ids nobody sent.
        p50, p99: seconds from publication to arrival at the healthy destination, while the process was running.
        p99_all: the same with the time it was dead.
        attempts: requests that arrived at all destinations. `cpu_seconds`: processor time of the processes that sent
            them, starts included. `cpu_ms`: the same for an attempt, in milliseconds.
    """

    states: int
    missing: int
    reordered: int
    repeated: dict[str, int]
    strange: int
    p50: float
    p99: float
    p99_all: float
    attempts: int
    cpu_seconds: float
    cpu_ms: float
    seconds: float

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.reordered or self.strange) and self.p99 < P99_SECONDS


class Scene:
    """One process and its destinations."""

    def __init__(self, bootstrap: str, directory: Path, size: AlertSize, seed: int) -> None:
        self.size = size
        self.chance = Random(seed)
        self.stack = ExitStack()
        self.receivers = {name: HttpReceiver() for name in ("healthy", "flaky", "slow", "restarting")}
        self.down: list[tuple[float, float]] = []
        self.published: dict[str, float] = {}
        self._bootstrap, self._directory = bootstrap, directory

    def __enter__(self) -> Self:
        destinations: dict[str, Any] = {}
        for name, receiver in self.receivers.items():
            self.stack.enter_context(receiver)
            destinations[name] = {
                "kind": "webhook", "url": f"{receiver.url}/{name}", "secrets": [SIGNING], "allow_http": True,
                "allow_private": True, "timeout_s": 2, "concurrency": 16, "rate_per_s": 2000, "burst": 2000,
            }  # fmt: skip
        more = {
            "SESSIONWATCH_ALERTS__RETRY_DELAYS_S": json.dumps(RETRIES),
            "SESSIONWATCH_ALERTS__BREAKER_S": "0.5",
            "SESSIONWATCH_ALERTS__BREAKER_MAX_S": "2",
        }
        self.alerts = self.stack.enter_context(AlertProcess(self._bootstrap, self._directory, destinations, more))
        self.process = self.alerts.start()
        until(self.alerts.is_ready, "readiness")
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def kill(self) -> None:
        """Kill the process and start it again; note for how long it was away."""
        began = time.time()
        self.alerts.kill(self.process)
        self.process = self.alerts.start()
        until(self.alerts.is_ready, "readiness after a kill")
        backlog = len(self.published)
        until(lambda: len(_ids(self.receivers["healthy"])) >= backlog, "the backlog", PATIENCE)
        self.down.append((began - 1.0, time.time()))

    def publish(self, states: list[Incident]) -> None:
        """Publish states at a steady rate."""
        for start in range(0, len(states), RATE // 4):
            began, chunk = time.time(), states[start : start + RATE // 4]
            self.alerts.publish(chunk)
            sent = time.time()
            for each in chunk:
                self.published[f"{each.uid}-{each.revision}"] = sent
            time.sleep(max(0.25 - (time.time() - began), 0))


def states_of(size: AlertSize, chance: Random) -> list[Incident]:
    """Return one to three states for each incident, mixed, in order for each."""
    left = [(f"{number:032x}", revision) for number in range(size.incidents) for revision in _revisions(chance)]
    order = sorted(range(len(left)), key=lambda index: (index // 300, chance.random()))
    queues: dict[str, list[int]] = defaultdict(list)
    for uid, revision in left:
        queues[uid].append(revision)
    last = {uid: revisions[-1] for uid, revisions in queues.items()}
    made = []
    for uid in (left[index][0] for index in order):
        revision = queues[uid].pop(0)
        closes = revision == last[uid] and revision > 1
        activity = Activity.CREATE if revision == 1 else Activity.CLOSE if closes else Activity.UPDATE
        severity = Severity.CRITICAL if chance.random() < 0.05 else Severity.HIGH
        made.append(incident(uid, revision, activity=activity, severity=severity))
    return made


def _revisions(chance: Random) -> list[int]:
    return [1, 3, 4][: chance.randint(1, 3)]


def _flaky(chance: Random) -> Callable[[Received], Any]:
    return lambda _: chance.choices([204, 500, 503, 400, (429, {"Retry-After": "1"})], [70, 14, 10, 3, 3])[0]


def disturb(scene: Scene, what: Iterable[str], over: threading.Event) -> None:
    """Start what is to go wrong with the destinations; it ends with the event."""
    if "flaky" in what:
        scene.receivers["flaky"].behave = _flaky(Random(1))
    if "slow" in what:
        scene.receivers["slow"].delay = 0.5
    if "restarting" in what:
        threading.Thread(target=_restart, args=(scene, over), daemon=True).start()


def _restart(scene: Scene, over: threading.Event) -> None:
    receiver = scene.receivers["restarting"]
    while not over.wait(scene.size.away / 2):
        receiver.down()
        over.wait(scene.size.away)
        receiver.up()


def run(name: str, bootstrap: str, directory: Path, size: AlertSize, seed: int = 1) -> Findings:
    """Run one fault; return what it came to."""
    wrong = WRONG[name]
    began, used, over = time.monotonic(), _children_seconds(), threading.Event()
    with Scene(bootstrap, directory, size, seed) as scene:
        states = states_of(size, scene.chance)
        disturb(scene, wrong, over)
        with ThreadPoolExecutor(1) as pool:
            publishing = pool.submit(scene.publish, states)
            for number in range(size.kills if "kill" in wrong else 0):
                reached = len(states) * (number + 1) // (size.kills + 1)
                until(lambda reached=reached: len(scene.published) >= reached, "the next kill", PATIENCE)
                scene.kill()
            publishing.result()
        over.set()
        scene.receivers["slow"].delay = 0.02
        wanted = set(scene.published)
        for each, receiver in scene.receivers.items():
            until(lambda receiver=receiver: wanted <= _ids(receiver), f"all states at {each}", PATIENCE)
        assert scene.alerts.stop(scene.process) == 0
        return verdict(scene, time.monotonic() - began, _children_seconds() - used)


def _ids(receiver: HttpReceiver) -> set[str]:
    return {each.id for each in receiver.taken}


def _children_seconds() -> float:
    """Return the processor time of the processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def verdict(scene: Scene, seconds: float, cpu: float) -> Findings:
    """Return what a run came to."""
    attempts = sum(len(receiver.seen) for receiver in scene.receivers.values())
    wanted = set(scene.published)
    taken = {name: receiver.taken for name, receiver in scene.receivers.items()}
    ids = {name: [each.id for each in found] for name, found in taken.items()}
    waits = [(scene.published[each.id], each.at) for each in _first(taken["healthy"])]
    running = [at - sent for sent, at in waits if not any(begin <= sent <= end for begin, end in scene.down)]
    return Findings(
        states=len(wanted),
        missing=sum(len(wanted - set(found)) for found in ids.values()),
        reordered=sum(map(reordered, ids.values())),
        repeated={name: len(found) - len(set(found)) for name, found in ids.items()},
        strange=sum(len(set(found) - wanted) for found in ids.values()),
        p50=round(median(running), 3) if running else 0.0,
        p99=_p99(running),
        p99_all=_p99([at - sent for sent, at in waits]),
        attempts=attempts,
        cpu_seconds=round(cpu, 1),
        cpu_ms=round(1_000 * cpu / max(attempts, 1), 2),
        seconds=round(seconds, 1),
    )


def _first(found: list[Received]) -> list[Received]:
    return list({each.id: each for each in reversed(found)}.values())


def reordered(ids: list[str]) -> int:
    """Count the messages that arrived after a later state of their incident."""
    newest: dict[str, int] = {}
    wrong = 0
    for each in ids:
        uid, _, revision = each.rpartition("-")
        wrong += int(revision) < newest.get(uid, 0)
        newest[uid] = max(newest.get(uid, 0), int(revision))
    return wrong


def _p99(seconds: list[float]) -> float:
    return round(quantiles(seconds, n=100)[98], 3) if len(seconds) > 1 else 0.0


WRONG: dict[str, tuple[str, ...]] = {
    "alerts-flaky": ("flaky",),
    "alerts-slow": ("slow",),
    "alerts-restarting": ("restarting",),
    "alerts-kill": ("kill",),
    "alerts-all": ("flaky", "slow", "restarting", "kill"),
}
"""What goes wrong in each fault."""
