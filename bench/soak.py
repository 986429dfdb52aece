"""Ten minutes at a steady rate: the worker's memory and lag, as one JSON object and as a picture.

python -m bench.soak [--rate EVENTS_PER_SECOND] [--seconds 600] [--svg FILE]

The broker is Apache Kafka: the embedded one keeps everything in memory and gets slower with it. The store is this
script's, reached over HTTP, so that the worker's memory is measured alone. Before the measurement starts, the worker
processes some twenty minutes of traffic as fast as it can, so that nearly all users are known and their windows are
full: from then on memory has little reason to grow. Its throughput in the last third of that is its maximum on such
users; the soak's rate is 70% of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaProducer

from bench.processes import resident
from bench.setting import Setting, say
from tests.support.brokers import ApacheKafka
from worker.clickhouse.writer import connect
from worker.embedded.access import Role
from worker.embedded.store import EmbeddedStore
from worker.simulator import Simulator, profile

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

USERS = 20_000
HISTORY_EVENTS, HISTORY_RATE = 1_200_000, 1_000.0
"""Number of events processed before the measurement starts, and their rate in events a second."""
SHARE = 0.7
"""Rate of the soak as a share of the maximum throughput."""
SAMPLE_SECONDS = 5.0
GROWTH = 0.05
"""Share by which memory may be larger in the last fifth than in the one before the middle's."""
MIB = 1 << 20
ROWS = 'sessionwatch_rows_out_total{table="session_events"}'
WIDTH, HEIGHT, LEFT, BOTTOM = 760, 300, 60, 40


class Sample(NamedTuple):
    """What was seen at a moment: seconds since the start, MiB resident, records of lag, seconds the group is behind."""

    at: float
    mib: float
    lag: float
    behind: float


async def send(setting: Setting, rate: float, seconds: float) -> int:
    """Send events as they happen, in simulated time and on the clock; return how many."""
    started, sent = time.time(), 0
    simulator = Simulator(profile("benchmark", start_ms=int(started * 1000), users=USERS, rate=rate, max_events=None))
    async with AIOKafkaProducer(**setting.options, linger_ms=5) as producer:
        for event in simulator.events():
            ahead = sent / rate - (time.time() - started)
            if ahead > 0.01:
                await asyncio.sleep(ahead)
            if time.time() - started > seconds:
                return sent
            await producer.send(setting.topic, value=event.value, key=event.key, timestamp_ms=int(event.arrival_ms))
            sent += 1
    return sent


async def prepare(setting: Setting) -> int:
    """Send a history that ends now; return of how many events."""
    start_ms = int((time.time() - HISTORY_EVENTS / HISTORY_RATE) * 1000)
    config = profile("benchmark", start_ms=start_ms, users=USERS, rate=HISTORY_RATE, max_events=HISTORY_EVENTS)
    sent = 0
    async with AIOKafkaProducer(**setting.options, linger_ms=20) as producer:
        for event in Simulator(config).events():
            await producer.send(setting.topic, value=event.value, key=event.key, timestamp_ms=int(event.arrival_ms))
            sent += 1
    return sent


async def watch(setting: Setting, worker: subprocess.Popen[str], samples: list[Sample]) -> None:
    """Take a sample every few seconds, until cancelled."""
    started = time.time()
    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        lag = await asyncio.to_thread(setting.metric, "sessionwatch_consumer_lag_records")
        behind = await asyncio.to_thread(setting.metric, "sessionwatch_watermark_lag_seconds")
        samples.append(Sample(time.time() - started, resident([worker.pid]) / MIB, lag, behind))
        if len(samples) % 12 == 0:
            say(f"{samples[-1].at:.0f} s: {samples[-1].mib:.0f} MiB, lag {lag:,.0f}")


class Soaked(NamedTuple):
    """Events sent before the clock and on it, events a second at full speed, and what was seen."""

    before: int
    sent: int
    full_speed: float
    samples: list[Sample]


async def soak(setting: Setting, rate: float | None, seconds: float) -> Soaked:
    """Run a worker at a rate, or at a share of its maximum throughput."""
    samples: list[Sample] = []
    before = await prepare(setting)
    with setting.process("worker.cli", "worker") as worker:
        while not await asyncio.to_thread(setting.metric, "sessionwatch_ready"):
            if worker.poll() is not None:
                raise SystemExit(f"the worker ended: {(setting.directory / 'log').read_text()[-2000:]}")
            await asyncio.sleep(1)
        full_speed = await speed_at_last(setting, before)
        say(f"{before:,} events of history eaten, at {full_speed:,.0f}/s at last")
        watching = asyncio.create_task(watch(setting, worker, samples))
        sent = await send(setting, rate or SHARE * full_speed, seconds)
        watching.cancel()
        await eaten(setting, before + sent)
    return Soaked(before, sent, full_speed, samples)


async def speed_at_last(setting: Setting, events: int) -> float:
    """Wait until the worker has written the rows of so many events; return the last third's events a second."""
    first = await eaten(setting, events * 2 // 3)
    started = time.perf_counter()
    return (await eaten(setting, events) - first) / (time.perf_counter() - started)


async def eaten(setting: Setting, events: int) -> float:
    """Wait until the worker has written the rows of so many events; return of how many it then has."""
    while (rows := await asyncio.to_thread(setting.metric, ROWS)) < events:  # noqa: ASYNC110  it is another process
        await asyncio.sleep(1)
    return rows


def growth(samples: Sequence[Sample]) -> float:
    """Return the share by which memory grew from the second fifth to the last."""
    fifth = len(samples) // 5
    before, after = samples[fifth : 2 * fifth], samples[-fifth:]
    return mean(each.mib for each in after) / mean(each.mib for each in before) - 1


def picture(samples: Sequence[Sample], title: str) -> str:
    """Return an SVG of memory over time."""
    top, last = max(each.mib for each in samples) * 1.2, samples[-1].at
    step = 100 if top > 250 else 50

    def place(at: float, mib: float) -> str:
        return (
            f"{LEFT + (WIDTH - LEFT - 10) * at / last:.1f},{HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 40) * mib / top:.1f}"
        )

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/><text x="{LEFT}" y="20">{title}</text>',
    ]
    for mib in range(0, int(top), step):
        (x, y), (end, _) = place(0, mib).split(","), place(last, mib).split(",")
        lines.append(
            f'<path d="M{x},{y}H{end}" stroke="#ddd"/><text x="{LEFT - 6}" y="{y}" text-anchor="end">{mib}</text>'
        )
    for minute in range(0, int(last / 60) + 1, max(1, int(last / 600))):
        x, y = place(minute * 60, 0).split(",")
        lines.append(f'<text x="{x}" y="{float(y) + 16:.1f}" text-anchor="middle">{minute}</text>')
    points = " ".join(place(each.at, each.mib) for each in samples)
    lines.append(f'<polyline points="{points}" fill="none" stroke="#1f6feb" stroke-width="1.5"/>')
    lines.append(f'<text x="{WIDTH - 10}" y="{HEIGHT - 6}" text-anchor="end">minutes; MiB resident</text></svg>')
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the soak; return 1 when memory grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, help="Events a second instead of 70%% of full speed.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--svg", type=Path, help="Where the picture goes.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        with (
            ApacheKafka(directory / "kafka") as broker,
            EmbeddedStore(directory / "db") as store,
        ):
            os.environ["SESSIONWATCH_CLICKHOUSE__DSN"] = store.address.dsn(Role.WRITER)
            setting = Setting(broker, directory, "soak")
            soaked = asyncio.run(soak(setting, asked.rate, asked.seconds))
            with closing(connect(os.environ["SESSIONWATCH_CLICKHOUSE__DSN"])) as client:
                rows = client.query("SELECT count() FROM session_events FINAL").result_rows[0][0]
    samples = soaked.samples
    found = {
        "seconds": round(samples[-1].at), "history": soaked.before, "sent": soaked.sent, "rows": rows,
        "full_speed": round(soaked.full_speed), "events_per_second": round(soaked.sent / samples[-1].at),
        "most_lag": max(each.lag for each in samples), "behind": median(each.behind for each in samples),
        "most_behind": max(each.behind for each in samples), "first_mib": round(samples[0].mib),
        "last_mib": round(samples[-1].mib), "most_mib": round(max(each.mib for each in samples)),
        "growth": round(growth(samples), 3),
    }  # fmt: skip
    if asked.svg:
        asked.svg.write_text(
            picture(samples, f"One worker at {found['events_per_second']:,} events/s, {USERS:,} users")
        )
    print(json.dumps(found))
    return int(found["growth"] > GROWTH)


if __name__ == "__main__":
    raise SystemExit(main())
