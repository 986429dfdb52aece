"""The pipeline over records at hand, without a broker: both stages, in one partition."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.outcome import Message, Outcome, Processor, Record, Shard
    from worker.simulator import SimEvent

BATCH = 2_000


class Arrived(msgspec.Struct):
    """What arrived as a Kafka record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def arrived(events: Iterable[SimEvent], topic: str = "events") -> Iterator[Record]:
    """Yield simulated events as records of one partition."""
    for number, event in enumerate(events):
        yield Arrived(topic, 0, number, int(event.arrival_ms), event.key, event.value, ())


def batches(records: Iterable[Record], size: int = BATCH) -> Iterator[Sequence[Record]]:
    """Yield records some at a time."""
    left = iter(records)
    while batch := list(islice(left, size)):
        yield batch


class Offline:
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

    def process(self, records: Sequence[Record]) -> Iterator[Outcome]:
        """Apply records, and then stage by stage what is published of them; yield what each stage gives."""
        outcomes = [self._processor.process(0, records, self._shard)]
        yield outcomes[0]
        for topic in self._stages:
            messages = [message for each in outcomes for message in each.messages if message.topic == topic]
            if messages:
                outcomes.append(self._processor.process(0, self._consumed(topic, messages), self._shard))
                yield outcomes[-1]

    def _consumed(self, topic: str, messages: Sequence[Message]) -> list[Record]:
        first = self._published[topic]
        self._published[topic] += len(messages)
        return [
            Arrived(topic, 0, number, message.timestamp or 0, message.key, message.value, ())
            for number, message in enumerate(messages, first)
        ]

    def sweep(self, now: int) -> Outcome:
        """Do what time alone asks for."""
        return self._processor.sweep(0, now, self._shard)
