"""`replay`: the whole pipeline, embedded, over a file of JSON lines."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from worker.apps.build import build_decoder, build_worker, settle_memory, usable_detections
from worker.apps.embedded import embedded
from worker.apps.replay_file import ReplayFile, export_findings, export_letters
from worker.apps.run import finish, producing, summary_of
from worker.detections.policies import read_policies
from worker.stream.connection import aiokafka_options
from worker.stream.produce import produce
from worker.stream.run import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from worker.observe.recorder import Recorder
    from worker.observe.snapshot import Summary
    from worker.settings import Settings
PROGRESS_SECONDS = 0.3
PATIENCE_SECONDS = 30.0
"""Inserts that fail for so long end the run: nobody is there who would repair the store meanwhile."""
SMALL_FILE, SMALL_SESSION_TIMEOUT = 4 << 20, 2.0
"""Bytes up to which a file is small, and seconds of the consumer group's session timeout then. The embedded broker lets
a new group form after half of it, which would be most of what a small replay takes."""


def replay(
    settings: Settings,
    file: Path,
    *,
    findings: Path | None = None,
    dead_letters: Path | None = None,
    policies: Path | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Summary:
    """Run a file of JSON lines through the whole pipeline; return when everything is durable.

    Args:
        settings: `data_dir` is where the store is kept.
        file: JSON lines of any accepted shape; `-` is standard input.
        findings: where to write the findings as JSON lines.
        dead_letters: where to write the rejected lines, likewise, each with its reason.
        policies: a JSON document of tenant policies, see `read_policies`.
        on_progress: told now and then how far it is.

    Raises:
        FileNotFoundError: there is no such file.
        BadPolicyError: a policy cannot be used.
        PluginError: a plug-in cannot be used.
        StoreRefusedError: the store has refused rows for `PATIENCE_SECONDS`.
        BadMappingError: the input's mapping cannot be used.
    """
    started = time.perf_counter()
    decoder = build_decoder(settings, clock_skew=0)
    lines = ReplayFile(file, settings.topics.events, decoder, numbered=dead_letters is not None)
    documents = read_policies(policies.read_bytes()) if policies else {}
    usable_detections(settings)
    with embedded(settings) as (served, _):
        changed = _quick(served) if 0 < lines.size <= SMALL_FILE else served
        settle_memory()
        recorder = asyncio.run(_replay(changed, lines, documents, on_progress))
        if dead_letters is not None:
            options = aiokafka_options(changed.kafka)
            asyncio.run(export_letters(options, changed.topics.dlq, lines.numbers, dead_letters))
        if findings is not None:
            export_findings(changed.store_dsn(), findings)
        return summary_of(recorder, lines.read, time.perf_counter() - started, interrupted=False)


def _quick(settings: Settings) -> Settings:
    """Return settings with which a group forms at once."""
    stream = settings.stream.model_copy(update={"session_timeout_s": SMALL_SESSION_TIMEOUT})
    return settings.model_copy(update={"stream": stream})


async def _replay(
    settings: Settings, lines: ReplayFile, documents: Mapping[str, bytes], on_progress: Callable[[str], None]
) -> Recorder:
    for tenant, document in documents.items():
        await produce(settings.kafka, settings.topics.policies, tenant, document)
    async with _telling(lambda: f"{lines.read:,} lines sent", on_progress), producing(settings) as producer:
        await lines.send(producer, settings.topics.partitions)
    parts = build_worker(settings, timer_clock="stream", web=False, patience=PATIENCE_SECONDS)
    done = parts.recorder
    async with _telling(lambda: f"{done.read:,} of {lines.read:,} lines judged", on_progress), running(parts.app):
        await finish(settings, parts)
    await parts.writer.close()
    return done


@asynccontextmanager
async def _telling(text: Callable[[], str], tell: Callable[[str], None]) -> AsyncIterator[None]:
    """Tell how far it is, a few times a second, for as long as it takes."""

    async def keep_telling() -> None:
        while True:
            tell(text())
            await asyncio.sleep(PROGRESS_SECONDS)

    task = asyncio.create_task(keep_telling())
    try:
        yield
    finally:
        task.cancel()
