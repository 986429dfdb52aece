"""What the roles of `schemas/clickhouse/migrations/0010_access.sql` may, on the real engine.

The embedded engine makes no users, but it obeys those of a configuration file. So each role's grants, limits and row
policies are taken out of the migration's own statements and given to the user one is there, in a process of its own.
What this does not run is `CREATE ROLE` and its like themselves: those the engine only parses (`test_migrations.py`),
and quotas, which the embedded engine does not count.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from worker.clickhouse.migrations import load

ACCESS = next(each for each in load() if each.name == "access")
DENIED, CONSTRAINT, READONLY, MEMORY = 497, 452, 164, 241
SETUP = """
import sys
from contextlib import closing
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect
with closing(connect(sys.argv[1])) as client:
    migrations.up(client)
    for sql in sys.argv[2:]:
        client.command(sql)
"""
CHILD = """
import json, sys
import chdb
connection, results = chdb.connect(sys.argv[1]), []
for sql in sys.argv[2:]:
    try:
        results.append([json.loads(line) for line in str(connection.query(sql, "JSONEachRow")).splitlines()])
    except Exception as error:
        results.append(int(str(error).partition("Code: ")[2].partition(".")[0] or 0))
print(json.dumps(results))
"""
ROWS = (
    "INSERT INTO session_events (tenant_id, user_id, session_uid, is_current, session_started_at) "
    "VALUES ('acme', 'alice', 's1', 1, now()), ('zeta', 'zoe', 's2', 1, now())"
)
# On a server a materialized view works with the rights of whoever made it; here that has to be said.
DEFINED = "ALTER TABLE {} MODIFY DEFINER = migrator SQL SECURITY DEFINER"
VIEW = re.compile(r"CREATE MATERIALIZED VIEW IF NOT EXISTS (\w+)")
USER = "<password/><networks><ip>::/0</ip></networks><quota>default</quota>"
ADMIN = "<access_management>1</access_management>"
COUNTS = "SELECT groupUniqArray(tenant_id) AS t FROM {}"


class Role(NamedTuple):
    """What a role has: grants, settings with their bounds, and a filter by table."""

    grants: list[str]
    settings: dict[str, tuple[str, str, str]]
    filters: dict[str, str]


def role(name: str) -> Role:
    """Read what a role has out of the migration."""
    grants, settings, filters = [], {}, {}
    for statement in ACCESS.up:
        sql = " ".join(line for line in statement.splitlines() if not line.startswith("--"))
        body, _, to = sql.rpartition(" TO ")
        if "EXCEPT" in to:
            if name in to:
                continue
        elif name not in to.split(", "):
            continue
        if body.startswith("GRANT "):
            grants.append(re.sub(r" ON (\w+)", r" ON default.\1", body))
        elif body.startswith("CREATE SETTINGS PROFILE"):
            found = re.findall(r"(\w+) = (\d+)(?: MIN (\d+) MAX (\d+))?", body)
            settings = {setting: (value, least, most) for setting, value, least, most in found}
        elif body.startswith("CREATE ROW POLICY"):
            tables, condition = re.search(r" ON (.+?)\s+FOR SELECT USING (.+)", body).groups()  # type: ignore[union-attr]
            filters |= dict.fromkeys(tables.split(", "), condition)
    return Role(grants, settings, filters)


def configuration(path: Path, given: Role) -> Path:
    """Write a configuration whose user has what the role has, or everything when that is nothing."""
    values = "".join(f"<{name}>{value}</{name}>" for name, (value, _, _) in given.settings.items())
    bounds = "".join(
        f"<{name}><min>{least}</min><max>{most}</max></{name}>"
        for name, (_, least, most) in given.settings.items()
        if most
    )
    grants = "".join(f"<query>{each}</query>" for each in given.grants)
    filters = "".join(f"<{table}><filter>{each}</filter></{table}>" for table, each in given.filters.items())
    mine = f"<grants>{grants}</grants><databases><default>{filters}</default></databases>" if given.grants else ADMIN
    path.write_text(
        f"<clickhouse><users_config>{path}</users_config>"
        f"<profiles><default>{values}<constraints>{bounds}</constraints></default><free/></profiles>"
        f"<quotas><default/></quotas><users><default>{USER}<profile>default</profile>{mine}</default>"
        f"<migrator>{USER}<profile>free</profile>{ADMIN}</migrator></users></clickhouse>",
        "utf-8",
    )
    return path


def python(program: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_stack_s_worker_may_what_the_writer_may() -> None:
    text = (Path(__file__).parents[2] / "deploy/clickhouse/worker-user.yaml").read_text("utf-8")
    user = yaml.safe_load(text)["users"]["worker"]
    statements = [sql for each in load() if each.access for sql in each.up]
    plain = [" ".join(line for line in sql.splitlines() if not line.startswith("--")) for sql in statements]
    granted = [found[1] for sql in plain if (found := re.fullmatch(r"GRANT (.+) TO sessionwatch_writer", sql))]
    wanted = {each.replace(" ON ", " ON sessionwatch.") for grant in granted for each in grant.split(", ")}
    assert "INSERT ON sessionwatch.session_events" in wanted
    assert set(user["grants"]["query"].removeprefix("GRANT ").split(", ")) == wanted
    assert list(user["password"]) == ["@from_env"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("access") / "store"
    readers = "INSERT INTO tenant_readers VALUES ('default', 'acme'), ('somebody-else', 'zeta')"
    python(SETUP, f"chdb://{directory}", ACCESS.up[0], readers, ROWS)
    config = configuration(directory.parent / "migrator.xml", Role([], {}, {}))
    views = [name for each in load() for statement in each.up for name in VIEW.findall(statement)]
    defined = [DEFINED.format(view) for view in views]
    assert json.loads(python(CHILD, f"{directory}?config-file={config}", *defined)) == [[] for _ in views]
    return directory


def results(directory: Path, name: str, *statements: str) -> list[Any]:
    """Run statements as the one who has the role; return rows, or the error's code."""
    config = configuration(directory.parent / f"{name}.xml", role(name))
    found: list[Any] = json.loads(python(CHILD, f"{directory}?config-file={config}", *statements))
    return found


def test_a_writer_inserts_and_reads_nothing_but_what_is_applied(directory: Path) -> None:
    found = results(
        directory, "sessionwatch_writer",
        ROWS.replace("'s1'", "'s3'"), "INSERT INTO findings (finding_uid) VALUES ('f')",
        "INSERT INTO feedback (finding_uid) VALUES ('f')", "SELECT count() > 0 AS n FROM schema_migrations FINAL",
        "EXISTS TABLE schema_migrations",
        "SELECT count() FROM session_events", "SELECT count() FROM sessions", "SELECT count() FROM tenant_readers",
        "ALTER TABLE sessions DELETE WHERE 1", "DROP TABLE findings", "CREATE TABLE t (x UInt8) ENGINE = Memory",
        "INSERT INTO tenant_readers VALUES ('default', 'zeta')", "INSERT INTO schema_migrations (version) VALUES (99)",
        "TRUNCATE TABLE session_events", "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'x String')",
    )  # fmt: skip
    assert found == [[], [], [], [{"n": 1}], [{"result": 1}], *[DENIED] * 10]
    written = results(directory, "sessionwatch_reader", "SELECT count() AS n FROM sessions WHERE session_uid = 's3'")
    assert written == [[{"n": 1}]]


def test_a_reader_reads_all_tenants_within_limits_and_changes_nothing(directory: Path) -> None:
    found = results(
        directory, "sessionwatch_reader",
        "SELECT arraySort(groupUniqArray(tenant_id)) AS t FROM session_events",
        "SELECT arraySort(groupUniqArray(tenant_id)) AS t FROM sessions FINAL",
        "SELECT count() AS n FROM feedback_by_detection WHERE 0",
        ROWS, "ALTER TABLE sessions DELETE WHERE 1", "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_execution_time = 0", "SELECT 1 SETTINGS max_execution_time = 31",
        "SELECT 1 SETTINGS max_memory_usage = 0", "SELECT 1 AS n SETTINGS max_execution_time = 5",
        "SELECT count() FROM numbers(1000000000) GROUP BY number SETTINGS max_memory_usage = 50000000",
    )  # fmt: skip
    both, denied = [{"t": ["acme", "zeta"]}], (DENIED, READONLY)
    assert found[:3] == [both, both, [{"n": 0}]]
    assert all(each in denied for each in found[3:5])
    assert found[5:] == [READONLY, CONSTRAINT, CONSTRAINT, CONSTRAINT, [{"n": 1}], MEMORY]


def test_a_tenants_reader_sees_that_tenant_alone(directory: Path) -> None:
    tables = [COUNTS.format(table) for table in ("session_events", "sessions", "sessions FINAL")]
    found = results(
        directory, "sessionwatch_tenant", *tables,
        "SELECT count() AS n FROM session_events WHERE tenant_id = 'zeta' OR user_id = 'zoe'",
        "SELECT count() AS n FROM session_events AS a FULL JOIN sessions AS b USING (user_id) WHERE user_id = 'zoe'",
        "SELECT tenant_id AS t FROM tenant_readers", "SELECT count() AS n FROM feedback_by_detection WHERE 0",
        "SELECT count() FROM sessions_from_events", "SELECT count() FROM schema_migrations",
        "INSERT INTO tenant_readers VALUES ('default', 'zeta')",
    )  # fmt: skip
    assert found[:3] == [[{"t": ["acme"]}]] * 3
    assert found[3:7] == [[{"n": 0}], [{"n": 0}], [{"t": "acme"}], [{"n": 0}]]
    assert all(each in (DENIED, READONLY) for each in found[7:])


def test_an_eraser_deletes_and_does_not_insert(directory: Path) -> None:
    gone = "user_id = 'zoe' SETTINGS mutations_sync = 2"
    found = results(
        directory, "sessionwatch_eraser",
        "SELECT count() > 0 AS n FROM session_events WHERE user_id = 'zoe'",
        f"ALTER TABLE session_events DELETE WHERE {gone}",
        "SELECT count() AS n FROM session_events WHERE user_id = 'zoe'",
        ROWS, "DROP TABLE sessions", "ALTER TABLE sessions UPDATE status = 'x' WHERE 1",
    )  # fmt: skip
    assert found == [[{"n": 1}], [], [{"n": 0}], DENIED, DENIED, DENIED]
