"""The production worker with faults inside: it ends without a word at a step of the delivery, or its clock steps.

`CHAOS_STEP` names the step, `CHAOS_PASSES` the how many-th pass. `CHAOS_CLOCK` is by how many milliseconds its clock is
off every other second. Without them it is `sessionwatch worker` as it is.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from typing import Any

from worker.apps import build
from worker.cli import main
from worker.stream.clock import wall_clock


def _fault(step: str, passes: int) -> Any:
    left = passes

    def passed(name: str) -> None:
        nonlocal left
        left -= name == step
        if name == step and left == 0:
            os._exit(77)

    return passed


def _stepping(milliseconds: int) -> Any:
    return lambda: wall_clock() + milliseconds * (int(time.monotonic()) % 2)


def _faults() -> dict[str, Any]:
    faults = {}
    if step := os.environ.get("CHAOS_STEP"):
        faults["faults"] = _fault(step, int(os.environ["CHAOS_PASSES"]))
    if off := os.environ.get("CHAOS_CLOCK"):
        faults["clock"] = _stepping(int(off))
    return faults


if __name__ == "__main__":
    if faults := _faults():
        build.create_app = partial(build.create_app, **faults)
    sys.argv = ["sessionwatch", "worker"]
    main()
