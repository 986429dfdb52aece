"""`replay`: runs a file of JSON lines through the whole pipeline, with embedded broker and store.

Modules that are slow to import are in `replay_run`, which is imported while the broker and the store start.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from worker.apps.embedded import embedded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.observe.snapshot import Summary
    from worker.settings import Settings


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
        settings: `data_dir` is the directory of the store.
        file: JSON lines of any accepted shape; `-` is standard input.
        findings: where to write the findings as JSON lines.
        dead_letters: where to write the rejected lines as JSON lines, each with its reason.
        policies: a JSON document of tenant policies, see `read_policies`.
        on_progress: called with a line about the progress a few times a second.

    Raises:
        FileNotFoundError: there is no such file.
        BadPolicyError: a policy cannot be used.
        PluginError: a plug-in cannot be used.
        StoreRefusedError: the store has refused rows for `PATIENCE_SECONDS`.
        BadMappingError: the input's mapping cannot be used.
    """
    started = time.perf_counter()
    for given in (file, policies):
        if given is not None and str(given) != "-":
            given.stat()  # nothing is started for a file that is not there
    with embedded(settings) as servers:
        from worker.apps.replay_run import Run  # noqa: PLC0415  see above

        run = Run(servers, file, policies, numbered=dead_letters is not None)
        run.process(on_progress)
        run.export(findings, dead_letters)
        return run.summary(time.perf_counter() - started)
