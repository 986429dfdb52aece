"""Lines of a file onto the input topic, as a producer would have sent them when they happened."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, BinaryIO

import orjson

from schemas.event import SessionEvent
from schemas.inbound import decode
from worker.pipeline import user_key
from worker.sinks.clickhouse import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aiokafka import AIOKafkaProducer

SKEW_MS = 60_000
EXPORT = """
SELECT * FROM findings FINAL ORDER BY tenant_id, event_time, finding_uid
"""


class Lines:
    """The records of a file of JSON lines.

    A record's timestamp is stream time: the newest time named so far, but none later than the file itself, so that
    a second run gives the same, and a date far ahead does not become now. Before any, it is the file's time.

    Args:
        file: `-` is standard input, whose time is now.
        topic: where records go.

    Attributes:
        read: lines sent so far; blank ones do not count.

    Raises:
        FileNotFoundError: there is no such file.
    """

    def __init__(self, file: Path, topic: str) -> None:
        self.read = 0
        self._topic = topic
        self._file = file
        self._ceiling = time.time_ns() // 1_000_000 if str(file) == "-" else file.stat().st_mtime_ns // 1_000_000
        self._newest = 0

    async def send(self, producer: AIOKafkaProducer, partitions: int) -> None:
        """Produce every line; keyed by user where there is one, else in turn."""
        for line in self._lines():
            key, timestamp = self._place(line)
            partition = None if key else self.read % partitions
            await producer.send(self._topic, value=line, key=key, partition=partition, timestamp_ms=timestamp)
            self.read += 1
        await producer.flush()

    def _lines(self) -> Iterator[bytes]:
        if str(self._file) == "-":
            yield from _not_blank(sys.stdin.buffer)
            return
        with self._file.open("rb") as file:
            yield from _not_blank(file)

    def _place(self, line: bytes) -> tuple[bytes | None, int]:
        """Return key and timestamp of a line."""
        now = self._newest or self._ceiling
        event = decode(line, record_time=self._ceiling, skew_ms=0)
        if not isinstance(event, SessionEvent):
            return None, now
        if not event.future_by and _has_time(event):
            self._newest = max(self._newest, event.event_time)
        return user_key(event.tenant_id, event.user_id), self._newest or self._ceiling


def _has_time(event: SessionEvent) -> bool:
    return bool(event.created_at or event.updated_at or event.last_used_at)


def _not_blank(file: BinaryIO) -> Iterator[bytes]:
    for line in file:
        stripped = line.strip()
        if stripped:
            yield stripped


def export_findings(dsn: str, path: Path) -> None:
    """Write every finding as a JSON line, in order of tenant, time and uid."""
    with closing(connect(dsn)) as client:
        found = client.query(EXPORT)
    names = found.column_names
    with path.open("wb") as out:
        for row in found.result_rows:
            finding = dict(zip(names, row, strict=True))
            finding["evidence"] = orjson.loads(finding["evidence"])
            out.write(orjson.dumps(finding, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))
