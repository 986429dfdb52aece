"""What the peers share: the worker's pure rules on one event, its way to insert rows, and a count of what is done."""

from __future__ import annotations

import mmap
import os
import struct
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from worker.apps.build import build_pipeline, settle_memory
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect, write_rows
from worker.detections.policies import Policies
from worker.detections.registry import detections
from worker.enrich.enricher import build_enricher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from worker.pipeline.batch import Pipeline
    from worker.pipeline.local import LocalRecord
    from worker.pipeline.ports import BatchResult, Shard
    from worker.settings import Settings

INSERT_ROWS, INSERT_SECONDS = 20_000, 1.0
"""Rows are inserted when so many wait, or when the first has waited so long."""
COUNTS = struct.Struct(">qq")
PROGRESS = "BENCH_PROGRESS"
"""Variable with the path of the file that counts what is done."""


class Counts(NamedTuple):
    """Events that were processed, and those of them whose rows are durable."""

    processed: int
    durable: int


class Progress:
    """Counts in a file that the benchmark reads while the peer runs."""

    def __init__(self, path: str | None = None) -> None:
        file = Path(path or os.environ[PROGRESS])
        file.write_bytes(COUNTS.pack(0, 0))
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), COUNTS.size)
        self._processed = 0

    def add(self, events: int = 1) -> None:
        """Count events as processed."""
        self._processed += events
        COUNTS.pack_into(self._map, 0, self._processed, COUNTS.unpack_from(self._map)[1])

    def set_durable(self, events: int) -> None:
        """Set how many events have durable rows."""
        COUNTS.pack_into(self._map, 0, self._processed, events)


def counted(path: Path) -> Counts:
    """Return what a peer has done so far."""
    try:
        return Counts(*COUNTS.unpack(path.read_bytes()))
    except (OSError, struct.error):
        return Counts(0, 0)


class OneState:
    """The state of one user as a shard: what a framework hands to a function that is called for a key.

    Other keys have no state here: the default policy has no alert budget, which is the one thing that would need one.
    """

    def __init__(self, key: bytes, state: bytes | None) -> None:
        self._key = key
        self.state = state

    def get(self, key: bytes) -> bytes | None:
        """Return the state."""
        return self.state if key == self._key else None

    def put(self, key: bytes, state: bytes | None) -> None:
        """Set the state."""
        if key == self._key:
            self.state = state

    def pop_due(self, _now: int) -> Iterable[bytes]:
        """Return nothing: the peers have no timer."""
        return ()

    def __len__(self) -> int:
        return int(self.state is not None)


class Rules:
    """The first stage of the worker's pure pipeline, one event at a time."""

    def __init__(self, settings: Settings) -> None:
        enricher = build_enricher(settings.geo.city_db, settings.geo.asn_db)
        enricher.warm()
        self._pipeline: Pipeline = build_pipeline(settings, Policies(detections().values()), enricher)
        settle_memory()

    def apply(self, record: LocalRecord, shard: Shard) -> BatchResult:
        """Return what a record gives; its new state is in the shard."""
        return self._pipeline.process(record.partition, [record], shard)


class RowBuffer:
    """Rows on their way into ClickHouse, inserted as the worker inserts them. `flush` returns when they are durable.

    Args:
        settings: with the store's address.
        on_durable: called with the number of events whose rows are durable so far.
        rows, seconds: when it is time for an insert.
    """

    def __init__(
        self,
        settings: Settings,
        on_durable: Callable[[int], None],
        rows: int = INSERT_ROWS,
        seconds: float = INSERT_SECONDS,
    ) -> None:
        dsn = settings.store_dsn()
        with closing(connect(dsn)) as client:
            migrations.up(client)
        self._client = connect(dsn)
        self._on_durable = on_durable
        self._most, self._longest = rows, seconds
        self._rows: dict[str, list[bytes]] = {}
        self._waiting = self._events = 0
        self._since = 0.0

    def add(self, tables: Mapping[str, Sequence[bytes]], events: int = 1) -> None:
        """Take the rows of some events."""
        self._since = self._since or time.monotonic()
        self._waiting += events
        for table, rows in tables.items():
            self._rows.setdefault(table, []).extend(rows)

    def is_due(self) -> bool:
        """Tell whether it is time to insert."""
        is_old = bool(self._since) and time.monotonic() - self._since >= self._longest
        return is_old or self._waiting >= self._most

    def flush(self) -> None:
        """Insert what waits."""
        for table, rows in self._rows.items():
            write_rows(self._client, table, rows)
        self._rows.clear()
        self._events, self._waiting, self._since = self._events + self._waiting, 0, 0.0
        self._on_durable(self._events)
