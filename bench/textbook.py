"""The textbook way to do the same job, for comparison: one Faust agent, one event at a time.

Every event is decoded, judged and enriched by the same pure pipeline, its state set in a Faust table (one changelog
message an event), findings sent one by one, rows inserted through clickhouse-connect every thousand rows.
It prints how many events it has done to standard output, once a second, until it is stopped.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust

from worker.runtime import build_pipeline
from worker.settings import Settings
from worker.sinks.clickhouse import connect

if TYPE_CHECKING:
    from collections.abc import Iterable

INSERT_EVERY = 1000


class TableShard:
    """A Faust table as a shard: every `put` is a changelog message."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def get(self, key: bytes) -> bytes | None:
        return self._table.get(key)  # type: ignore[no-any-return]

    def put(self, key: bytes, state: bytes | None) -> None:
        self._table[key] = state

    def due(self, _now: int) -> Iterable[bytes]:
        return ()

    def __len__(self) -> int:
        return len(self._table)


class ThisRecord:
    """The current event of a stream as a record."""

    def __init__(self, message: Any, value: bytes) -> None:
        self.topic, self.partition, self.offset = message.topic, message.partition, message.offset
        self.timestamp = int(message.timestamp * 1000)
        self.key, self.value, self.headers = message.key, value, ()
