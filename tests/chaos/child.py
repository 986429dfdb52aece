"""The production worker with a fault point: it ends without a word when a step of the delivery is passed.

`CHAOS_STEP` names the step, `CHAOS_PASSES` the how many-th pass; without them it is `sessionwatch worker` as it is.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from worker import runtime
from worker.cli import main


def _fault(step: str, passes: int) -> None:
    left = passes

    def passed(name: str) -> None:
        nonlocal left
        left -= name == step
        if name == step and left == 0:
            os._exit(77)

    runtime.create_app = partial(runtime.create_app, faults=passed)  # type: ignore[assignment]


if __name__ == "__main__":
    if step := os.environ.get("CHAOS_STEP"):
        _fault(step, int(os.environ["CHAOS_PASSES"]))
    sys.argv = ["sessionwatch", "worker"]
    main()
