"""The pipeline over records at hand, without a broker: both stages, in one partition."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.pipeline.ports import BatchResult, Message, Processor, Record, Shard

BATCH = 2_000


class LocalRecord(msgspec.Struct):
    """A record at hand, with the fields of a Kafka record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def batches(records: Iterable[Record], size: int = BATCH) -> Iterator[Sequence[Record]]:
    """Yield records some at a time."""
    left = iter(records)
    while batch := list(islice(left, size)):
        yield batch


class LocalPipeline:
    """Both stages over one partition.

    Args:
        processor: of that partition.
        shard: its state.
        starts: topic of what the processor announces to itself.
    """

    def __init__(self, processor: Processor, shard: Shard, starts: str) -> None:
        self._processor = processor
        self._shard = shard
        self._starts = starts
        self._announced = 0

    def process(self, records: Sequence[Record]) -> Iterator[BatchResult]:
        """Apply records, and then what is announced of the sessions they begin; yield what comes of either."""
        first = self._processor.process(0, records, self._shard)
        yield first
        second = [
            LocalRecord(self._starts, 0, number, message.timestamp or 0, message.key, message.value, ())
            for number, message in enumerate(self._starting(first), self._announced)
        ]
        self._announced += len(second)
        yield self._processor.process(0, second, self._shard)

    def fire_timers(self, now: int) -> BatchResult:
        """Do what time alone asks for."""
        return self._processor.fire_timers(0, now, self._shard)

    def _starting(self, outcome: BatchResult) -> Iterator[Message]:
        return (message for message in outcome.messages if message.topic == self._starts)
