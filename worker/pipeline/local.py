"""Runs all stages of the pipeline over records without a broker, in one partition."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from worker.pipeline.ports import LocalRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from worker.pipeline.ports import BatchResult, Message, Processor, Record, Shard

BATCH = 2_000


def batches(records: Iterable[Record], size: int = BATCH) -> Iterator[Sequence[Record]]:
    """Yield the records in batches."""
    left = iter(records)
    while batch := list(islice(left, size)):
        yield batch


class LocalPipeline:
    """All stages over one partition.

    Args:
        processor: the pure core.
        shard: the state of the partition.
        stages: topics that the processor both publishes to and consumes, in order.
    """

    def __init__(self, processor: Processor, shard: Shard, stages: Sequence[str]) -> None:
        self._processor = processor
        self._shard = shard
        self._stages = stages
        self._published = dict.fromkeys(stages, 0)

    def process(self, records: Sequence[Record]) -> Iterator[BatchResult]:
        """Apply records, then the messages they cause, stage by stage; yield the result of each stage."""
        results = [self._processor.process(0, records, self._shard)]
        yield results[0]
        for topic in self._stages:
            messages = [message for each in results for message in each.messages if message.topic == topic]
            if messages:
                results.append(self._processor.process(0, self._consumed(topic, messages), self._shard))
                yield results[-1]

    def _consumed(self, topic: str, messages: Sequence[Message]) -> list[Record]:
        first = self._published[topic]
        self._published[topic] += len(messages)
        return [
            LocalRecord(topic, 0, number, message.timestamp or 0, message.key, message.value, ())
            for number, message in enumerate(messages, first)
        ]

    def fire_timers(self, now: int) -> BatchResult:
        """Fire the timers that are due at `now`, milliseconds."""
        return self._processor.fire_timers(0, now, self._shard)
