"""The faults: each starts workers in a world, does its worst to them, and leaves it to them to finish."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from chaos.proxy import FAULTS as STORE_FAULTS
from worker.stream.app import AFTER_COMMIT
from worker.stream.delivery import AFTER_CHANGELOG, AFTER_INSERT, BEFORE_INSERT

if TYPE_CHECKING:
    from random import Random

    from chaos.world import World

WORKERS = 2


class Size(NamedTuple):
    """How long each fault goes on.

    Attributes:
        kills: of workers. `aimed`: at each step of the delivery. `changes`: of the number of workers.
        outage: seconds the store or the broker is away.
    """

    kills: int
    aimed: int
    changes: int
    outage: float


SHORT, LONG = Size(4, 1, 4, 8), Size(30, 3, 20, 60)
Fault = "Callable[[World, Random, Size, Any], None]"


def nothing(world: World, chance: Random, size: Size, broker: Any) -> None:
    """Let one worker eat undisturbed."""
    world.start()


def kill(world: World, chance: Random, size: Size, broker: Any) -> None:
    """`kill -9` at random instants, of whichever worker."""
    for _ in range(WORKERS):
        world.start()
    world.until_ready(world.workers[0])
    while world.kills < size.kills and not world.done():
        time.sleep(chance.uniform(0.2, 6))
        world.kill(chance.choice(world.workers))
        world.start()


def aimed(world: World, chance: Random, size: Size, broker: Any) -> None:
    """An end at each step of the delivery: before an insert, after it, after the changelog, after the commit."""
    for _ in range(size.aimed):
        for step in (BEFORE_INSERT, AFTER_INSERT, AFTER_CHANGELOG, AFTER_COMMIT):
            worker = world.start(step, chance.randint(1, 5))
            world.until(lambda one=worker: one.poll() is not None or world.done(), f"the end {step}")  # type: ignore[misc]
            if worker.poll() is not None:
                assert worker.returncode == 77, f"a worker ended with {worker.returncode}"
                world.workers.remove(worker)
                world.kills += 1
    world.start()


def rebalance(world: World, chance: Random, size: Size, broker: Any) -> None:
    """Workers join and leave."""
    world.start()
    for _ in range(size.changes):
        if len(world.workers) < WORKERS + 1 and (len(world.workers) < 2 or chance.random() < 0.5):
            world.until_ready(world.start())
        else:
            world.stop(chance.choice(world.workers))
        time.sleep(chance.uniform(0.5, 3))


def zombie(world: World, chance: Random, size: Size, broker: Any) -> None:
    """A worker is frozen for longer than its session lasts, loses its partitions, and wakes."""
    for _ in range(WORKERS):
        world.until_ready(world.start())
    for _ in range(max(1, size.kills // 10)):
        frozen = chance.choice(world.workers)
        frozen.send_signal(signal.SIGSTOP)
        time.sleep(12)
        frozen.send_signal(signal.SIGCONT)
        time.sleep(chance.uniform(1, 4))


def broker_restart(world: World, chance: Random, size: Size, broker: Any) -> None:
    """The broker is killed and comes back."""
    for _ in range(WORKERS):
        world.until_ready(world.start())
    for _ in range(max(1, size.kills // 10)):
        time.sleep(chance.uniform(1, 4))
        broker.kill()
        time.sleep(min(size.outage, 20))
        broker.start()


def rocksdb(world: World, chance: Random, size: Size, broker: Any) -> None:
    """State on disk: killed, and started again on what lies there, and on nothing."""
    world.more = {"SESSIONWATCH_STATE__STORE": "rocksdb", "SESSIONWATCH_DATA_DIR": str(world.directory / "kept")}
    for _ in range(max(2, size.kills // 4)):
        worker = world.start()
        world.until_ready(worker)
        time.sleep(chance.uniform(0.5, 4))
        world.kill(worker)
    world.more["SESSIONWATCH_DATA_DIR"] = str(world.directory / "other")
    world.start()


def store(fault: str) -> Any:
    """Return what has the store do something to inserts for a while."""

    def fail(world: World, chance: Random, size: Size, broker: Any) -> None:
        worker = world.start()
        world.until_ready(worker)
        time.sleep(chance.uniform(0.5, 2))
        before = worker.pid
        world.proxy.fault = fault
        time.sleep(size.outage)
        world.proxy.fault = ""
        assert world.proxy.hit[fault], "the fault came too late"
        assert worker.poll() is None, f"worker {before} did not outlive it"

    fail.__doc__ = f"The store: {fault}."
    return fail


FAULTS: dict[str, Any] = {
    "kill": kill,
    "aimed": aimed,
    "rebalance": rebalance,
    "zombie": zombie,
    "rocksdb": rocksdb,
    **{f"store-{fault}": store(fault) for fault in STORE_FAULTS},
    "broker-restart": broker_restart,
}
NEEDS_KAFKA = frozenset({"broker-restart"})
"""The embedded broker keeps its data in memory: with it goes everything."""
