"""What is in flight: batches that were computed and are not durable yet, and the bounds on them."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from faust.types import TP

    from worker.pipeline.ports import BatchResult
    from worker.stream.state_store import DurableShard


class DeliveryLimits(NamedTuple):
    """Bounds of the delivery.

    Attributes:
        insert_rows: an insert is made as soon as this many rows wait.
        insert_delay: or when the oldest of them has waited this many seconds. Messages do not wait for it.
        max_rows: rows and messages in flight at which `submit` waits.
        max_bytes: bytes of record values in flight at which `submit` waits.
        stall_seconds: age of the oldest batch in flight from which on the worker is not ready.
    """

    insert_rows: int = 20_000
    insert_delay: float = 1.0
    max_rows: int = 100_000
    max_bytes: int = 96 << 20
    stall_seconds: float = 15.0


class InFlightBatch:
    """One result on its way to the store and the changelog."""

    __slots__ = (
        "at",
        "inserted",
        "messages",
        "published",
        "queue",
        "record_time",
        "row_count",
        "rows",
        "size",
        "source",
        "states",
        "weight",
    )

    def __init__(
        self, queue: PartitionQueue, result: BatchResult, source: tuple[TP, int] | None, size: int, at: float
    ) -> None:
        self.queue = queue
        self.messages = result.messages
        self.rows = result.rows
        self.states = result.states
        self.record_time = result.record_time
        self.source = source
        self.size = size
        self.at = at
        self.row_count = sum(map(len, result.rows.values()))
        self.weight = self.row_count + len(result.messages)
        self.published = not result.messages
        self.inserted = not result.rows

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


class InFlight:
    """Counts what is in flight, and makes callers wait while it is too much.

    Args:
        limits: bounds.

    Attributes:
        batches, rows, bytes: what is in flight; rows include messages.
        added: batches so far.
    """

    def __init__(self, limits: DeliveryLimits) -> None:
        self.batches = self.rows = self.bytes = self.added = 0
        self._limits = limits
        self._room, self._empty = asyncio.Event(), asyncio.Event()
        self._waiting = self._draining = 0
        self._signal()

    @property
    def is_draining(self) -> bool:
        """Whether a caller waits until nothing is in flight."""
        return self._draining > 0

    @property
    def full(self) -> bool:
        """Whether a caller would wait."""
        return self.rows >= self._limits.max_rows or self.bytes >= self._limits.max_bytes

    def add(self, batch: InFlightBatch) -> None:
        """Count a batch in."""
        self.added += 1
        self._count(batch, 1)
        self._signal()

    def remove(self, batches: Iterable[InFlightBatch]) -> None:
        """Count batches out: they are durable, or abandoned."""
        for batch in batches:
            self._count(batch, -1)
        self._signal()

    def _count(self, batch: InFlightBatch, sign: int) -> None:
        self.batches += sign
        self.rows += sign * batch.weight
        self.bytes += sign * batch.size

    def _signal(self) -> None:
        if not self.full:
            self._room.set()
        if self.batches or self._waiting:
            self._empty.clear()
        else:
            self._empty.set()

    def wake(self) -> None:
        """Wake the callers that wait for room, because their partition was abandoned."""
        self._room.set()

    async def wait_for_room(self, queue: PartitionQueue | None) -> bool:
        """Wait while too much is in flight; return whether the partition is open.

        Add the batch before the next await.
        """
        self._waiting += 1
        try:
            while self.full and queue is not None and queue.open:
                self._room.clear()
                await self._room.wait()
        except asyncio.CancelledError:
            self._waiting -= 1
            self._signal()
            raise
        self._waiting -= 1
        if queue is not None and queue.open:
            return True
        self._signal()
        return False

    async def wait_until_empty(self) -> None:
        """Wait until nothing is in flight and no caller waits for room."""
        await self._empty.wait()

    @contextmanager
    def draining(self) -> Iterator[None]:
        """Declare that a caller waits until nothing is in flight."""
        self._draining += 1
        try:
            yield
        finally:
            self._draining -= 1
