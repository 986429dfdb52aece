"""The parts of `demo`: its settings, its simulated traffic, and the snapshots of its worker."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from worker.observe.snapshot import Snapshot
from worker.sessions.fold import is_live
from worker.sessions.state import decode_user, is_user
from worker.simulator import Simulator, profile, write_geo
from worker.simulator.producer import TrafficProducer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.apps.build import WorkerParts
    from worker.settings import Settings

TICK_SECONDS = 0.5
SPEEDS = 60
TENANTS, USERS = 6, 1_200
WARMUP_DAYS, SESSIONS = 15.0, 3
"""Days of history, as long as a learning period, and sessions per user in them: few, to catch up within seconds."""
CLOSE = 500
"""The worker has caught up when fewer records than this, or than those of one second, are unread."""
SAMPLE = 400
"""Users sampled per tick to estimate the active sessions by tenant."""


def demo_settings(settings: Settings) -> Settings:
    """Return settings with the geo files of the simulated world, which are created if they do not exist."""
    city, asn = write_geo(settings.data_dir.resolve() / "geo")
    geo = settings.geo.model_copy(update={"city_db": city, "asn_db": asn})
    return settings.model_copy(update={"geo": geo})


class Watcher:
    """Takes snapshots of a running worker; latencies are measured once the history is read."""

    def __init__(self, parts: WorkerParts, addresses: Mapping[str, str], feed: TrafficProducer) -> None:
        self._parts = parts
        self._addresses = addresses
        self._feed = feed
        self._caught_up = False
        self._started = self._last = time.perf_counter()
        self._read = 0
        self._speeds: deque[float] = deque(maxlen=SPEEDS)

    def snapshot(self) -> Snapshot:
        """Return the figures of this moment."""
        app, recorder = self._parts.app, self._parts.recorder
        now = time.perf_counter()
        read = recorder.read
        self._speeds.append((read - self._read) / max(now - self._last, 1e-3))
        self._read, self._last = read, now
        lag = sum(app.lag().values()) if not app.problems else 0
        if not self._caught_up and self._feed.is_live and read and lag < max(CLOSE, self._speeds[-1]):
            self._caught_up = True
            recorder.forget_latencies()
        return Snapshot(
            elapsed=now - self._started,
            addresses=self._addresses,
            events_per_second=self._speeds[-1],
            speeds=tuple(self._speeds),
            read=read,
            lag=lag,
            in_flight=app.delivery.in_flight.rows,
            rows=dict(recorder.rows),
            rejected=dict(recorder.rejected),
            sessions=self._sessions(),
            latency_p50=recorder.latency(0.5) if self._caught_up else None,
            latency_p99=recorder.latency(0.99) if self._caught_up else None,
            severities=dict(recorder.severities),
            incidents=tuple(reversed(recorder.incidents.values())),
            waiting_for=app.problems,
            doing="" if self._caught_up else f"reading {WARMUP_DAYS:.0f} days of history",
        )

    def _sessions(self) -> dict[str, int]:
        """Return the active sessions by tenant, extrapolated from a sample when there are many users."""
        shards = list(self._parts.app.delivery.queues.values())
        states = [state for shard in shards for _, state in shard.items() if is_user(state)]
        step = max(len(states) // SAMPLE, 1)
        now = time.time_ns() // 1_000_000
        found: Counter[str] = Counter()
        for state in states[::step]:
            user = decode_user(state)
            found[user.tenant_id] += sum(is_live(session, now) for session in user.current.sessions.values())
        return {tenant: count * step for tenant, count in found.most_common()}


async def watch(watcher: Watcher, on_tick: Callable[[Snapshot], None], until: asyncio.Event) -> None:
    """Pass on snapshots until the event is set."""
    while not until.is_set():
        on_tick(watcher.snapshot())
        try:
            await asyncio.wait_for(until.wait(), TICK_SECONDS)
        except TimeoutError:
            continue
    on_tick(watcher.snapshot())


def traffic_of(settings: Settings, rate: float, duration: float | None) -> TrafficProducer:
    """Return the traffic of a demo: days of history at once, then `rate` events per second, with attacks."""
    start = time.time_ns() // 1_000_000
    config = profile(
        "demo",
        seed=1,
        start_ms=start,
        tenants=TENANTS,
        users=max(USERS, int(rate * 6)),
        rate=rate,
        warmup_days=WARMUP_DAYS,
        history_sessions=SESSIONS,
    )
    until = float("inf") if duration is None else start + duration * 1000
    return TrafficProducer(
        Simulator(config).events(),
        settings.topics.events,
        clock=lambda: time.time() * 1000,
        sleep=asyncio.sleep,
        until_ms=until,
    )
