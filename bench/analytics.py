"""Measures bytes a row and the time of queries on a store with simulated events. Prints one JSON object.

The events go through the whole pipeline, without a broker, into the embedded engine. The queries are those of
`docs/cookbook.md`; of five runs the fastest counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cookbook import put, queries, subjects
from worker.apps.local import fill
from worker.clickhouse import migrations
from worker.clickhouse.rollups import differences
from worker.clickhouse.writer import connect
from worker.settings import Settings
from worker.simulator import Simulator, profile

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from worker.simulator import SimulatorConfig

DAY = 86_400_000
TRIES = 5
_TABLES = """
SELECT table, sum(rows) AS rows, round(sum(bytes_on_disk) / rows, 1) AS bytes_a_row FROM system.parts
WHERE active AND database = currentDatabase() AND table != 'schema_migrations' GROUP BY table ORDER BY rows DESC
"""
_COLUMNS = """
SELECT column, round(sum(column_data_compressed_bytes) / sum(rows), 2) AS bytes_a_row FROM system.parts_columns
WHERE active AND database = currentDatabase() AND table = 'session_events' GROUP BY column ORDER BY bytes_a_row DESC
"""


def simulation() -> SimulatorConfig:
    """Return three weeks of history and two days of traffic of 10,000 users, up to yesterday."""
    start = int(time.time() * 1000) // DAY * DAY - 3 * DAY
    return profile(
        "evaluation", users=10_000, rate=9.0, start_ms=start, attacks_per_kind=30, collect_benign=False,
        max_events=1_300_000,
    )  # fmt: skip


def measured(client: Client) -> dict[str, Any]:
    """Return bytes a row by table and by column, and milliseconds by query; parts are merged first."""
    tables = [name for name, *_ in client.query(_TABLES).result_rows]
    for table in tables:
        client.command(f"OPTIMIZE TABLE {table} FINAL")
    places = subjects(client)
    return {
        "tables": {table: {"rows": rows, "bytes": size} for table, rows, size in client.query(_TABLES).result_rows},
        "columns": dict(client.query(_COLUMNS).result_rows),
        "milliseconds": {title: best(client, put(sql, places)) for title, sql in queries().items()},
        "rollups_differing": differences(client),
    }


def best(client: Client, sql: str) -> int:
    """Return the shortest time of a query, in milliseconds."""
    times = []
    for _ in range(TRIES):
        started = time.perf_counter()
        client.query(sql)
        times.append(time.perf_counter() - started)
    return round(min(times) * 1000)


def main() -> None:
    """Fill a store, unless it is filled already, and measure it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    args = parser.parse_args()
    with closing(connect(f"chdb://{args.directory.resolve()}")) as client:
        migrations.up(client)
        if not int(str(client.command("SELECT count() FROM session_events"))):
            started = time.perf_counter()
            count = fill(Settings(), client, Simulator(simulation()))
            print(f"{count:,} events in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        print(json.dumps(measured(client), indent=2))


if __name__ == "__main__":
    main()
