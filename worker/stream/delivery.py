"""The delivery protocol: nothing lost, nothing doubled.

For every batch of one partition, in this order:

(a) rows, messages and new states are computed, on the newest states in memory (the caller's part);
(b) messages are published and rows inserted, and both awaited until they are durable;
(c) the states are written to the changelog, and awaited;
(d) the offset is handed to the consumer, which commits it with the next round.

Batches of one partition pass (c) and (d) in their order, while later ones are computed and pass (b): the store's
latency does not become the worker's throughput. What is durable together is written together: rows of many
batches and partitions go into one insert, and of the states of several batches each key's last one is written.

**Who may block.** `submit` waits while more than `max_rows` or `max_bytes` are in flight; that is all there is of
back-pressure. The agent that waits stops taking chunks, its buffer fills, the consumer stops fetching and stays in
the group, and memory is bounded by what is in flight and in these buffers. Nothing else blocks the caller.

**Who commits.** Only `ack`, called after (c), in order. A batch whose offset is committed has everything durable.

**After a crash** between (b) and (c) the batch is computed again from the same states, with the same row keys and
finding ids. Between (c) and (d) its states are ahead, and the processor skips records their states have seen.

**When a partition is lost**, its queue is closed: no step of its batches that has not begun will run. If something
was in flight, the states in memory are ahead of what is durable, and the caller has to drop them.

**Errors.** Writers retry by themselves. What they raise is final: the queues are closed and `on_fatal` is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence

    from faust.types import TP

    from worker.pipeline.ports import BatchResult, Message
    from worker.stream.state_store import DurableShard

Rows = dict[str, list[bytes]]
FENCE_SECONDS = 0.05
BUSY_SHARE, BUSY_FACTOR = 0.03, 5
"""Share of `insert_rows` waiting after `insert_delay` from which on the worker is busy and the delay is longer."""

BEFORE_INSERT, AFTER_INSERT, AFTER_CHANGELOG = "before-insert", "after-insert", "after-changelog"


class AbandonedError(Exception):
    """The partition is no longer this worker's."""


class Writer(Protocol):
    """The store of rows."""

    async def insert(self, rows: Mapping[str, list[bytes]]) -> None:
        """Return when all rows, by table, are durable; retry what can be retried, raise what is final."""


class Changelog(Protocol):
    """The log of states; see `worker.stream.publisher.ChangelogWriter`."""

    async def write(
        self,
        partition: int,
        states: Mapping[bytes, bytes | None],
        may_send: Callable[[], Awaitable[None]],
    ) -> tuple[int, int]:
        """Return the offsets of the first and the last state when all are durable.

        Raises:
            AbandonedError: another worker has taken the partition.
        """

    async def release(self, partition: int) -> None:
        """Drop everything of a partition that waits to be sent."""


class DeliveryLimits(NamedTuple):
    """Bounds of the delivery.

    Attributes:
        insert_rows: an insert is made as soon as this many rows wait.
        insert_delay: or when the oldest of them has waited this many seconds; `BUSY_FACTOR` times that when many rows
            have come by then. Findings do not wait for it, and small inserts cost the store merges.
        max_rows: rows and messages in flight at which `submit` waits.
        max_bytes: bytes of record values in flight at which `submit` waits.
        stall_seconds: age of the oldest batch in flight from which on the worker is not ready.
    """

    insert_rows: int = 20_000
    insert_delay: float = 0.1
    max_rows: int = 60_000
    max_bytes: int = 64 << 20
    stall_seconds: float = 15.0


class InFlightBatch:
    """One outcome on its way."""

    __slots__ = (
        "at",
        "inserted",
        "messages",
        "published",
        "queue",
        "record_time",
        "rows",
        "size",
        "source",
        "states",
        "weight",
    )

    def __init__(
        self, queue: PartitionQueue, outcome: BatchResult, source: tuple[TP, int] | None, size: int, at: float
    ) -> None:
        self.queue = queue
        self.messages = outcome.messages
        self.rows = outcome.rows
        self.states = outcome.states
        self.record_time = outcome.record_time
        self.source = source
        self.size = size
        self.at = at
        self.weight = sum(map(len, outcome.rows.values())) + len(outcome.messages)
        self.published = not outcome.messages
        self.inserted = not outcome.rows

    @property
    def durable(self) -> bool:
        """Whether step (b) is done."""
        return self.published and self.inserted


class PartitionQueue:
    """The batches of one partition in their order, oldest first."""

    __slots__ = ("batches", "news", "open", "partition", "shard", "tasks", "to_publish", "work", "writing")

    def __init__(self, partition: int, shard: DurableShard) -> None:
        self.partition = partition
        self.shard = shard
        self.open = True
        self.writing = False
        self.batches: deque[InFlightBatch] = deque()
        self.to_publish: deque[InFlightBatch] = deque()
        self.work = asyncio.Event()
        self.news = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []


class Delivery:
    """Runs steps (b) to (d).

    Args:
        writer: rows.
        publish: messages; returns when they are durable, in order.
        changelog: states.
        ack: takes a partition and the last offset that is durable.
        is_member: whether it is certain at this moment that nobody else owns our partitions.
        on_fatal: told of an error after which nothing can go on.
        on_lost: told of a partition that was abandoned because another worker has it.
        limits: bounds.
        on_insert: called after each insert with the count of rows by table, and for each batch among them the
            timestamp of its oldest record.
        faults: called with the name of each step passed, for tests that kill the worker there.
    """

    def __init__(
        self,
        *,
        writer: Writer,
        publish: Callable[[Iterable[Message]], Awaitable[None]],
        changelog: Changelog,
        ack: Callable[[TP, int], None],
        is_member: Callable[[], bool],
        on_fatal: Callable[[BaseException], None],
        on_lost: Callable[[int], None],
        limits: DeliveryLimits | None = None,
        on_insert: Callable[[Mapping[str, int], Sequence[int]], None] | None = None,
        faults: Callable[[str], None] | None = None,
    ) -> None:
        self.limits = limits or DeliveryLimits()
        self._writer = writer
        self._publish = publish
        self._changelog = changelog
        self._ack = ack
        self._is_member = is_member
        self._on_fatal = on_fatal
        self._on_lost = on_lost
        self._on_insert = on_insert
        self._faults = faults
        self._queues: dict[int, PartitionQueue] = {}
        self._to_insert: deque[InFlightBatch] = deque()
        self._rows_waiting = 0
        self._some_rows, self._many_rows = asyncio.Event(), asyncio.Event()
        self._room, self._empty = asyncio.Event(), asyncio.Event()
        self._inserter: asyncio.Task[None] | None = None
        self._waiting = 0
        self.inflight_batches = self.inflight_rows = self.inflight_bytes = 0
        self._account(())

    # Life

    async def start(self) -> None:
        """Start to insert."""
        self._inserter = asyncio.create_task(self._guarded(self._insert_forever()))

    async def stop(self) -> None:
        """Close all queues and stop, whatever is in flight."""
        for partition in list(self._queues):
            await self.close(partition)
        if self._inserter is not None:
            self._inserter.cancel()
            await asyncio.gather(self._inserter, return_exceptions=True)

    def open(self, partition: int, shard: DurableShard) -> None:
        """Accept batches of a partition."""
        if partition in self._queues:
            raise ValueError(f"partition {partition} is open already")
        queue = self._queues[partition] = PartitionQueue(partition, shard)
        queue.tasks = [
            asyncio.create_task(self._guarded(self._publish_forever(queue))),
            asyncio.create_task(self._guarded(self._finish_forever(queue), queue)),
        ]

    def is_open(self, partition: int) -> bool:
        """Say whether batches of a partition are accepted."""
        return partition in self._queues

    @property
    def queues(self) -> Mapping[int, DurableShard]:
        """The open partitions and their shards."""
        return {partition: queue.shard for partition, queue in self._queues.items()}

    async def close(self, partition: int) -> bool:
        """Abandon a partition; True when nothing was in flight, so that its shard is what is durable."""
        writing = (queue := self._queues.get(partition)) is not None and queue.writing
        clean = self.abandon(partition)
        if queue is not None:
            await asyncio.gather(*queue.tasks, return_exceptions=True)
        if writing:
            # What waits in the producer would still be sent, some time.
            await self._changelog.release(partition)
        return clean

    def abandon(self, partition: int) -> bool:
        """Do what `close` does, without waiting for it to have happened."""
        queue = self._queues.pop(partition, None)
        if queue is None:
            return True
        queue.open = False
        for task in queue.tasks:
            task.cancel()
        clean = not queue.batches
        self._rows_waiting -= sum(batch.weight for batch in self._to_insert if batch.queue is queue)
        self._to_insert = deque(batch for batch in self._to_insert if batch.queue is not queue)
        self._account(queue.batches)
        self._room.set()
        return clean

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109  the bound is the point
        """Wait until nothing is in flight, at most `timeout` seconds."""
        try:
            await asyncio.wait_for(self._empty.wait(), timeout)
        except TimeoutError:
            return

    # State

    @property
    def stalled_for(self) -> float:
        """Seconds the oldest batch has been in flight; 0 when there is none."""
        oldest = [queue.batches[0].at for queue in self._queues.values() if queue.batches]
        return _now() - min(oldest) if oldest else 0.0

    @property
    def ready(self) -> bool:
        """Whether batches become durable in time."""
        return self.stalled_for < self.limits.stall_seconds

    def is_idle(self, partition: int) -> bool:
        """Say whether nothing of a partition is in flight."""
        queue = self._queues.get(partition)
        return queue is None or not queue.batches

    @property
    def full(self) -> bool:
        """Whether `submit` would wait."""
        return self.inflight_rows >= self.limits.max_rows or self.inflight_bytes >= self.limits.max_bytes

    # Steps

    async def submit(
        self, partition: int, outcome: BatchResult, *, source: tuple[TP, int] | None = None, size: int = 0
    ) -> None:
        """Take over an outcome; waits while too much is in flight.

        Args:
            partition: its partition number.
            outcome: what was computed; it must not be changed afterwards.
            source: the input partition and the last offset covered, None when it has none (sweeps).
            size: bytes of the record values it was computed from.

        Raises:
            AbandonedError: the partition is, or became while waiting, no longer ours.
        """
        queue = self._queues.get(partition)
        await self._room_for(queue)
        if queue is None or not queue.open:
            self._account(())
            raise AbandonedError(f"partition {partition}")
        batch = InFlightBatch(queue, outcome, source, size, _now())
        queue.batches.append(batch)
        self._account((), (batch,))
        if not batch.published:
            queue.to_publish.append(batch)
            queue.work.set()
        if not batch.inserted:
            self._queue_rows(batch)
        if batch.durable:
            queue.news.set()

    async def _room_for(self, queue: PartitionQueue | None) -> None:
        self._waiting += 1
        try:
            while self.full and queue is not None and queue.open:
                self._room.clear()
                await self._room.wait()
        except asyncio.CancelledError:
            self._waiting -= 1
            self._account(())
            raise
        self._waiting -= 1

    def _account(self, gone: Iterable[InFlightBatch], come: Iterable[InFlightBatch] = ()) -> None:
        for sign, batches in ((1, come), (-1, gone)):
            for batch in batches:
                self.inflight_batches += sign
                self.inflight_rows += sign * batch.weight
                self.inflight_bytes += sign * batch.size
        if not self.full:
            self._room.set()
        if self.inflight_batches or self._waiting:
            self._empty.clear()
        else:
            self._empty.set()

    def _queue_rows(self, batch: InFlightBatch) -> None:
        self._to_insert.append(batch)
        self._rows_waiting += batch.weight
        self._some_rows.set()
        if self._rows_waiting >= self.limits.insert_rows or self.full:
            self._many_rows.set()

    async def _insert_forever(self) -> None:
        while True:
            await self._some_rows.wait()
            await self._let_rows_gather()
            if group := self._take_rows():
                await self._insert(group)

    async def _let_rows_gather(self) -> None:
        if not self._to_insert or self._rows_waiting >= self.limits.insert_rows:
            return
        oldest = self._to_insert[0].at
        await self._let_rows_gather_until(oldest + self.limits.insert_delay)
        if BUSY_SHARE * self.limits.insert_rows <= self._rows_waiting < self.limits.insert_rows and not self.full:
            await self._let_rows_gather_until(oldest + self.limits.insert_delay * BUSY_FACTOR)

    async def _let_rows_gather_until(self, moment: float) -> None:
        delay = moment - _now()
        if delay > 0:
            self._many_rows.clear()
            await asyncio.wait([task := asyncio.ensure_future(self._many_rows.wait())], timeout=delay)
            task.cancel()

    def _take_rows(self) -> list[InFlightBatch]:
        group: list[InFlightBatch] = []
        count = 0
        while self._to_insert and count < self.limits.insert_rows:
            batch = self._to_insert.popleft()
            count += batch.weight
            group.append(batch)
        self._rows_waiting -= count
        if not self._to_insert:
            self._some_rows.clear()
        return group

    async def _insert(self, group: list[InFlightBatch]) -> None:
        rows: Rows = {}
        for batch in group:
            for table, added in batch.rows.items():
                rows.setdefault(table, []).extend(added)
            batch.rows = {}
        self._pass(BEFORE_INSERT)
        await self._writer.insert(rows)
        self._pass(AFTER_INSERT)
        if self._on_insert:
            times = [batch.record_time for batch in group if batch.record_time]
            self._on_insert({table: len(added) for table, added in rows.items()}, times)
        for batch in group:
            batch.inserted = True
            batch.queue.news.set()

    async def _publish_forever(self, queue: PartitionQueue) -> None:
        while True:
            await queue.work.wait()
            queue.work.clear()
            batches, queue.to_publish = queue.to_publish, deque()
            await self._publish(message for batch in batches for message in batch.messages)
            for batch in batches:
                batch.messages = []
                batch.published = True
            queue.news.set()

    async def _finish_forever(self, queue: PartitionQueue) -> None:
        while True:
            await queue.news.wait()
            queue.news.clear()
            while done := list(takewhile(lambda batch: batch.durable, queue.batches)):
                await self._write_states(queue, done)
                self._acknowledge(queue, done)

    async def _write_states(self, queue: PartitionQueue, batches: list[InFlightBatch]) -> None:
        states: dict[bytes, bytes | None] = {}
        for batch in batches:
            states.update(batch.states)
        if not states:
            return
        queue.writing = True
        try:
            _, last = await self._changelog.write(queue.partition, states, lambda: self._may_send(queue))
        finally:
            queue.writing = False
        queue.shard.persist(states, last)
        self._pass(AFTER_CHANGELOG)

    async def _may_send(self, queue: PartitionQueue) -> None:
        """Wait until it is certain that the partition is ours.

        Raises:
            AbandonedError: it is not.
        """
        while queue.open and not self._is_member():  # noqa: ASYNC110  the age of a heartbeat is waited for
            await asyncio.sleep(FENCE_SECONDS)
        if not queue.open:
            raise AbandonedError(f"partition {queue.partition}")

    def _acknowledge(self, queue: PartitionQueue, batches: list[InFlightBatch]) -> None:
        last = dict(batch.source for batch in batches if batch.source is not None)
        for _ in batches:
            queue.batches.popleft()
        for tp, offset in last.items():
            self._ack(tp, offset)
        self._account(batches)

    async def _guarded(self, work: Coroutine[Any, Any, None], queue: PartitionQueue | None = None) -> None:
        try:
            await work
        except AbandonedError:
            if queue is not None and queue.open:
                self.abandon(queue.partition)
                self._on_lost(queue.partition)
        except Exception as error:  # noqa: BLE001  whatever it is, nothing can go on
            for partition in list(self._queues):
                self.abandon(partition)
            self._on_fatal(error)

    def _pass(self, step: str) -> None:
        if self._faults is not None:
            self._faults(step)


def _now() -> float:
    return asyncio.get_running_loop().time()
