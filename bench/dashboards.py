"""Measures the queries of the dashboards and alert rules on a filled store. Prints one JSON object.

python -m bench.dashboards DIRECTORY [--hours 24]
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.support.grafana import Window, dashboards, expand, panels, provisioned, variables
from worker.clickhouse.writer import connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clickhouse_connect.driver.client import Client

ROUNDS = 5
POINTS = 800
"""Number of points that Grafana requests: about the width of a panel."""


def main() -> None:
    """Measure every query as the dashboards send it when they are opened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--hours", type=int, default=24)
    args = parser.parse_args()
    with closing(connect(f"chdb://{args.directory.resolve()}")) as client:
        (end, events), *_ = client.query(
            "SELECT toUnixTimestamp64Milli(max(event_time)), count() FROM session_events FINAL"
        ).result_rows
        span = args.hours * 3_600_000
        window = Window(end - span, end, max(span // POINTS // 60_000, 1) * 60)
        found = {name: median(_times(client, sql)) for name, sql in _queries(window)}
    slowest = sorted(found.items(), key=lambda each: -each[1])
    told = {"events": events, "hours": args.hours, "queries": len(found), "median_ms": median(found.values())}
    print(json.dumps({**told, "slowest_ms": dict(slowest[:10])}, indent=2))


def _queries(window: Window) -> Iterator[tuple[str, str]]:
    for name, dashboard in dashboards().items():
        asked = [(panel["title"], target) for panel in panels(dashboard) for target in panel["targets"]]
        asked += [(each["name"], each["query"]) for each in dashboard["templating"]["list"] if each["type"] == "query"]
        for title, query in asked:
            if "rawSql" in query:
                yield f"{name}: {title}", expand(query["rawSql"], _opened(dashboard), window)
    for group in provisioned("alerting/rules.yaml")["groups"]:
        for rule in group["rules"]:
            query, *_ = rule["data"]
            if "rawSql" in query["model"]:
                span = window._replace(start=window.end - query["relativeTimeRange"]["from"] * 1000)
                yield f"alert: {rule['title']}", expand(query["model"]["rawSql"], {}, span)


def _opened(dashboard: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each["current"]["value"] for name, each in variables(dashboard).items() if "current" in each}


def _times(client: Client, sql: str) -> list[float]:
    return [_time(client, sql) for _ in range(ROUNDS)]


def _time(client: Client, sql: str) -> float:
    begun = time.perf_counter()
    client.query(sql)
    return round((time.perf_counter() - begun) * 1000, 1)


if __name__ == "__main__":
    main()
