"""What a row takes and a query costs, over a store filled with simulated events. Prints one JSON object.

The events go through the whole pipeline, without a broker, into the embedded engine.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from worker.runtime import fill
from worker.settings import Settings
from worker.simulator import Simulator, profile
from worker.sinks import migrations
from worker.sinks.clickhouse import connect

if TYPE_CHECKING:
    from worker.simulator import SimulatorConfig

DAY = 86_400_000


def simulation() -> SimulatorConfig:
    """Return three weeks of history and two days of traffic of 10,000 users, up to yesterday."""
    start = int(time.time() * 1000) // DAY * DAY - 3 * DAY
    return profile(
        "evaluation", users=10_000, rate=9.0, start_ms=start, attacks_per_kind=30, collect_benign=False,
        max_events=1_300_000,
    )  # fmt: skip


def main() -> None:
    """Fill a store, unless it is filled, and measure it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    args = parser.parse_args()
    with closing(connect(f"chdb://{args.directory.resolve()}")) as client:
        migrations.up(client)
        if not int(str(client.command("SELECT count() FROM session_events"))):
            started = time.perf_counter()
            count = fill(Settings(), client, Simulator(simulation()))
            print(f"{count:,} events in {time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
