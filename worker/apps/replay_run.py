"""The run of `replay`: from a file through the embedded broker and a worker into the store."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from worker.apps.build import build_decoder, build_worker, settle_memory, usable_detections
from worker.apps.replay_file import ReplayFile, export_findings, export_letters
from worker.apps.run import finish, producing, summary_of
from worker.detections.policies import read_policies
from worker.stream.connection import aiokafka_options
from worker.stream.produce import produce
from worker.stream.run import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from worker.apps.embedded import Servers
    from worker.observe.recorder import Recorder
    from worker.observe.snapshot import Summary
    from worker.settings import Settings
PROGRESS_SECONDS = 0.3
PATIENCE_SECONDS = 30.0
"""Seconds of failing inserts after which the run ends with an error."""
SMALL_FILE, SMALL_SESSION_TIMEOUT = 4 << 20, 2.0
"""Bytes up to which a file is small, and seconds of the consumer group's session timeout then. The embedded broker lets
a new group form after half of it, and never before a second has passed."""


class Run:
    """One run over a file.

    Args:
        servers: the broker and the store.
        file: JSON lines; `-` is standard input.
        policies: a JSON document of tenant policies.
        numbered: remember the number of every line, for the export of dead letters.

    Raises:
        FileNotFoundError: there is no such file.
        BadPolicyError: a policy cannot be used.
        PluginError: a plug-in cannot be used.
        BadMappingError: the input's mapping cannot be used.
    """

    def __init__(self, servers: Servers, file: Path, policies: Path | None, *, numbered: bool) -> None:
        decoder = build_decoder(servers.settings, clock_skew=0)
        self._lines = ReplayFile(file, servers.settings.topics.events, decoder, numbered=numbered)
        self._documents = read_policies(policies.read_bytes()) if policies else {}
        usable_detections(servers.settings)
        self._is_small = 0 < self._lines.size <= SMALL_FILE
        self._settings = _quick(servers.settings) if self._is_small else servers.settings
        self._tables = servers.tables
        self._recorder: Recorder | None = None

    def process(self, on_progress: Callable[[str], None]) -> None:
        """Send the lines, and return when everything is durable.

        Raises:
            StoreRefusedError: the store has refused rows for `PATIENCE_SECONDS`.
        """
        if not self._is_small:
            settle_memory()
        asyncio.run(self._process(on_progress))

    def export(self, findings: Path | None, dead_letters: Path | None) -> None:
        """Write findings and dead letters as JSON lines, if requested."""
        if dead_letters is not None:
            options = aiokafka_options(self._settings.kafka)
            asyncio.run(export_letters(options, self._settings.topics.dlq, self._lines.numbers, dead_letters))
        if findings is not None:
            export_findings(self._settings.store_dsn(), findings)

    def summary(self, seconds: float) -> Summary:
        """Return the summary of the run, which took `seconds`."""
        assert self._recorder is not None  # noqa: S101  `process` came before
        return summary_of(self._recorder, self._lines.read, seconds, interrupted=False)

    async def _process(self, on_progress: Callable[[str], None]) -> None:
        settings, lines = self._settings, self._lines
        for tenant, document in self._documents.items():
            await produce(settings.kafka, settings.topics.policies, tenant, document)
        async with _telling(lambda: f"{lines.read:,} lines sent", on_progress), producing(settings) as producer:
            await lines.send(producer, settings.topics.partitions)
        parts = build_worker(settings, timer_clock="stream", web=False, patience=PATIENCE_SECONDS, tables=self._tables)
        self._recorder = done = parts.recorder
        async with _telling(lambda: f"{done.read:,} of {lines.read:,} lines judged", on_progress), running(parts.app):
            await asyncio.wrap_future(self._tables)
            await finish(settings, parts)
        await parts.writer.close()


def _quick(settings: Settings) -> Settings:
    """Return settings with which a group forms at once."""
    stream = settings.stream.model_copy(update={"session_timeout_s": SMALL_SESSION_TIMEOUT})
    return settings.model_copy(update={"stream": stream})


@asynccontextmanager
async def _telling(text: Callable[[], str], tell: Callable[[str], None]) -> AsyncIterator[None]:
    """Report the progress a few times a second while the context lasts."""

    async def keep_telling() -> None:
        while True:
            tell(text())
            await asyncio.sleep(PROGRESS_SECONDS)

    task = asyncio.create_task(keep_telling())
    try:
        yield
    finally:
        task.cancel()
