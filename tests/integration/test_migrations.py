from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from pydantic import SecretStr

from schemas.clickhouse.tables import SHARD_BY, TABLES
from worker.cli import run
from worker.clickhouse import migrations
from worker.clickhouse.errors import MigrationError
from worker.clickhouse.migrations import RETAINED, Layout, _run, down, layout_of, load, parse, retain, status, up
from worker.clickhouse.writer import connect
from worker.settings import ClickHouseSettings, RetentionSettings, Settings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from tests.support.store_fixtures import Store

pytest_plugins = ["tests.support.store_fixtures"]

TEXTS = {each.name: each.read_text("utf-8") for each in files("schemas.clickhouse").joinpath("migrations").iterdir()}
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
            "WHERE database = currentDatabase() AND table = {table:String} AND default_kind != 'ALIAS' "
            "ORDER BY position",
            parameters={"table": table.name},
        ).result_rows
        assert found == [tuple(column) for column in table.columns]
        assert all(column.comment for column in table.columns)


def test_up_again_does_nothing(client: Client) -> None:
    up(client)
    client.command("INSERT INTO findings (finding_uid) VALUES ('kept')")
    assert up(client) == []
    assert client.command("SELECT count() FROM findings") == 1


def test_the_command_makes_the_database_of_the_dsn(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONWATCH_CLICKHOUSE__DSN", urlsplit(store.dsn)._replace(path="/made-up").geturl())
    assert run(["migrate", "status"]) == 3
    assert run(["migrate", "up", "--dry-run"]) == 3
    assert run(["migrate", "up"]) == 0
    assert run(["migrate", "up"]) == 0
    with closing(connect(store.dsn, database="made-up")) as client:
        assert applied(client) == [True] * len(SHIPPED)


class _MayNot:
    """A client whose user may do nothing."""

    database = "default"

    def command(self, _: str) -> None:
        raise DatabaseError("HTTPDriver for http://c:8123 received ClickHouse error code 497")


def test_who_may_not_migrate_is_told_who_has_to() -> None:
    with pytest.raises(MigrationError, match=r"0001.*497.*`sessionwatch migrate up` as a user who may"):
        _run(cast("Client", _MayNot()), SHIPPED[0], SHIPPED[0].up, applied=True)


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
    assert [state.problem for state in status(client, parse(MADE))] == ["not applied, although a later one is", ""]
    with pytest.raises(MigrationError, match="0001_a: not applied, although"):
        up(client, parse(MADE))


def test_an_older_version_works_on_and_takes_nothing_back(client: Client) -> None:
    up(client, parse(MADE))
    older = parse({"0001_a.sql": MADE["0001_a.sql"]})
    assert up(client, older) == []
    with pytest.raises(MigrationError, match="newer version applied migration 0002_b"):
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
    again = r"IF (NOT )?EXISTS |^GRANT | (MODIFY|RESET) SETTING "
    assert all(re.search(again, each, re.MULTILINE) for each in migration.up)
    assert all(re.search(r"IF EXISTS | (MODIFY|RESET) SETTING ", each) for each in migration.down)


EVERY_TABLE = dict.fromkeys(RETAINED, 90)
CLUSTER = Layout("it's", replicated=True, ttl_days=EVERY_TABLE)
SHARDED = Layout("it's", replicated=True, ttl_days=EVERY_TABLE, partitions={"findings": "week"}, shards="shard")
LAYOUTS = {"single": Layout(), "cluster": CLUSTER, "sharded": SHARDED}


def statements(layout: Layout) -> list[str]:
    found = [statement for each in load(layout) for statement in (*each.up, *each.down)]
    return [statement for statement in (*layout.ledger(), *found) if not statement.startswith("USE ")]


def test_a_cluster_changes_statements_and_no_checksum() -> None:
    assert [each.checksum for each in load()] == [each.checksum for each in load(SHARDED)]
    text = "\n".join(statements(CLUSTER))
    assert text.count("ON CLUSTER 'it\\'s'") == len(statements(CLUSTER))
    assert "ENGINE = ReplicatedReplacingMergeTree(version)" in text
    assert text.count("ENGINE = Replicated") == text.count("ENGINE = ") == text.count("CREATE TABLE")
    assert text.count("\nTTL toDateTime(") == len(RETAINED)


def test_shards_have_tables_of_their_own_and_one_over_them_each() -> None:
    text = "\n".join(statements(SHARDED))
    assert text.count("ON CLUSTER 'it\\'s'") == len(statements(SHARDED))
    assert text.count("ENGINE = Distributed('it\\'s', 'shard', ") == text.count("ENGINE = Replicated") == len(SHARD_BY)
    assert "Distributed('it\\'s', 'shard', 'session_events', cityHash64(tenant_id, user_id))" in text
    assert text.count("PARTITION BY toMonday(") == 1
    up_first = load(SHARDED)[0].up
    assert [up_first[0], up_first[2]] == ["USE shard", "USE default"]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_engine_can_parse_every_statement(client: Client, layout: Layout) -> None:
    for statement in statements(layout):
        read = client.query("SELECT formatQuery({sql:String})", parameters={"sql": statement})
        assert ("ON CLUSTER" in read.result_rows[0][0]) == bool(layout.cluster)


CONFIG = """
<clickhouse><tcp_port>9000</tcp_port><remote_servers><one><shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard></one>
</remote_servers></clickhouse>
"""
# ON CLUSTER and Replicated engines need a Keeper; all else of a sharded cluster runs on a cluster of one.
ON_ONE_SHARD = """
import sys
sys.path.insert(0, sys.argv[1])
import chdb
from tests.support.store_rows import row
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect, write_rows
from worker.clickhouse.migrations import Layout

class NoKeeper(Layout):
    def _on_cluster(self):
        return ""

layout = NoKeeper(cluster="one", shards="shard", ttl_days={"sessions": 10_000})
held = chdb.connect(f"{sys.argv[2]}/store?config-file={sys.argv[2]}/config.xml")
client = connect(f"chdb://{sys.argv[2]}/store")
done = migrations.up(client, layout=layout)
assert not any(state.problem or state.pending for state in migrations.status(client))
now = 1_790_000_000_000
events = [row("session_events", tenant_id="acme", user_id=f"u{n}", session_uid="s", event_time=now, kafka_topic="t",
              kafka_offset=n, is_current=True, session_started_at=now, state_version=n) for n in range(100)]
for _ in range(2):
    write_rows(client, "session_events", events)
asked = ("SELECT count() FROM session_events FINAL", "SELECT count() FROM sessions FINAL",
         "SELECT count() FROM shard.session_events FINAL", "SELECT sum(events) FROM events_by_minute",
         "SELECT countDistinct(user_id) FROM users_by_day", "SELECT engine = 'Distributed' ? 100 : 0 FROM "
         "system.tables WHERE database = 'default' AND name = 'session_events'")
keep = Layout(shards="shard", ttl_days={"sessions": 0})
print([client.query(sql).result_rows[0][0] for sql in asked], len(migrations.retain(client, keep)))
while migrations.down(client, layout=layout):
    done.pop()
names = client.query("SELECT name FROM system.tables WHERE database IN ('default', 'shard')").result_rows
print(done, {name for name, in names})
"""


def test_a_sharded_cluster_of_one(tmp_path: Path) -> None:
    (tmp_path / "config.xml").write_text(CONFIG)
    here = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", ON_ONE_SHARD, here, str(tmp_path)], capture_output=True, text=True,
                          check=False, timeout=120)  # fmt: skip
    assert done.stdout == "[100, 100, 100, 100, 100, 100] 1\n[] {'schema_migrations'}\n", done.stderr[-2000:]


def test_how_long_rows_are_kept_can_be_changed(client: Client) -> None:
    up(client, layout=Layout(ttl_days={"findings": 30}))
    assert retain(client, Layout(ttl_days={"findings": 30})) == []
    wish = Layout(ttl_days={"session_events": 7, "findings": 0, "users_by_day": 400})
    assert len(retain(client, wish, dry_run=True)) == len(retain(client, wish)) == 3
    assert retain(client, wish) == []
    kept = "SELECT name FROM system.tables WHERE database = currentDatabase() AND create_table_query LIKE '% TTL %'"
    assert client.query(f"{kept} ORDER BY name").result_rows == [("session_events",), ("users_by_day_states",)]


def test_the_layout_the_settings_want() -> None:
    dsn = SecretStr("clickhouse://u:p@host/sw")
    clickhouse = ClickHouseSettings(dsn=dsn, cluster="main", replicated=True, shard_database="shard")
    layout = layout_of(Settings(clickhouse=clickhouse, retention=RetentionSettings(findings_days=9)))
    assert (layout.cluster, layout.replicated, layout.shards, layout.database) == ("main", True, "shard", "sw")
    assert layout.ttl("findings", "bucket_time") == "toDateTime(bucket_time) + INTERVAL 9 DAY"
    assert layout.ttl("sessions", "last_seen_at") == ""
    assert layout.ttl_days == {"findings": 9}
    with pytest.raises(ValueError, match=r"requires clickhouse\.cluster"):
        ClickHouseSettings(shard_database="shard")


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
