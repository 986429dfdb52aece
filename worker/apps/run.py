"""Helpers for commands that run a worker: its producer, its end and its summary."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer
from faust.types import TP

from worker.observe.snapshot import Summary
from worker.stream.catchup import caught_up
from worker.stream.connection import aiokafka_options, explained

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from worker.apps.build import WorkerParts
    from worker.observe.recorder import Recorder
    from worker.settings import Settings
    from worker.stream.app import App
NO_LIMIT = 86_400.0
"""Seconds. A command waits until everything is durable."""


@asynccontextmanager
async def producing(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """Connect a producer for input records."""
    options = aiokafka_options(settings.kafka)
    producer = AIOKafkaProducer(**options, acks="all", linger_ms=5, max_batch_size=1 << 19, max_request_size=64 << 20)
    async with explained(options), producer:
        yield producer


async def _ends(settings: Settings, app: App) -> dict[TP, int]:
    tps = {TP(settings.topics.events, partition) for partition in range(settings.topics.partitions)}
    found = await app.consumer.highwaters(*tps)
    return {tp: end or 0 for tp, end in found.items()}


async def finish(settings: Settings, parts: WorkerParts) -> None:
    """Wait until all input is durable, then fire the timers up to the newest event time."""
    await caught_up(parts.app, await _ends(settings, parts.app))
    await parts.app.timers.fire_last()
    await parts.app.delivery.drain(NO_LIMIT)


def summary_of(recorder: Recorder, read: int, seconds: float, *, interrupted: bool) -> Summary:
    """Return the summary of a run; rows that the store had before are not counted."""
    return Summary(
        read=read,
        accepted=recorder.count("accepted"),
        rejected=recorder.count("rejected"),
        ignored=recorder.count("ignored"),
        rows=recorder.rows["session_events"],
        findings=sum(recorder.severities.values()),
        seconds=seconds,
        interrupted=interrupted,
        reasons=dict(recorder.rejected),
        unevaluated=dict(recorder.unevaluated),
        failed=recorder.failed,
        failures=dict(recorder.failures),
    )
