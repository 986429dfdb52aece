from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from schemas.tables import TABLES
from worker.sinks import migrations
from worker.sinks.clickhouse import connect
from worker.sinks.errors import MigrationError
from worker.sinks.migrations import Layout, down, load, parse, retain, status, up

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from store_fixtures import Store

pytest_plugins = ["store_fixtures"]

TEXTS = {each.name: each.read_text("utf-8") for each in files("schemas").joinpath("migrations").iterdir()}
MADE = {
    "0001_a.sql": "-- up\nCREATE TABLE IF NOT EXISTS a (x Int8) ENGINE = Memory\n-- down\nDROP TABLE IF EXISTS a\n",
    "0002_b.sql": "-- up\nCREATE TABLE IF NOT EXISTS b (x Int8) ENGINE = Memory;\n"
    "CREATE VIEW IF NOT EXISTS c AS SELECT ';' AS y, x FROM b;\n"
    "-- down\nDROP TABLE IF EXISTS c;\nDROP TABLE IF EXISTS b\n",
}


SHIPPED = [each for each in load() if not each.access]
"""What is applied where there are no users."""


def names(client: Client) -> list[str]:
    return [name for (name,) in client.query("SHOW TABLES").result_rows if name != "schema_migrations"]


def applied(client: Client) -> list[bool]:
    return [state.applied for state in status(client) if not state.migration.access]


def test_up_makes_the_declared_columns_in_order_with_comments(client: Client) -> None:
    assert [each.version for each in up(client)] == [each.version for each in SHIPPED]
    for table in TABLES.values():
        found = client.query(
            "SELECT name, type, comment FROM system.columns "
            "WHERE database = currentDatabase() AND table = {table:String} ORDER BY position",
            parameters={"table": table.name},
        ).result_rows
        assert found == [tuple(column) for column in table.columns]
        assert all(column.comment for column in table.columns)


def test_up_again_does_nothing(client: Client) -> None:
    up(client)
    client.command("INSERT INTO findings (finding_uid) VALUES ('kept')")
    assert up(client) == []
    assert client.command("SELECT count() FROM findings") == 1


def test_down_and_up_again(client: Client) -> None:
    done = up(client)
    assert applied(client) == [True] * len(done)
    for migration in reversed(done):
        assert down(client) == migration
        assert sum(applied(client)) == SHIPPED.index(migration)
    assert names(client) == []
    assert down(client) is None
    assert up(client) == done
    assert applied(client) == [True] * len(done)


def test_looking_changes_nothing(client: Client) -> None:
    assert not any(applied(client))
    assert len(up(client, dry_run=True)) == len(SHIPPED)
    assert down(client, dry_run=True) is None
    assert client.query("SHOW TABLES").result_rows == []
    up(client)
    before = names(client)
    newest = down(client, dry_run=True)
    assert newest is not None
    assert newest == SHIPPED[-1]
    assert names(client) == before
    assert all(applied(client))


def test_statements_end_at_semicolons_at_the_end_of_a_line(client: Client) -> None:
    up(client, parse(MADE))
    assert names(client) == ["a", "b", "c"]
    assert client.query("SELECT y, x FROM c").result_rows == []


def test_a_changed_file_is_told_and_not_applied(client: Client) -> None:
    up(client, parse(MADE))
    changed = parse({**MADE, "0001_a.sql": MADE["0001_a.sql"].replace("x Int8", "x Int16")})
    assert [state.problem for state in status(client, changed)] == ["changed since it was applied", ""]
    with pytest.raises(MigrationError, match="0001_a: changed since it was applied"):
        up(client, changed)


def test_a_migration_left_out_is_told(client: Client) -> None:
    up(client, parse(MADE))
    client.command("ALTER TABLE schema_migrations DELETE WHERE version = 1 SETTINGS mutations_sync = 1")
    assert [state.problem for state in status(client, parse(MADE))] == ["left out: a later one is applied", ""]
    with pytest.raises(MigrationError, match="0001_a: left out"):
        up(client, parse(MADE))


def test_an_older_version_works_on_and_takes_nothing_back(client: Client) -> None:
    up(client, parse(MADE))
    older = parse({"0001_a.sql": MADE["0001_a.sql"]})
    assert up(client, older) == []
    with pytest.raises(MigrationError, match="0002_b is of a newer version"):
        down(client, older)
    assert names(client) == ["a", "b", "c"]


def test_a_failing_migration_is_named_and_is_tried_again(client: Client) -> None:
    broken = {**MADE, "0002_b.sql": MADE["0002_b.sql"].replace("FROM b", "FROM nowhere")}
    with pytest.raises(MigrationError, match=r"0002_b: .*nowhere"):
        up(client, parse(broken))
    assert [state.applied for state in status(client, parse(MADE))] == [True, False]
    assert [migration.name for migration in up(client, parse(MADE))] == ["b"]


def test_two_workers_at_once(store: Store, database: str) -> None:
    def start(_: int) -> int:
        with closing(connect(store.dsn, database=database)) as client:
            return len(up(client))

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(start, range(4))) == len(SHIPPED)
    with closing(connect(store.dsn, database=database)) as client:
        assert all(applied(client))
        assert not any(state.problem for state in status(client))
        assert client.command("SELECT count() FROM schema_migrations FINAL") == len(SHIPPED)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"0001-a.sql": "-- up\n-- down\n"}, "0001-a.sql: not a migration"),
        ({"0001_a.sql": "CREATE TABLE a"}, "0001_a.sql: not a migration"),
        ({"0001_a.sql": "-- up\nSELECT 1\n"}, "0001_a.sql: not a migration"),
        ({"0001_a.sql": "-- up\n-- down\n", "0001_b.sql": "-- up\n-- down\n"}, "the same number"),
    ],
)
def test_files_that_are_no_migrations(texts: dict[str, str], message: str) -> None:
    with pytest.raises(MigrationError, match=message):
        parse(texts)


@pytest.mark.parametrize("migration", load(), ids=lambda migration: migration.name)
def test_every_statement_may_run_twice(migration: migrations.Migration) -> None:
    assert all(re.search(r"^(CREATE|ALTER) .*IF NOT EXISTS|^GRANT ", each, re.MULTILINE) for each in migration.up)
    assert all(re.search(r"^(DROP|ALTER) .*IF EXISTS", each, re.MULTILINE) for each in migration.down)


CLUSTER = Layout(
    "it's", replicated=True, ttl_days={"session_events": 90, "sessions": 30, "findings": 400, "feedback": 400}
)


def test_a_cluster_changes_statements_and_no_checksum() -> None:
    single, cluster = load(), load(CLUSTER)
    assert [each.checksum for each in single] == [each.checksum for each in cluster]
    text = "\n".join(statement for each in cluster for statement in (*each.up, *each.down))
    assert text.count("ON CLUSTER 'it\\'s'") == sum(len(each.up) + len(each.down) for each in cluster)
    assert "ENGINE = ReplicatedReplacingMergeTree(version)" in text
    assert text.count("ENGINE = Replicated") == text.count("ENGINE = ") > len(TABLES)
    assert text.count("TTL toDateTime(") == len(TABLES)


@pytest.mark.parametrize("layout", [Layout(), CLUSTER], ids=["single", "cluster"])
def test_the_engine_can_parse_every_statement(client: Client, layout: Layout) -> None:
    for migration in load(layout):
        for statement in (*migration.up, *migration.down):
            read = client.query("SELECT formatQuery({sql:String})", parameters={"sql": statement})
            assert ("ON CLUSTER" in read.result_rows[0][0]) == bool(layout.cluster)


ACCESS = {**MADE, "0003_c.sql": "-- access\n-- up\nCREATE TABLE IF NOT EXISTS {database}.d (x Int8) ENGINE = Memory\n"
                               "-- down\nDROP TABLE IF EXISTS d\n"}  # fmt: skip


def test_what_is_about_users_is_applied_only_when_asked_for(client: Client, database: str) -> None:
    known = parse(ACCESS, Layout(database=database))
    assert [each.name for each in up(client, known)] == ["a", "b"]
    assert [(state.applied, state.pending, state.problem) for state in status(client, known)][-1] == (False, False, "")
    later = parse({**ACCESS, "0004_e.sql": "-- up\n-- down\n"}, Layout(database=database))
    assert [each.name for each in up(client, later)] == ["e"]
    assert [state.pending for state in status(client, later, access=True)] == [False, False, True, False]
    assert [each.name for each in up(client, later, access=True)] == ["c"]
    assert "d" in names(client)
    assert not any(state.problem or state.pending for state in status(client, later))


def test_rows_are_deleted_after_their_days(client: Client) -> None:
    up(client, layout=Layout(ttl_days={"session_events": 30}))
    client.command("INSERT INTO session_events (tenant_id, event_time) VALUES ('old', '1999-01-01'), ('new', now())")
    client.command("OPTIMIZE TABLE session_events FINAL")
    assert client.query("SELECT tenant_id FROM session_events").result_rows == [("new",)]
    assert "TTL" not in client.command("SHOW CREATE TABLE findings")


def test_retention_is_what_the_settings_say_and_is_changed_once(client: Client) -> None:
    up(client)
    client.command("INSERT INTO findings (finding_uid, bucket_time) VALUES ('old', '2000-01-01'), ('new', now())")
    assert retain(client, {"findings": 400}, dry_run=True) == [
        "ALTER TABLE findings MODIFY TTL toDateTime(bucket_time) + INTERVAL 400 DAY"
    ]
    for days in (500, 400):
        assert len(retain(client, {"findings": days, "sessions": 0})) == 1
        assert retain(client, {"findings": days}) == []
    client.command("OPTIMIZE TABLE findings FINAL")
    assert client.query("SELECT finding_uid FROM findings").result_rows == [("new",)]
    assert retain(client, {"findings": 0}) == ["ALTER TABLE findings REMOVE TTL"]
    assert retain(client, {"findings": 0}) == []
    assert retain(client, {}) == []
    assert "ON CLUSTER 'it\\'s'" in retain(client, {"feedback": 1}, dry_run=True, layout=CLUSTER)[0]
    for table in TABLES:
        assert retain(client, {table: 30})
    with pytest.raises(MigrationError, match="no table nowhere"):
        retain(client, {"nowhere": 1})
