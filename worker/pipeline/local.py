"""The pipeline over records at hand, without a broker: all stages, in one partition."""

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
    """All stages over one partition.

    Args:
        processor: of that partition.
        shard: its state.
        stages: topics on which the processor publishes what it consumes itself, in order.
    """

    def __init__(self, processor: Processor, shard: Shard, stages: Sequence[str]) -> None:
        self._processor = processor
        self._shard = shard
        self._stages = stages
        self._published = dict.fromkeys(stages, 0)

    def process(self, records: Sequence[Record]) -> Iterator[BatchResult]:
        """Apply records, and then stage by stage what is published of them; yield what each stage gives."""
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
        """Do what time alone asks for."""
        return self._processor.fire_timers(0, now, self._shard)
