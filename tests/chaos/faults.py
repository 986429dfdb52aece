"""The faults: each starts workers in a world, does its worst to them, and leaves it to them to finish."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.chaos.feed import FLOOD, POISONS, POLICIES
from tests.chaos.proxy import FAULTS as STORE_FAULTS
from tests.chaos.world import STALL_SECONDS
from worker.stream.app import AFTER_COMMIT
from worker.stream.delivery import AFTER_CHANGELOG
from worker.stream.inserter import AFTER_INSERT, BEFORE_INSERT

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.chaos.world import World

    Run = Callable[["World", Random, "Size", Any], None]

WORKERS = 2
HOUR_MS = 3_600_000
REJECTS_SECONDS = 90.0
"""Seconds after which nobody talks of rejected records any more: a minute, and some for a busy machine."""
SMALL = {
    "SESSIONWATCH_DELIVERY__MAX_ROWS": "500",
    "SESSIONWATCH_DELIVERY__MAX_INFLIGHT_ROWS": "1000",
    "SESSIONWATCH_STREAM__MAX_BATCH_RECORDS": "200",
}
"""Small bounds, so that there are many batches, and faults between them."""


class Size(NamedTuple):
    """How long each fault goes on.

    Attributes:
        kills: of workers. `aimed`: at each step of the delivery. `changes`: of the number of workers.
        outage: seconds the store or the broker is away. `times`: how often a broker is.
        pace: seconds an insert takes longer while faults happen.
        bounds: whether the store is away for so long that the production bounds of what is in flight are reached.
        flood: how many times as much poison there is.
    """

    kills: int
    aimed: int
    changes: int
    outage: float
    times: int
    pace: float
    bounds: bool
    flood: int


SHORT = Size(kills=4, aimed=1, changes=4, outage=8, times=1, pace=0.8, bounds=False, flood=1)
LONG = Size(kills=30, aimed=3, changes=20, outage=60, times=4, pace=0.6, bounds=True, flood=5)


class Fault(NamedTuple):
    """A fault.

    Attributes:
        run: does it. `poison`: what is between the records, a name in `POISONS`.
        broker: what it needs: any, `kafka`, or a `cluster` of three.
        lasts: whether it is over before the input is, which has to be so for it to have had an effect.
        but: columns of `sessions` that may differ.
    """

    run: Run
    poison: str = ""
    broker: str = ""
    lasts: bool = True
    but: tuple[str, ...] = ()


def nothing(world: World, chance: Random, size: Size, broker: Any) -> None:
    """Let one worker eat undisturbed."""
    world.start()


def several(world: World, chance: Random, size: Size, broker: Any) -> None:
    """Let some eat what there is."""
    for _ in range(WORKERS):
        world.start()


def kill(world: World, chance: Random, size: Size, broker: Any) -> None:
    """`kill -9` at random instants, of whichever worker."""
    several(world, chance, size, broker)
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
    several(world, chance, size, broker)
    for worker in world.workers:
        world.until_ready(worker)
    for _ in range(size.times):
        frozen = chance.choice(world.workers)
        frozen.send_signal(signal.SIGSTOP)
        time.sleep(12)
        frozen.send_signal(signal.SIGCONT)
        time.sleep(chance.uniform(1, 4))


def stops(world: World, chance: Random, size: Size, broker: Any) -> None:
    """Workers are asked to stop, under load and while the store does not answer, and have to in time."""
    for fault in ("", "slow", "hangs", "refuse"):
        worker = world.start()
        world.until_ready(worker)
        time.sleep(chance.uniform(0.5, 2))
        world.proxy.fault = fault
        time.sleep(chance.uniform(1, 3))
        world.stop(worker)
        world.proxy.fault = ""
    world.start()


def clock_steps(world: World, chance: Random, size: Size, broker: Any) -> None:
    """The clock of one worker runs two hours ahead every other second, that of another two hours behind."""
    for off in (2 * HOUR_MS, -2 * HOUR_MS):
        world.more["CHAOS_CLOCK"] = str(off)
        world.start()


def rocksdb(world: World, chance: Random, size: Size, broker: Any) -> None:
    """State on disk: killed, and started again on what lies there, and on nothing."""
    world.more |= {"SESSIONWATCH_STATE__STORE": "rocksdb", "SESSIONWATCH_DATA_DIR": str(world.directory / "kept")}
    for _ in range(max(2, size.kills // 4)):
        worker = world.start()
        world.until_ready(worker)
        time.sleep(chance.uniform(0.5, 4))
        world.kill(worker)
    world.more["SESSIONWATCH_DATA_DIR"] = str(world.directory / "other")
    world.start()


def unheard(world: World, chance: Random, size: Size, broker: Any) -> None:
    """Nothing but broken records for a while: the workers have to say so, and then that all is well again."""
    several(world, chance, size, broker)
    for worker in world.workers:
        world.until(lambda one=worker: "rejected" in world.page(one, "/health/ready"), "complaints")  # type: ignore[misc]
    world.is_over()
    world.until(world.done, "the end of the input")
    for worker in world.workers:
        world.until(lambda one=worker: world.ready(one), "readiness after that", REJECTS_SECONDS)  # type: ignore[misc]


def policies(world: World, chance: Random, size: Size, broker: Any) -> None:
    """Tenants publish policies that mean no good, before workers start and while they run, and events to go with it."""
    world.publish_policies({f"{FLOOD}-{number}": document for number, document in enumerate(POLICIES)})
    several(world, chance, size, broker)
    for worker in world.workers:
        world.until_ready(worker)
    for _ in range(size.times):
        for number in range(len(POLICIES)):
            world.publish_policies({f"{FLOOD}-{number}": chance.choice(POLICIES)})
    for worker in world.workers:
        assert worker.poll() is None, "a tenant's policy ended a worker"
        world.until_ready(worker)


def store(fault: str) -> Run:
    """Return what has the store do something to inserts for a while."""

    def fail(world: World, chance: Random, size: Size, broker: Any) -> None:
        if size.bounds:
            for name in SMALL:
                world.more.pop(name, None)
        worker = world.start()
        world.until_ready(worker)
        time.sleep(chance.uniform(0.5, 2))
        world.proxy.fault = fault
        began = time.monotonic()
        world.until(lambda: not world.ready(worker), "unreadiness", STALL_SECONDS + 15)
        time.sleep(max(0.0, began + size.outage - time.monotonic()))
        world.until(lambda: world.metric(worker, "sessionwatch_consumer_lag_records") > 0, "lag", STALL_SECONDS + 15)
        assert world.proxy.hit[fault], "the fault came too late"
        world.is_over()
        world.proxy.fault = ""
        assert worker.poll() is None, f"a worker ended with {worker.returncode}"
        # It catches up, and says so, without a restart.
        world.until_ready(worker)

    fail.__doc__ = f"The store: {fault}."
    return fail


def broker_restart(world: World, chance: Random, size: Size, broker: Any) -> None:
    """The broker is killed and comes back."""
    several(world, chance, size, broker)
    for worker in world.workers:
        world.until_ready(worker)
    for _ in range(size.times):
        time.sleep(chance.uniform(1, 4))
        broker.kill()
        time.sleep(min(size.outage, 20))
        broker.start()


def broker_freeze(world: World, chance: Random, size: Size, broker: Any) -> None:
    """Requests time out, what was produced with them succeeds when the broker goes on, and is sent again."""
    world.more["SESSIONWATCH_KAFKA__REQUEST_TIMEOUT_MS"] = "7000"
    several(world, chance, size, broker)
    for worker in world.workers:
        world.until_ready(worker)
    for _ in range(size.times):
        time.sleep(chance.uniform(1, 4))
        broker.freeze()
        time.sleep(15)
        broker.thaw()


def leader_moves(world: World, chance: Random, size: Size, broker: Any) -> None:
    """Of three brokers each is killed or frozen in turn, and comes back when others lead what it led."""
    several(world, chance, size, broker)
    for worker in world.workers:
        world.until_ready(worker)
    for number in range(max(2, size.times)):
        node = broker.nodes[number % len(broker.nodes)]
        time.sleep(chance.uniform(1, 4))
        down, up = (node.kill, node.start) if number % 2 == 0 else (node.freeze, node.thaw)
        down()
        time.sleep(10)
        up()


FAULTS: dict[str, Fault] = {
    "kill": Fault(kill),
    "aimed": Fault(aimed),
    "rebalance": Fault(rebalance),
    "zombie": Fault(zombie),
    "stops": Fault(stops),
    "clock-steps": Fault(clock_steps, lasts=False),
    "rocksdb": Fault(rocksdb),
    **{f"store-{fault}": Fault(store(fault)) for fault in STORE_FAULTS},
    "broker-restart": Fault(broker_restart, broker="kafka"),
    "broker-freeze": Fault(broker_freeze, broker="kafka"),
    "leader-moves": Fault(leader_moves, broker="cluster"),
    **{f"poison-{poison}": Fault(several, poison=poison, lasts=False) for poison in POISONS},
    "poison-only-malformed": Fault(unheard, poison="only-malformed", lasts=False),
    "poison-policies": Fault(policies, poison="policies", lasts=False),
}
"""The embedded broker keeps its data in memory: with it goes everything, so only the others are killed."""
