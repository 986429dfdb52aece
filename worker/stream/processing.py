"""Runs the processor over fetched batches, a slice at a time, and hands the results to the delivery."""

from __future__ import annotations

import asyncio
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from mode import get_logger

from worker.pipeline.ports import BatchResult, arrived, dead_letter
from worker.sessions.codec import UnknownFormatError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from faust.types import TP

    from worker.observe.interface import StreamObserver
    from worker.pipeline.ports import Processor, Record
    from worker.stream.delivery import Delivery
    from worker.stream.options import StreamOptions
    from worker.stream.state_store import DurableShard
    from worker.stream.transport import FetchedBatch

log = get_logger(__name__)

SLICE_SECONDS, MIN_SLICE_RECORDS, PAUSE_SECONDS = 0.5, 20, 0.01
"""Seconds that a slice of a batch may take, its least number of records, and seconds between two slices, in which
other tasks of the event loop run."""

AHEAD_MS = 600_000
"""Milliseconds that a record's timestamp may be ahead of this worker's clock. Large enough that the same records are
clamped when they are processed again after a crash, and small enough to change times in the state little."""


class BatchProcessing:
    """Processes fetched batches.

    Commits, probes and other partitions must not wait for a batch that takes seconds. Once the time a record of a
    partition takes is known, its batches are processed in slices of about `SLICE_SECONDS`.

    Args:
        options: names of topics, records of a batch.
        processor: the pure core.
        delivery: takes the results.
        observer: is called with what happened.
        clock: milliseconds since the epoch.
        until_active: waits while partitions are being assigned.

    Attributes:
        newest: partition -> newest record time seen, milliseconds.
    """

    def __init__(
        self,
        options: StreamOptions,
        processor: Processor,
        delivery: Delivery,
        observer: StreamObserver,
        *,
        clock: Callable[[], int],
        until_active: Callable[[], Awaitable[object]],
    ) -> None:
        self.newest: dict[int, int] = {}
        self._options = options
        self._processor = processor
        self._delivery = delivery
        self._observer = observer
        self._clock = clock
        self._until_active = until_active
        self._next: dict[TP, int] = {}
        self._slice_records: dict[TP, int] = {}

    def restart(self) -> None:
        """Forget the read positions: after a rebalance, partitions are read from what is committed."""
        self._next = {}

    async def handle(self, batch: FetchedBatch) -> None:
        """Process a batch.

        Raises:
            AbandonedError: its partition was lost meanwhile.
        """
        tp, records = batch
        if not self._delivery.is_open(tp.partition):
            return
        first = self._next.get(tp, 0)
        if records[0].offset < first:
            records = [record for record in records if record.offset >= first]
        while records:
            part = records[: self._slice_records.get(tp, self._options.batch_records)]
            await self._handle_slice(tp, part)
            records = records[len(part) :]
            if records and not await self._is_still_next(tp):
                return

    async def _handle_slice(self, tp: TP, records: Sequence[Record]) -> None:
        self._next[tp] = records[-1].offset + 1
        if tp.topic in (self._options.by_user, self._options.feedback, *self._options.firsts()):
            records = arrived(records, self._clock(), AHEAD_MS)
        if tp.topic != self._options.findings:
            # The timestamp of a finding is when it was published.
            self.newest[tp.partition] = max(self.newest.get(tp.partition, 0), records[-1].timestamp)
        started = time.perf_counter()
        result = self._process(tp.partition, records, self._delivery.queues[tp.partition])
        seconds = time.perf_counter() - started
        self._slice_records[tp] = max(MIN_SLICE_RECORDS, int(SLICE_SECONDS * len(records) / max(seconds, 1e-6)))
        self._observer.on_batch(tp, len(records), seconds, result)
        size = sum([len(record.value) for record in records if record.value is not None])
        await self._delivery.submit(tp.partition, result, source=(tp, records[-1].offset), size=size)

    async def _is_still_next(self, tp: TP) -> bool:
        """Yield to other tasks; return whether the rest of a batch is still the next to be processed."""
        following = self._next[tp]
        await asyncio.sleep(PAUSE_SECONDS)
        await self._until_active()
        return self._next.get(tp) == following and self._delivery.is_open(tp.partition)

    def _process(self, partition: int, records: Sequence[Record], shard: DurableShard) -> BatchResult:
        try:
            return self._processor.process(partition, records, shard)
        except UnknownFormatError:
            # Not an error of the record: a newer version wrote the state, and only that version can read it.
            raise
        except Exception as error:  # noqa: BLE001  any error costs this record alone
            if len(records) == 1:
                return self._poisoned(records[0], error)
        return self._process_singly(partition, records, shard)

    def _poisoned(self, record: Record, error: Exception) -> BatchResult:
        log.error("The processor failed on %s: %s", _where(record), failure(error))
        log.debug("Traceback of the processor's failure", exc_info=error)
        self._observer.on_poison(record, error)
        reason = failure(error).partition("\n")[0]
        return BatchResult(messages=[dead_letter(self._options.dlq, record, "internal-error", reason)])

    def _process_singly(self, partition: int, records: Sequence[Record], shard: DurableShard) -> BatchResult:
        """Find the records that make the processor fail; it does not change the shard when it raises."""
        whole = BatchResult()
        for record in records:
            whole.add(self._process(partition, [record], shard))
        return whole


def failure(error: BaseException) -> str:
    """Return type and origin of an exception, without its message, which may repeat the content of a record."""
    frames = traceback.extract_tb(error.__traceback__)
    last = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return "\n".join([type(error).__name__ + last, *(line.rstrip() for line in traceback.format_list(frames))])


def _where(record: Record) -> str:
    return f"{record.topic}[{record.partition}]@{record.offset}"
