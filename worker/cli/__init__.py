"""The command line: `sessionwatch`, one file a command, no logic. `commands` puts them together.

Exit codes: 0 ok, 1 check failed, 2 usage, 3 dependency unreachable, 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

INTERRUPTED = 130


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code; expected errors become one line on stderr."""
    from worker.cli.commands import run  # noqa: PLC0415  imported where a signal is handled

    return run(arguments)


def main() -> None:
    """Run the command line. SIGTERM does what SIGINT does, also while the command is imported."""
    # A shell starts background jobs with SIGINT ignored, and SIGTERM would be ignored with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        code = run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    _leave(code)


def _leave(code: int) -> None:
    """End the process with a code that no signal changes any more.

    Python ends itself by SIGINT if a `KeyboardInterrupt` passed through `exec`, as it does when a signal comes while a
    dataclass is made, however it was handled.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
