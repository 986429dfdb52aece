"""The delivery protocol by itself: order, coalescing, back-pressure, fencing, abandonment, final errors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.pipeline.ports import BatchResult, Message
from worker.stream.delivery import AbandonedError, Delivery
from worker.stream.inflight import DeliveryLimits
from worker.stream.state_store import MemoryShard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping

INPUT, FORWARDS = TP("in", 0), TP("by-user", 0)


class World:
    """Everything the delivery talks to, and a log of what it said, in order."""

    def __init__(self, **limits: Any) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.gates = {name: asyncio.Event() for name in ("insert", "publish", "changelog")}
        for gate in self.gates.values():
            gate.set()
        self.reached: set[str] = set()
        self.member = True
        self.fatal: list[BaseException] = []
        self.lost: list[int] = []
        self.released = 0
        self.taken_over = False
        self.offset = -1
        self.error: Exception | None = None
        self.shard = MemoryShard()
        self.delivery = Delivery(
            writer=self, publish=self.publish, changelog=self, ack=self.ack, is_member=lambda: self.member,
            on_fatal=self.fatal.append, on_lost=self.lost.append,
            limits=DeliveryLimits(**{"insert_delay": 0.01, **limits}),
        )  # fmt: skip

    async def pass_gate(self, name: str) -> None:
        self.reached.add(name)
        await self.gates[name].wait()

    async def insert(self, rows: Mapping[str, list[tuple[object, ...]]]) -> None:
        await self.pass_gate("insert")
        if self.error:
            raise self.error
        self.log.append(("insert", *(row for added in rows.values() for row in added)))

    async def publish(self, messages: Iterable[Message]) -> None:
        await self.pass_gate("publish")
        self.log.append(("publish", *(message.value for message in messages)))

    async def write(
        self, partition: int, states: Mapping[bytes, bytes | None], may_send: Callable[[], Awaitable[None]]
    ) -> tuple[int, int]:
        await self.pass_gate("changelog")
        await may_send()
        if self.taken_over:
            raise AbandonedError("another worker writes")
        self.log.append(("changelog", partition, dict(states)))
        first, self.offset = self.offset + 1, self.offset + len(states)
        return first, self.offset

    async def release(self, partition: int) -> None:
        assert partition == 0
        self.released += 1

    def ack(self, tp: TP, offset: int) -> None:
        self.log.append(("ack", tp, offset))

    def steps(self, *names: str) -> list[tuple[Any, ...]]:
        return [entry for entry in self.log if entry[0] in names]


def outcome(n: int, *, rows: bool = True, message: bool = False, key: bytes = b"k") -> BatchResult:
    return BatchResult(
        rows={"t": [(n,)]} if rows else {},
        messages=[Message("findings", key, b"%d" % n)] if message else [],
        states={key: b"%d" % n},
    )


def run(scenario: Callable[[World], Coroutine[Any, Any, None]], **limits: Any) -> World:
    async def main() -> World:
        world = World(**limits)
        await world.delivery.start()
        world.delivery.open(0, world.shard)
        try:
            await asyncio.wait_for(scenario(world), 10)
        finally:
            await world.delivery.stop()
        return world

    return asyncio.run(main())


async def settle() -> None:
    await asyncio.sleep(0.05)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  a test waits for a state
            await asyncio.sleep(0.002)


def test_a_batch_goes_through_its_steps_in_order() -> None:
    async def scenario(world: World) -> None:
        await world.delivery.submit(0, outcome(1, message=True), source=(INPUT, 10))
        await world.delivery.drain(1)

    world = run(scenario)
    assert sorted(world.log[:2]) == [("insert", (1,)), ("publish", b"1")]
    assert world.log[2:] == [("changelog", 0, {b"k": b"1"}), ("ack", INPUT, 10)]
    assert world.shard.offset == 0


@pytest.mark.parametrize("blocked", ["insert", "publish"])
def test_states_wait_for_rows_and_messages(blocked: str) -> None:
    async def scenario(world: World) -> None:
        world.gates[blocked].clear()
        await world.delivery.submit(0, outcome(1, message=True), source=(INPUT, 10))
        await settle()
        assert not world.steps("changelog", "ack")
        world.gates[blocked].set()
        await world.delivery.drain(1)

    assert run(scenario).log[2:] == [("changelog", 0, {b"k": b"1"}), ("ack", INPUT, 10)]


def test_the_next_batch_is_taken_while_one_waits_and_both_become_durable_together() -> None:
    async def scenario(world: World) -> None:
        world.gates["insert"].clear()
        for n, (tp, offset) in enumerate([(INPUT, 10), (FORWARDS, 3), (INPUT, 20), (FORWARDS, 4)]):
            await world.delivery.submit(0, outcome(n, key=b"k%d" % (n % 2)), source=(tp, offset))
        await settle()
        world.gates["insert"].set()
        await world.delivery.drain(1)

    world = run(scenario)
    assert world.steps("insert") == [("insert", (0,), (1,), (2,), (3,))]
    assert world.steps("changelog") == [("changelog", 0, {b"k0": b"2", b"k1": b"3"})]
    assert sorted(world.steps("ack")) == [("ack", FORWARDS, 4), ("ack", INPUT, 20)]


def test_a_batch_that_is_durable_early_waits_for_the_one_before_it() -> None:
    async def scenario(world: World) -> None:
        world.gates["insert"].clear()
        await world.delivery.submit(0, outcome(1), source=(INPUT, 1))
        await world.delivery.submit(0, outcome(2, rows=False), source=(INPUT, 2))
        await settle()
        assert world.log == []
        world.gates["insert"].set()
        await world.delivery.drain(1)

    assert run(scenario).steps("ack") == [("ack", INPUT, 2)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30))
def test_whatever_the_mix_the_order_holds(batches: list[tuple[bool, bool, int]]) -> None:
    async def scenario(world: World) -> None:
        for n, (rows, message, pause) in enumerate(batches):
            await world.delivery.submit(0, outcome(n, rows=rows, message=message), source=(INPUT, n))
            await asyncio.sleep(pause / 1000)
        await world.delivery.drain(5)

    world = run(scenario, insert_rows=3)
    published = [int(value) for _, *values in world.steps("publish") for value in values]
    inserted = [n for _, *rows in world.steps("insert") for (n,) in rows]
    assert published == [n for n, (_, message, _) in enumerate(batches) if message]
    assert inserted == [n for n, (rows, _, _) in enumerate(batches) if rows]
    durable, last = -1, -1
    for name, *rest in world.log:
        if name == "changelog":
            durable = int(rest[1][b"k"])
            before = world.log[: world.log.index((name, *rest))]
            for n, (rows, message, _) in enumerate(batches[: durable + 1]):
                assert not rows or any(entry[0] == "insert" and (n,) in entry for entry in before)
                assert not message or any(entry[0] == "publish" and b"%d" % n in entry for entry in before)
        if name == "ack":
            assert last < rest[1] <= durable
            last = rest[1]
    assert last == len(batches) - 1


def test_submit_waits_while_too_much_is_in_flight() -> None:
    async def scenario(world: World) -> None:
        world.gates["insert"].clear()
        for n in range(5):
            await asyncio.wait_for(world.delivery.submit(0, outcome(n), source=(INPUT, n)), 1)
        more = asyncio.create_task(world.delivery.submit(0, outcome(5), source=(INPUT, 5)))
        await settle()
        assert not more.done()
        assert world.delivery.in_flight.rows == 5
        world.gates["insert"].set()
        await asyncio.wait_for(more, 1)
        await world.delivery.drain(1)
        assert (world.delivery.in_flight.rows, world.delivery.in_flight.bytes) == (0, 0)

    assert run(scenario, max_rows=5).steps("ack")[-1] == ("ack", INPUT, 5)


def test_bytes_are_bounded_too() -> None:
    async def scenario(world: World) -> None:
        world.gates["insert"].clear()
        await world.delivery.submit(0, outcome(0), source=(INPUT, 0), size=1_000)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(world.delivery.submit(0, outcome(1), source=(INPUT, 1), size=1), 0.05)
        world.gates["insert"].set()
        await world.delivery.drain(1)

    assert run(scenario, max_bytes=1_000).steps("ack") == [("ack", INPUT, 0)]


def test_without_certainty_of_membership_no_state_is_written() -> None:
    async def scenario(world: World) -> None:
        world.member = False
        await world.delivery.submit(0, outcome(1), source=(INPUT, 1))
        await asyncio.sleep(0.2)
        assert world.steps("insert")
        assert not world.steps("changelog", "ack")
        world.member = True
        await world.delivery.drain(1)

    assert run(scenario).steps("ack") == [("ack", INPUT, 1)]


@pytest.mark.parametrize("blocked", ["insert", "publish", "changelog"])
def test_no_later_step_of_an_abandoned_partition_runs(blocked: str) -> None:
    async def scenario(world: World) -> None:
        world.gates[blocked].clear()
        await world.delivery.submit(0, outcome(1, message=True), source=(INPUT, 1))
        await world.delivery.submit(0, outcome(2, message=True), source=(INPUT, 2))
        await until(lambda: blocked in world.reached)
        assert await world.delivery.close(0) is False
        assert world.released == (blocked == "changelog")
        assert world.delivery.in_flight.rows == 0
        world.gates[blocked].set()
        await settle()
        assert not world.steps("changelog", "ack")
        with pytest.raises(AbandonedError):
            await world.delivery.submit(0, outcome(3), source=(INPUT, 3))

    run(scenario)


def test_a_partition_that_another_worker_took_is_abandoned_and_told() -> None:
    async def scenario(world: World) -> None:
        world.taken_over = True
        await world.delivery.submit(0, outcome(1), source=(INPUT, 1))
        await settle()
        assert world.lost == [0]
        assert not world.delivery.is_open(0)
        assert not world.steps("ack")
        assert world.fatal == []

    run(scenario)


def test_who_waits_for_room_is_told_that_the_partition_is_lost() -> None:
    async def scenario(world: World) -> None:
        world.gates["insert"].clear()
        await world.delivery.submit(0, outcome(1), source=(INPUT, 1))
        waiting = asyncio.create_task(world.delivery.submit(0, outcome(2), source=(INPUT, 2)))
        await settle()
        await world.delivery.close(0)
        with pytest.raises(AbandonedError):
            await waiting

    run(scenario, max_rows=1)


def test_a_partition_with_nothing_in_flight_closes_clean_and_opens_again() -> None:
    async def scenario(world: World) -> None:
        await world.delivery.submit(0, outcome(1), source=(INPUT, 1))
        await world.delivery.drain(1)
        assert await world.delivery.close(0) is True
        world.delivery.open(0, world.shard)
        await world.delivery.submit(0, outcome(2), source=(INPUT, 2))
        await world.delivery.drain(1)

    assert run(scenario).steps("ack") == [("ack", INPUT, 1), ("ack", INPUT, 2)]


def test_a_final_error_of_the_store_stops_everything_and_is_told() -> None:
    async def scenario(world: World) -> None:
        world.error = RuntimeError("table does not exist")
        await world.delivery.submit(0, outcome(1), source=(INPUT, 1))
        await settle()
        assert [str(error) for error in world.fatal] == ["table does not exist"]
        with pytest.raises(AbandonedError):
            await world.delivery.submit(0, outcome(2), source=(INPUT, 2))

    assert not run(scenario).steps("changelog", "ack")


def test_readiness_tells_of_a_batch_that_does_not_become_durable() -> None:
    async def scenario(world: World) -> None:
        assert world.delivery.ready
        world.gates["insert"].clear()
        await world.delivery.submit(0, outcome(1), source=(INPUT, 1))
        await asyncio.sleep(0.15)
        assert not world.delivery.ready
        assert world.delivery.stalled_for > 0.1
        world.gates["insert"].set()
        await world.delivery.drain(1)
        assert world.delivery.ready

    run(scenario, stall_seconds=0.1)


def test_a_large_group_is_inserted_without_waiting_for_the_delay() -> None:
    async def scenario(world: World) -> None:
        for n in range(10):
            await world.delivery.submit(0, outcome(n), source=(INPUT, n))
        await until(lambda: len(world.steps("ack")) == 1)
        assert len(world.steps("insert")) == 1

    assert run(scenario, insert_rows=10, insert_delay=30).steps("ack") == [("ack", INPUT, 9)]


def test_messages_do_not_wait_for_rows_nor_count_as_rows() -> None:
    async def scenario(world: World) -> None:
        for n in range(20):
            await world.delivery.submit(0, outcome(n, message=True), source=(INPUT, n))
        await until(lambda: bool(world.steps("publish")))
        await settle()
        assert not world.steps("insert", "changelog", "ack")

    run(scenario, insert_rows=21, insert_delay=30)


def test_many_rows_do_not_shorten_the_delay() -> None:
    submitted: list[float] = []

    async def scenario(world: World) -> None:
        clock, seen = asyncio.get_running_loop().time, 0
        for n in range(50):
            submitted.append(clock())
            await world.delivery.submit(0, outcome(n), source=(INPUT, n))
            await asyncio.sleep(0.01)
            for _, (first,), *_ in world.steps("insert")[seen:]:
                assert clock() - submitted[first] >= 0.2
                seen += 1
        await until(lambda: ("ack", INPUT, 49) in world.log)

    assert run(scenario, insert_rows=1_000, insert_delay=0.2).fatal == []


@pytest.mark.parametrize("hurry", ["drain", "flush"])
def test_a_drain_or_flush_inserts_at_once(hurry: str) -> None:
    async def scenario(world: World) -> None:
        await world.delivery.submit(0, outcome(1), source=(INPUT, 1))
        await settle()
        assert not world.steps("insert")
        if hurry == "drain":
            await world.delivery.drain(5)
        else:
            world.delivery.flush()
            await until(lambda: bool(world.steps("ack")))
        # Afterwards rows wait as before.
        await world.delivery.submit(0, outcome(2), source=(INPUT, 2))
        await settle()

    assert run(scenario, insert_delay=30).steps("insert") == [("insert", (1,))]


def test_rows_that_come_while_draining_are_inserted_at_once_too() -> None:
    async def scenario(world: World) -> None:
        world.gates["changelog"].clear()
        await world.delivery.submit(0, outcome(1), source=(INPUT, 1))
        draining = asyncio.create_task(world.delivery.drain(5))
        await until(lambda: len(world.steps("insert")) == 1)
        await world.delivery.submit(0, outcome(2), source=(INPUT, 2))
        await until(lambda: len(world.steps("insert")) == 2)
        world.gates["changelog"].set()
        await draining

    assert run(scenario, insert_delay=30).steps("ack")[-1] == ("ack", INPUT, 2)


@pytest.mark.parametrize("full", ["rows", "bytes"])
def test_rows_do_not_wait_while_no_more_can_be_taken_in(full: str) -> None:
    async def scenario(world: World) -> None:
        await world.delivery.submit(0, outcome(1), source=(INPUT, 1))
        await world.delivery.submit(0, outcome(2, rows=False, message=True), source=(INPUT, 2), size=100)
        await until(lambda: bool(world.steps("insert")))

    run(scenario, insert_delay=30, **{f"max_{full}": 2})
