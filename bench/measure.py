"""Measures one program on one broker with one store."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from contextlib import closing, suppress
from statistics import quantiles
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.mixes import preload, send_steadily
from bench.processes import by_thread, processor_seconds, resident, tree
from bench.setting import PARTITIONS, POLL_SECONDS, EndedError
from worker.clickhouse.writer import connect

if TYPE_CHECKING:
    import subprocess
    from collections import Counter
    from collections.abc import Callable, Mapping, Sequence

    from bench.contestants import Contestant
    from bench.mixes import Event, Sent
    from bench.peers.library import Counts
    from bench.setting import Setting, Store

START_SECONDS = 90.0
BEGIN_SHARE = 0.03
"""Share of the events that are processed before the measurement starts."""
WARM_EVENTS = 500
"""Number of events that are sent before the measurement of latency starts."""
ROW_POLL_SECONDS = 0.1
MIB = 1 << 20
_ROWS_SEEN = "SELECT kafka_partition, max(kafka_offset) FROM session_events GROUP BY kafka_partition"
_FOUND = """
SELECT
    (SELECT count() FROM session_events FINAL) AS rows,
    (SELECT uniqExact(finding_uid) FROM findings) AS findings,
    (
        SELECT sum(bytes_on_disk) / greatest(sum(rows), 1) FROM system.parts
        WHERE active AND table = 'session_events'
    ) AS row_bytes
"""


class Sample(NamedTuple):
    """A sample: the time, the progress, processor seconds by role and by thread, resident bytes."""

    at: float
    counts: Counts
    seconds: Mapping[str, float]
    threads: Counter[str]
    resident: int


class Run(NamedTuple):
    """A running program."""

    contestant: Contestant
    setting: Setting
    store: Store
    process: subprocess.Popen[bytes]

    def counts(self) -> Counts:
        """Return its progress so far."""
        return self.contestant.counts(self.setting)

    def sample(self) -> Sample:
        """Take a sample."""
        own, at, counts = list(tree(self.process.pid)), time.perf_counter(), self.counts()
        roles = {"program": own, "store": self.store.pids, "broker": (self.setting.broker.pid or 0,)}
        seconds = {role: processor_seconds(pids) for role, pids in roles.items()}
        return Sample(at, counts, seconds, by_thread(own), resident(own))

    def await_processed(self, events: float) -> Sample:
        """Wait until this many events are processed; raise `EndedError` if the program ends or makes no progress."""
        return self._await(lambda counts: counts.processed >= events)

    def await_durable(self, events: int) -> Sample:
        """Wait until the rows of this many events are durable; raise `EndedError` as above."""
        return self._await(lambda counts: counts.durable >= events)

    def _await(self, is_reached: Callable[[Counts], bool]) -> Sample:
        deadline = time.monotonic() + START_SECONDS
        while not is_reached(counts := self.counts()):
            self.setting.require(self.process, deadline, str(counts))
            time.sleep(self.contestant.poll_seconds)
        return self.sample()


def throughput(run: Run, total: int, seconds: float, started: float) -> dict[str, Any]:
    """Measure the throughput of a program whose input topic contains all events from the start.

    The measurement begins after the first 3% of the events and ends when all rows are durable, or after `seconds`.

    Args:
        run: the program, just started.
        total: number of events on the topic.
        seconds: maximum duration of the measurement.
        started: `time.perf_counter()` at its start.
    """
    first = run.await_processed(1)
    begin = run.await_processed(max(total * BEGIN_SHARE, 1))
    while not _is_done(last := run.sample(), begin, total, seconds):
        run.setting.require(run.process)
        time.sleep(run.contestant.poll_seconds)
    events = last.counts.processed - begin.counts.processed
    return {
        "start_seconds": round(first.at - started, 1),
        "events": events,
        "processed": last.counts.processed,
        "events_per_second": round(events / max(last.at - begin.at, 1e-3)),
        **_costs(begin, last, events),
        "resident_mib": round(last.resident / MIB),
        "base_mib": round(first.resident / MIB),
    }


def _is_done(sample: Sample, begin: Sample, total: int, seconds: float) -> bool:
    return sample.counts.durable >= total or (
        sample.at - begin.at >= seconds and sample.counts.processed > begin.counts.processed
    )


def _costs(begin: Sample, last: Sample, events: int) -> dict[str, Any]:
    """Return the processor time of an event in microseconds, by process, and by thread of the program."""
    each = 1e6 / max(events, 1)
    threads = {name: (value - begin.threads[name]) * each for name, value in last.threads.items()}
    return {
        "us_per_event": {role: round((last.seconds[role] - begin.seconds[role]) * each, 1) for role in last.seconds},
        "us_by_thread": {name: round(value, 1) for name, value in sorted(threads.items()) if value >= 0.1},
    }


def cost(run: Run, warm: Sequence[Event], events: Sequence[Event]) -> float:
    """Return the program's processor time of an event, in microseconds. Other load on the machine hardly changes it.

    Args:
        run: the program, just started.
        warm: events that are sent before, so that the start is not included.
        events: the measured events.
    """
    setting = run.setting
    asyncio.run(preload(setting.options, setting.topic, warm))
    begin = run.await_durable(len(warm))
    asyncio.run(preload(setting.options, setting.topic, events))
    last = run.await_durable(len(warm) + len(events))
    return (last.seconds["program"] - begin.seconds["program"]) * 1e6 / len(events)


def stored(store: Store) -> dict[str, int]:
    """Return the number of rows and of different findings in a store, and the bytes of a row on disk."""
    with closing(connect(store.query_dsn)) as client:
        found = client.query(_FOUND)
        return {name: round(value) for name, value in zip(found.column_names, found.result_rows[0], strict=True)}


def restart(contestant: Contestant, setting: Setting, store: Store, event: Event) -> dict[str, Any]:
    """Start a program again, as on a new machine that recovers its state from Kafka; wait for its first event."""
    if contestant.state:
        shutil.rmtree(setting.directory / contestant.state, ignore_errors=True)
    setting.progress.unlink(missing_ok=True)
    asyncio.run(preload(setting.options, setting.topic, [event]))
    started = time.perf_counter()
    with setting.program(contestant.command()) as process:
        run = Run(contestant, setting, store, process)
        return {"restart_seconds": round(run.await_processed(1).at - started, 1)}


async def changelog(setting: Setting) -> dict[str, int]:
    """Return the number of records and bytes, including keys, of a program's changelog topics."""
    records = size = 0
    async with AIOKafkaConsumer(**setting.options) as consumer:
        names = [name for name in await consumer.topics() if setting.name in name and "changelog" in name]
        for name in names:
            tps = [TopicPartition(name, number) for number in range(PARTITIONS)]
            consumer.assign(tps)
            await consumer.seek_to_beginning()
            ends = {tp: end for tp, end in (await consumer.end_offsets(tps)).items() if end}
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    records += len(batch)
                    size += sum(len(each.key or b"") + len(each.value or b"") for each in batch)
    return {"changelog_records": records, "changelog_bytes": size}


async def latency(run: Run, events: Sequence[Event], rate: float) -> dict[str, Any]:
    """Send events at a steady rate; measure the time from a record's timestamp to its finding and to its row."""
    setting = run.setting
    await preload(setting.options, setting.topic, events[:WARM_EVENTS])
    await asyncio.to_thread(run.await_processed, WARM_EVENTS)
    begin = await asyncio.to_thread(run.sample)
    since = int(time.time() * 1000)
    reading = asyncio.create_task(_finding_delays(setting, since))
    looking = asyncio.create_task(_row_times(run.store)) if run.contestant.store else None
    sent = await send_steadily(setting.options, setting.topic, events[WARM_EVENTS:], rate)
    took = time.perf_counter() - begin.at
    await _settled(run, len(events))
    last = await asyncio.to_thread(run.sample)
    await asyncio.sleep(1)
    result = {"rate": round(len(sent) / took), **_costs(begin, last, len(sent)), "finding": await _cut(reading)}
    if looking is not None:
        looking.cancel()
        result["row"] = _percentiles(_row_delays(sent, await looking))
    return result


async def _settled(run: Run, events: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while run.counts().durable < events:
        if time.monotonic() > deadline:
            raise EndedError("it did not keep up with the rate")
        await asyncio.sleep(POLL_SECONDS)


async def _cut(reading: asyncio.Task[list[float]]) -> dict[str, float]:
    reading.cancel()
    return _percentiles(await reading)


def _percentiles(delays: Sequence[float]) -> dict[str, float]:
    if len(delays) < 2:
        return {"count": len(delays)}
    cuts = quantiles(delays, n=1000)
    marks = {"p50_ms": cuts[499], "p99_ms": cuts[989], "p999_ms": cuts[998]}
    return {"count": len(delays), **{name: round(value, 1) for name, value in marks.items()}}


async def _finding_delays(setting: Setting, since: int) -> list[float]:
    delays: list[float] = []
    async with AIOKafkaConsumer(**setting.options, fetch_max_wait_ms=10) as consumer:
        consumer.assign([TopicPartition(setting.topics.findings, partition) for partition in range(PARTITIONS)])
        with suppress(asyncio.CancelledError):
            while True:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    now = time.time() * 1000
                    times = [json.loads(record.value)["time"] for record in records]
                    delays += [now - each for each in times if each >= since]
        return delays


async def _row_times(store: Store) -> list[tuple[float, dict[int, int]]]:
    """Poll the store for its rows; return for each time the offsets that it had, by partition."""
    seen: list[tuple[float, dict[int, int]]] = []
    with closing(await asyncio.to_thread(connect, store.query_dsn)) as client:
        with suppress(asyncio.CancelledError):
            while True:
                rows = (await asyncio.to_thread(client.query, _ROWS_SEEN)).result_rows
                seen.append((time.time() * 1000, {int(partition): int(offset) for partition, offset in rows}))
                await asyncio.sleep(ROW_POLL_SECONDS)
        return seen


def _row_delays(sent: Sequence[Sent], seen: Sequence[tuple[float, Mapping[int, int]]]) -> list[float]:
    """Return the delay of each row until it was seen; up to 0.1 s too long because of the polling."""
    delays = []
    for partition in range(PARTITIONS):
        looks = iter(seen)
        at, offset = next(looks, (0.0, {}))[0], -1
        for record in sorted(each for each in sent if each.partition == partition):
            while offset < record.offset:
                look = next(looks, None)
                if look is None:
                    return delays
                at, offset = look[0], look[1].get(partition, -1)
            delays.append(at - record.at)
    return delays
