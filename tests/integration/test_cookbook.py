"""Every query of the cookbook, as it stands on the page, over simulated traffic."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from bench.cookbook import PAGE, put, queries, subjects
from tests.support.store_rows import row
from worker.apps.local import fill
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect, write_rows
from worker.settings import Settings
from worker.simulator import Simulator, profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickhouse_connect.driver.client import Client

    from tests.support.store_fixtures import Store

pytest_plugins = ["tests.support.store_fixtures"]

NOW = 1_790_000_000_000
HOUR = 3_600_000


@pytest.fixture(scope="module")
def simulated(store: Store) -> Iterator[tuple[Client, dict[str, str]]]:
    with closing(connect(store.dsn)) as client:
        migrations.up(client)
        simulation = profile("evaluation", users=250, attacks_per_kind=2, rate=0.05, seed=2, tenants=3)
        fill(Settings(), client, Simulator(simulation))
        # In so little traffic no session lasts for half a day.
        client.command(
            "INSERT INTO sessions (tenant_id, user_id, session_uid, status, started_at, last_seen_at, version) "
            "SELECT 'acme', 'u', 'long', 'active', max(event_time) - INTERVAL 13 HOUR, max(event_time), 1 "
            "FROM session_events"
        )
        yield client, subjects(client)


@pytest.mark.parametrize("title", queries())
def test_a_query_of_the_page_answers(simulated: tuple[Client, dict[str, str]], title: str) -> None:
    client, places = simulated
    answer = client.query(put(queries()[title], places))
    assert answer.result_rows
    assert len(answer.column_names) > 1


def test_every_section_has_a_query() -> None:
    assert len(queries()) == PAGE.read_text("utf-8").count("\n## ") >= 17


def test_sessions_live_at_once(tables: Client) -> None:
    def session(uid: str, since: int, until: int | None, **values: Any) -> bytes:
        times = {"started_at": NOW + since, "last_seen_at": NOW + since, "ended_at": until and NOW + until}
        return row("sessions", tenant_id="acme", user_id="u", session_uid=uid, **times, **values)

    hour = NOW - NOW % HOUR
    write_rows(tables, "sessions", [
        session("a", hour - NOW, hour - NOW + 2 * HOUR + 1),
        session("b", hour - NOW + HOUR, None, expires_at=hour + 3 * HOUR + 1),
        session("c", hour - NOW + HOUR, None),
        session("before", hour - NOW - 9 * HOUR, hour - NOW - 8 * HOUR),
    ])  # fmt: skip
    asked = (
        "SELECT toUnixTimestamp(time) * 1000, sessions FROM concurrency(from = fromUnixTimestamp64Milli({since:Int64}),"
        " to = fromUnixTimestamp64Milli({until:Int64}), seconds = 3600) ORDER BY time"
    )
    found = tables.query(asked, parameters={"since": hour, "until": hour + 3 * HOUR}).result_rows
    assert found == [(hour, 1), (hour + HOUR, 3), (hour + 2 * HOUR, 2)]


def test_properties_are_columns(tables: Client) -> None:
    documents = ['{"client":{"app":"mail","build":7},"trial":true}', "", "{}"]
    write_rows(tables, "session_events", [
        row("session_events", event_time=NOW, kafka_offset=number, meta_data=text)
        for number, text in enumerate(documents)
    ])  # fmt: skip
    asked = "SELECT meta.client.app.:String, meta.client.build.:Int64, meta.trial.:Bool FROM session_events FINAL"
    assert tables.query(f"{asked} ORDER BY kafka_offset").result_rows == [("mail", 7, True)] + [(None, None, None)] * 2
