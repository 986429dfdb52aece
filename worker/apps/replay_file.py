"""The lines of a file as records of the input topic, and the results as JSON lines."""

from __future__ import annotations

import base64
import sys
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from schemas.decoding import Rejected
from schemas.event import SessionEvent, Shape
from schemas.keys import partition_of, user_key
from worker.clickhouse.writer import connect
from worker.stream.deadletters import letters

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from aiokafka import AIOKafkaProducer
    from aiokafka.structs import RecordMetadata

    from schemas.decoding import Decoder
    from schemas.decoding.results import DeletedRow
    from worker.stream.deadletters import DeadLetter

SKEW_MS = 60_000
EXPORT = """
SELECT * FROM findings FINAL ORDER BY tenant_id, event_time, finding_uid
"""


class ReplayFile:
    """The records of a file of JSON lines.

    A record's timestamp is stream time: the newest event time so far, at most the file's modification time. So a second
    run gives the same result, and a date in the future has no effect. Before the first event it is the file's time.

    Args:
        file: `-` is standard input, whose time is now.
        topic: where records go.
        decoder: reads the lines.
        numbered: keep the number of every line, not only of lines that are not events.

    Attributes:
        read: lines sent so far, without blank lines.
        size: bytes of the file; 0 when it is standard input.
        numbers: partition and offset -> number in the file, from 1; of all lines when `numbered`.

    Raises:
        FileNotFoundError: there is no such file.
    """

    def __init__(self, file: Path, topic: str, decoder: Decoder, *, numbered: bool = False) -> None:
        self.read = 0
        self.numbers: dict[tuple[int, int], int] = {}
        self._numbered = numbered
        self._decoder = decoder
        self._topic = topic
        self._file = file
        self._ceiling = time.time_ns() // 1_000_000 if str(file) == "-" else file.stat().st_mtime_ns // 1_000_000
        self.size = 0 if str(file) == "-" else file.stat().st_size
        self._newest = 0
        self._rows: dict[str, bytes] = {}

    async def send(self, producer: AIOKafkaProducer, partitions: int) -> None:
        """Produce every line, keyed by its user; lines without a user are spread over the partitions."""
        for number, line in self._lines():
            key, timestamp, row = self._place(line)
            partition = None if key else self._partition(row, partitions)
            sent = await producer.send(self._topic, value=line, key=key, partition=partition, timestamp_ms=timestamp)
            if key is None or self._numbered:
                sent.add_done_callback(partial(self._number, number))
            self.read += 1
        await producer.flush()

    def _number(self, number: int, sent: Future[RecordMetadata]) -> None:
        if not (sent.cancelled() or sent.exception()):
            self.numbers[sent.result().partition, sent.result().offset] = number

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        if str(self._file) == "-":
            yield from bounded_lines(sys.stdin.buffer, self._decoder.max_bytes)
            return
        with self._file.open("rb") as file:
            yield from bounded_lines(file, self._decoder.max_bytes)

    def _partition(self, row: DeletedRow | None, partitions: int) -> int:
        """Return the partition of a line without a user: the one with the earlier changes of its row, else the next."""
        key = self._rows.get(row.uid) if row else None
        return self.read % partitions if key is None else partition_of(key, partitions)

    def _place(self, line: bytes) -> tuple[bytes | None, int, DeletedRow | None]:
        """Return key and timestamp of a line, and the row of which it says nothing but its deletion."""
        now = self._newest or self._ceiling
        event = self._decoder.decode(line, self._ceiling)
        if not isinstance(event, SessionEvent):
            return None, now, event.row if isinstance(event, Rejected) else None
        # An event without a time of its own or of its envelope gets the time of its record.
        if event.event_time < self._ceiling:
            self._newest = max(self._newest, event.event_time)
        key = user_key(event.tenant_id, event.user_id)
        if event.shape == Shape.DEBEZIUM:
            self._rows[event.session_uid] = key
        return key, self._newest or self._ceiling, None


def bounded_lines(file: BinaryIO, longest: int) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of the lines that are not blank; of a longer line its first `longest` + 1 bytes."""
    number = 0
    while line := file.readline(longest + 2):
        number += 1
        rest = line
        while len(rest) == longest + 2 and not rest.endswith(b"\n"):
            rest = file.readline(longest + 2)
        content = line.strip() if rest is line else line[: longest + 1]
        if content:
            yield number, content


async def export_letters(
    options: Mapping[str, Any], topic: str, numbers: Mapping[tuple[int, int], int], path: Path
) -> None:
    """Write every dead letter as a JSON line, in the order of the file.

    Args:
        options: aiokafka connection options.
        topic: the dead-letter topic.
        numbers: see `ReplayFile`.
        path: the output file.
    """
    found = [(numbers.get(letter.origin[1:]), letter) async for letter in letters(options, topic)]
    found.sort(key=lambda item: item[0] or 0)
    with path.open("wb") as out:
        out.writelines(_letter_line(number, letter) for number, letter in found)


def _letter_line(number: int | None, letter: DeadLetter) -> bytes:
    """Return the number of the line, why it was rejected, and its bytes."""
    value = letter.value or b""
    try:
        body = {"value": value.decode()}
    except UnicodeDecodeError:
        body = {"value_base64": base64.b64encode(value).decode()}
    error = {"line": number, "reason": letter.reason, "field": letter.field, "message": letter.message}
    return orjson.dumps(error | body, option=orjson.OPT_APPEND_NEWLINE)


def export_findings(dsn: str, path: Path) -> None:
    """Write every finding as a JSON line, in order of tenant, time and uid."""
    with closing(connect(dsn)) as client:
        found = client.query(EXPORT)
    names = found.column_names
    with path.open("wb") as out:
        for row in found.result_rows:
            finding = dict(zip(names, row, strict=True))
            finding["evidence"] = orjson.loads(finding["evidence"])
            out.write(orjson.dumps(finding, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC))
