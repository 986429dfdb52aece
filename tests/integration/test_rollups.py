from __future__ import annotations

import json
from contextlib import closing
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.store_rows import row
from worker.apps.local import fill
from worker.cli import run
from worker.clickhouse import migrations, rollups
from worker.clickhouse.erasure import erase
from worker.clickhouse.rollups import TRUTH, differences
from worker.clickhouse.writer import connect, write_rows
from worker.settings import Settings
from worker.simulator import Simulator, profile

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from tests.support.store_fixtures import Store

pytest_plugins = ["tests.support.store_fixtures"]

EXACT = dict.fromkeys(TRUTH, 0)
NOW = 1_790_000_000_000


def events(seed: int = 1, count: int = 3_000) -> list[bytes]:
    """Events of a few users, sessions, networks and topics, near to one another."""
    rng = Random(seed)
    return [
        row(
            "session_events", tenant_id=rng.choice(["acme", "globex"]), user_id=f"u{rng.randrange(30)}",
            session_uid=f"s{rng.randrange(90)}", event_time=(time := NOW + rng.randrange(3 * 86_400_000)),
            session_started_at=time - rng.choice([0, 0, 5]), is_late=rng.random() < 0.1,
            country=rng.choice(["", "FR", "DE"]), prefix=rng.choice(["", "192.0.2.0/24", "198.51.100.0/24"]),
            asn=rng.choice([0, 64500]), as_org=rng.choice(["", "Example"]), ua_family=rng.choice(["", "Chrome"]),
            risk_score=float(rng.randrange(100)), kafka_topic=rng.choice(["a", "b"]), kafka_partition=number % 3,
            kafka_offset=number,
        )
        for number in range(count)
    ]  # fmt: skip


def test_rollups_equal_the_events_however_often_they_are_written(tables: Client) -> None:
    rows = events()
    for start in (0, 1_000, 500, 0, 2_000, 1_500):
        write_rows(tables, "session_events", rows[start : start + 1_000])
        assert differences(tables) == EXACT
    assert tables.query("SELECT sum(events), max(users) > 1 FROM events_by_minute").result_rows == [(3_000, True)]
    tables.command("OPTIMIZE TABLE events_by_minute_states FINAL")
    assert differences(tables) == EXACT


def test_a_difference_is_seen(tables: Client) -> None:
    write_rows(tables, "session_events", events(count=50))
    tables.command("TRUNCATE TABLE users_by_day_states")
    tables.command("ALTER TABLE session_events DELETE WHERE kafka_offset = 7 SETTINGS mutations_sync = 1")
    found = differences(tables)
    assert all(found.values())


def test_events_that_were_there_first_are_filled_in(client: Client) -> None:
    known = migrations.load()
    migrations.up(client, known[:4])
    client.command("INSERT INTO session_events (tenant_id, user_id, event_time, kafka_offset, country) SELECT 't', "
                   "toString(number % 3), now() - number, number, 'FR' FROM numbers(500)")  # fmt: skip
    migrations.up(client, known)
    assert all(differences(client).values())
    for _ in range(2):
        assert rollups.fill(client) == list(TRUTH)
        assert differences(client) == EXACT


def test_distinct_counts_of_longer_intervals(tables: Client) -> None:
    write_rows(tables, "session_events", events())
    by_day = tables.query(
        "SELECT tenant_id, toDate(time), events, users, active_sessions FROM activity(from = '2026-01-01', "
        "to = toDateTime('2027-01-01'), seconds = 86400) ORDER BY ALL"
    ).result_rows
    truth = tables.query(
        "SELECT tenant_id, toDate(event_time), count(), uniqExact(user_id), uniqExact(user_id, session_uid) "
        "FROM session_events FINAL GROUP BY 1, 2 ORDER BY ALL"
    )
    assert by_day == truth.result_rows


def test_findings_are_counted_as_they_stand(tables: Client) -> None:
    hour = NOW - NOW % 3_600_000
    for revision, status, severity in ((1, "new", "low"), (3, "updated", "high"), (2, "new", "low")):
        state = {"count": revision, "revision": revision, "status": status, "severity": severity, "bucket_time": hour}
        known = row("findings", finding_uid="f", tenant_id="acme", detection="d", user_id="u", **state)
        write_rows(tables, "findings", [known])
    found = tables.query("SELECT tenant_id, severity, status, findings, occurrences, users FROM findings_by_hour")
    assert found.result_rows == [("acme", "high", "updated", 1, 3, 1)]


def test_rollups_of_simulated_traffic_written_twice(tables: Client, monkeypatch: Any) -> None:
    simulator = Simulator(profile("evaluation", users=200, attacks_per_kind=1, rate=0.01, seed=3, tenants=4))
    written: list[tuple[str, list[bytes]]] = []

    def twice(client: Client, table: str, rows: list[bytes]) -> None:
        written.append((table, rows))
        write_rows(client, table, rows)
        write_rows(client, table, written[0][1]) if table == written[0][0] else None

    monkeypatch.setattr("worker.apps.local.write_rows", twice)
    count = fill(Settings(), tables, simulator)
    for table, rows in reversed(written):
        write_rows(tables, table, rows)
    assert differences(tables) == EXACT
    assert tables.query("SELECT sum(events) FROM events_by_minute").result_rows == [(count,)]


def test_who_is_erased_is_in_no_rollup_by_name(store: Store, database: str, tables: Client) -> None:
    write_rows(tables, "session_events", events())
    others = "SELECT count() FROM users_by_day WHERE (tenant_id, user_id) != ('acme', 'u1')"
    before = tables.query(others).result_rows
    counts = erase(store.dsn, {"database": database}, "acme", ["u1"])
    assert counts["users_by_day_states"] > 0
    assert tables.query(others.replace("!=", "=")).result_rows == [(0,)]
    assert tables.query(others).result_rows == before


def test_the_commands(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SESSIONWATCH_CLICKHOUSE__DSN", store.dsn)
    with closing(connect(store.dsn)) as client:
        migrations.up(client)
        write_rows(client, "session_events", events(count=20))
        assert run(["rollups", "check", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"differing": EXACT}
        client.command("TRUNCATE TABLE networks_by_day_states")
        assert run(["rollups", "check"]) == 1
        assert "networks_by_day" in capsys.readouterr().err
        assert run(["rollups", "fill"]) == 0
        assert run(["rollups", "check"]) == 0
