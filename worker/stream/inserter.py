"""Group commit: the rows of many batches and partitions in one insert."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.stream.inflight import DeliveryLimits, InFlight, InFlightBatch, PartitionQueue

BEFORE_INSERT, AFTER_INSERT = "before-insert", "after-insert"


class Writer(Protocol):
    """The store of rows."""

    async def insert(self, rows: Mapping[str, list[bytes]]) -> None:
        """Return when all rows, by table, are durable; retry what can be retried, raise what is final."""


class RowInserter:
    """Inserts rows when enough of them wait, or when the oldest has waited long enough.

    The delay does not depend on the load, so the number of inserts a second is bounded. Rows do not wait for it while
    something waits for them: a caller of `flush` or of `Delivery.drain`, or input that cannot be taken in.

    Args:
        writer: the store of rows.
        limits: rows and delay of an insert.
        in_flight: while it is full or being drained, rows are inserted at once.
        on_insert: called after each insert with the number of rows by table, and for each batch among them the
            timestamp of its oldest record.
        on_step: called with the name of each step passed.
    """

    def __init__(
        self,
        writer: Writer,
        limits: DeliveryLimits,
        in_flight: InFlight,
        on_insert: Callable[[Mapping[str, int], Sequence[int]], None] | None,
        on_step: Callable[[str], None],
    ) -> None:
        self._writer = writer
        self._limits = limits
        self._in_flight = in_flight
        self._on_insert = on_insert
        self._on_step = on_step
        self._waiting: deque[InFlightBatch] = deque()
        self._rows = 0
        self._flush = False
        self._some_rows, self._due = asyncio.Event(), asyncio.Event()

    def add(self, batch: InFlightBatch) -> None:
        """Queue the rows of a batch for the next insert."""
        self._waiting.append(batch)
        self._rows += batch.row_count
        self._some_rows.set()

    def drop(self, queue: PartitionQueue) -> None:
        """Drop the batches of a partition that was abandoned."""
        self._rows -= sum(batch.row_count for batch in self._waiting if batch.queue is queue)
        self._waiting = deque(batch for batch in self._waiting if batch.queue is not queue)

    def flush(self) -> None:
        """Insert what waits now without further delay."""
        self._flush = bool(self._waiting)
        self.wake()

    def wake(self) -> None:
        """Look again whether what waits is to be inserted; called when the bounds or their use have changed."""
        if self._is_due():
            self._due.set()

    async def run(self) -> None:
        """Insert until cancelled."""
        while True:
            await self._some_rows.wait()
            await self._gather()
            if group := self._take():
                await self._insert(group)

    def _is_due(self) -> bool:
        enough = self._rows >= self._limits.insert_rows
        return enough or self._flush or self._in_flight.full or self._in_flight.is_draining

    async def _gather(self) -> None:
        """Wait until enough rows have come, or the oldest has waited long enough."""
        if not self._waiting or self._is_due():
            return
        self._due.clear()
        moment = self._waiting[0].at + self._limits.insert_delay
        with suppress(TimeoutError):
            async with asyncio.timeout_at(moment):
                await self._due.wait()

    def _take(self) -> list[InFlightBatch]:
        group: list[InFlightBatch] = []
        count = 0
        while self._waiting and count < self._limits.insert_rows:
            batch = self._waiting.popleft()
            count += batch.row_count
            group.append(batch)
        self._rows -= count
        if not self._waiting:
            self._some_rows.clear()
            self._flush = False
        return group

    async def _insert(self, group: list[InFlightBatch]) -> None:
        rows: dict[str, list[bytes]] = {}
        for batch in group:
            for table, added in batch.rows.items():
                rows.setdefault(table, []).extend(added)
            batch.rows = {}
        self._on_step(BEFORE_INSERT)
        await self._writer.insert(rows)
        self._on_step(AFTER_INSERT)
        if self._on_insert:
            times = [batch.record_time for batch in group if batch.record_time]
            self._on_insert({table: len(added) for table, added in rows.items()}, times)
        for batch in group:
            batch.inserted = True
            batch.queue.news.set()
