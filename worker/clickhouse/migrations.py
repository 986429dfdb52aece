"""Numbered migrations: `schemas/clickhouse/migrations/NNNN_name.sql`, each with an `-- up` and a `-- down` part.

A file that begins with `-- access` creates users and grants. It is applied only on request, and only to a server: the
embedded engine has no users. A file may contain placeholders, which a `Layout` fills in: `{on_cluster}`, `{database}`,
`{ttl:table.column}` and `{engine:ReplacingMergeTree(version)}`. Every statement can run twice, because two workers may
apply the same migration at once.
"""

from __future__ import annotations

import re
from hashlib import sha256
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from clickhouse_connect.driver.exceptions import ClickHouseError

from schemas.clickhouse.tables import SHARD_BY
from worker.clickhouse.errors import MigrationError
from worker.clickhouse.writer import ACCESS_DENIED, error_code, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from clickhouse_connect.driver.client import Client

    from worker.settings import Settings

_NAME = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_PARTS = re.compile(r"\A(?P<access>-- access\n)?-- up\n(?P<up>.*?)^-- down\n(?P<down>.*)\Z", re.DOTALL | re.MULTILINE)
_HOLE = re.compile(r"(?P<gap>\n?)\{(?P<what>on_cluster|database|engine|ttl)(?::(?P<of>[^}]*))?\}")
_SUBJECT = re.compile(
    r"(?:--[^\n]*\n)*(?P<verb>CREATE|ALTER|DROP) (?P<kind>TABLE|VIEW|MATERIALIZED VIEW) (?:IF (?:NOT )?EXISTS )?"
    r"(?P<name>\w+)"
)
_CREATE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)")
_PERIODS = {"month": "toYYYYMM", "week": "toMonday", "day": "toYYYYMMDD"}
_NEWEST_FIRST = """
SELECT version, name, checksum FROM schema_migrations FINAL WHERE applied ORDER BY version DESC
"""
NOT_ALLOWED = "; this ClickHouse user may not apply it: run `sessionwatch migrate up` as a user who may"
# A statement: clickhouse-connect's `insert` imports pandas, which takes longer than all migrations.
_RECORD = """
INSERT INTO schema_migrations (version, name, checksum, applied)
VALUES ({version:UInt32}, {name:String}, {checksum:String}, {applied:Bool})
"""
_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations{on_cluster}
(
    version    UInt32 COMMENT 'Number of the migration',
    name       String COMMENT 'Its name',
    checksum   String COMMENT 'SHA-256 of its file when it was applied',
    applied    Bool COMMENT 'False once it was taken back',
    changed_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When'
)
ENGINE = {engine:ReplacingMergeTree(changed_at)}
ORDER BY version
"""


class Layout(NamedTuple):
    """The databases and engines of tables, and how long rows are kept.

    Attributes:
        cluster: name of the cluster that every statement runs on; `""`: a single server.
        replicated: use Replicated engines, with path and replica name from the servers' configuration.
        ttl_days: days after which a table's rows are deleted, by table; 0: never; unset: unchanged (new tables: never).
        partitions: period of one partition (`day`, `week` or `month`), by table; unset: month.
        shards: database of each shard's local tables; the tables of `database` are then Distributed over them.
            `""`: no shards.
        database: the database that clients read and write.
    """

    cluster: str = ""
    replicated: bool = False
    ttl_days: Mapping[str, int] = MappingProxyType({})
    partitions: Mapping[str, str] = MappingProxyType({})
    shards: str = ""
    database: str = "default"

    def fill(self, template: str) -> str:
        """Return a statement with its placeholders filled in.

        >>> Layout("main", replicated=True).fill("CREATE TABLE t{on_cluster} … ENGINE = {engine:MergeTree}")
        "CREATE TABLE t ON CLUSTER 'main' … ENGINE = ReplicatedMergeTree"
        """
        return _HOLE.sub(self._fill, template)

    def ledger(self) -> list[str]:
        """Return the statements that create the table of applied migrations."""
        databases = [
            f"CREATE DATABASE IF NOT EXISTS {name}{self._on_cluster()}" for name in (self.shards, self.database)
        ]
        return [*(databases if self.shards else ()), *self.spread(self.fill(_LEDGER).strip())]

    def ttl(self, table: str, column: str) -> str:
        """Return the TTL expression of a table, `""` when its rows are kept."""
        days = self.ttl_days.get(table)
        return f"toDateTime({column}) + INTERVAL {int(days)} DAY" if days else ""

    def spread(self, statement: str) -> list[str]:
        """Return the statements to run for a statement: with shards, one for each of the two databases."""
        statement = self._partitioned(statement)
        found = _SUBJECT.match(statement) if self.shards else None
        if found is None:
            return [statement]
        verb, kind, name = found["verb"], found["kind"], found["name"]
        below, above = [f"USE {self.shards}", statement], [f"USE {self.database}", statement]
        if (verb, kind) == ("CREATE", "TABLE"):
            return [*below, above[0], self._distributed(name)]
        if verb == "CREATE":
            return above if kind == "VIEW" else below
        if " SETTING " in statement:
            return below
        # The tables that clients read must not have a column before those on the shards have it.
        return [*below, *above] if " ADD COLUMN " in statement else [*above, *below]

    def _distributed(self, name: str) -> str:
        return (
            f"CREATE TABLE IF NOT EXISTS {name}{self._on_cluster()} AS {self.shards}.{name}\n"
            f"ENGINE = Distributed({_quoted(self.cluster)}, {_quoted(self.shards)}, {_quoted(name)}, {SHARD_BY[name]})"
        )

    def _on_cluster(self) -> str:
        return f" ON CLUSTER {_quoted(self.cluster)}" if self.cluster else ""

    def _fill(self, hole: re.Match[str]) -> str:
        gap, of = hole["gap"], hole["of"] or ""
        if hole["what"] == "database":
            return f"{gap}`{self.database.replace('`', '``')}`"
        if hole["what"] == "engine":
            return f"{gap}Replicated{of}" if self.replicated else gap + of
        if hole["what"] == "on_cluster":
            return gap + self._on_cluster()
        ttl = self.ttl(*of.split("."))
        return f"{gap}TTL {ttl}" if ttl else ""

    def _partitioned(self, statement: str) -> str:
        created = _CREATE.search(statement)
        period = self.partitions.get(created[1], "month") if created else "month"
        return statement.replace("PARTITION BY toYYYYMM(", f"PARTITION BY {_PERIODS[period]}(")


SINGLE = Layout()
"""A single server that keeps all rows."""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class Migration(NamedTuple):
    """One migration; `up` and `down` are statements. `access`: it creates users and grants."""

    version: int
    name: str
    checksum: str
    up: Sequence[str]
    down: Sequence[str]
    access: bool = False


class MigrationState(NamedTuple):
    """A migration, whether it is applied or to be applied (`pending`), and its `problem`, or `""`."""

    migration: Migration
    applied: bool
    problem: str
    pending: bool


def load(layout: Layout = SINGLE) -> list[Migration]:
    """Read the migrations the package ships, in order, as a layout wants them.

    Raises:
        MigrationError: a file is misnamed or lacks a part, or a number is missing.
    """
    directory = files("schemas.clickhouse").joinpath("migrations")
    return parse({each.name: each.read_text("utf-8") for each in directory.iterdir()}, layout)


def parse(texts: Mapping[str, str], layout: Layout = SINGLE) -> list[Migration]:
    """Read migrations from the text of their files, by file name; return them in order.

    Raises:
        MigrationError: a file is misnamed or lacks a part, or a number is missing.
    """
    found = sorted(_read(name, text, layout) for name, text in texts.items())
    if len({migration.version for migration in found}) != len(found):
        raise MigrationError("two migrations have the same number")
    return found


def _read(filename: str, text: str, layout: Layout) -> Migration:
    name, parts = _NAME.match(filename), _PARTS.match(text)
    if name is None or parts is None:
        raise MigrationError(f"{filename}: not a migration (NNNN_name.sql with -- up and -- down)")
    up, down = (
        [each for statement in _statements(layout.fill(parts[part])) for each in layout.spread(statement)]
        for part in ("up", "down")
    )
    # The checksum of the file, not of the filled-in statements: a changed setting does not change a migration.
    return Migration(int(name[1]), name[2], sha256(text.encode()).hexdigest(), up, down, bool(parts["access"]))


def _statements(part: str) -> list[str]:
    return [statement.strip() for statement in re.split(r";\s*$", part, flags=re.MULTILINE) if statement.strip()]


def status(
    client: Client, migrations: Sequence[Migration] | None = None, *, access: bool = False
) -> list[MigrationState]:
    """Compare the migrations of this version with those that the store has. Changes nothing.

    Migrations that a newer version applied are ignored: inserts name their columns. `access`: migrations of users and
    grants are to be applied as well.
    """
    applied = {version: checksum for version, _, checksum in _applied(client)}
    known = load() if migrations is None else migrations
    tables = {migration.version for migration in known if not migration.access}
    newest = max(tables & applied.keys(), default=0)
    return [_state(migration, applied, newest, access=access) for migration in known]


def _state(migration: Migration, applied: Mapping[int, str], newest: int, *, access: bool) -> MigrationState:
    checksum = applied.get(migration.version)
    if checksum is None:
        # `manage_access` may be set at any time.
        left_out = migration.version < newest and not migration.access
        problem = "not applied, although a later one is" if left_out else ""
        return MigrationState(migration, applied=False, problem=problem, pending=access or not migration.access)
    problem = "" if checksum == migration.checksum else "changed since it was applied"
    return MigrationState(migration, applied=True, problem=problem, pending=False)


def _applied(client: Client) -> list[tuple[int, str, str]]:
    """Return version, name and checksum of the applied migrations, the newest first."""
    if not int(str(client.command("EXISTS TABLE schema_migrations"))):
        return []
    return [(int(version), name, checksum) for version, name, checksum in client.query(_NEWEST_FIRST).result_rows]


def up(
    client: Client,
    migrations: Sequence[Migration] | None = None,
    *,
    dry_run: bool = False,
    layout: Layout = SINGLE,
    access: bool = False,
) -> list[Migration]:
    """Apply the pending migrations, and return them.

    Args:
        client: the store, in the database of the tables.
        migrations: by default those of the package, filled in by `layout`.
        dry_run: change nothing.
        layout: databases and engines of tables.
        access: also apply migrations of users and grants.

    Raises:
        MigrationError: an applied migration was changed since, one before it was not applied, or one fails.
    """
    states = status(client, _known(client, migrations, layout), access=access)
    for state in states:
        if state.problem:
            raise MigrationError(f"migration {_label(state.migration)}: {state.problem}")
    pending = [state.migration for state in states if state.pending]
    ledger = layout.ledger()
    for migration in () if dry_run else pending:
        _run(client, migration, (*ledger, *migration.up), applied=True)
        ledger = []
    return pending


def down(
    client: Client,
    migrations: Sequence[Migration] | None = None,
    *,
    dry_run: bool = False,
    layout: Layout = SINGLE,
) -> Migration | None:
    """Revert the newest applied migration; return it, None when none is applied.

    Raises:
        MigrationError: it fails, or a newer version applied it.
    """
    known = {migration.version: migration for migration in _known(client, migrations, layout)}
    applied = _applied(client)
    if not applied:
        return None
    version, name, _ = applied[0]
    if version not in known:
        raise MigrationError(f"a newer version applied migration {version:04d}_{name}; revert it with that version")
    if not dry_run:
        _run(client, known[version], known[version].down, applied=False)
    return known[version]


def _known(client: Client, migrations: Sequence[Migration] | None, layout: Layout) -> Sequence[Migration]:
    return load(layout._replace(database=client.database or "default")) if migrations is None else migrations


RETAINED = {
    "session_events": ("session_events", "event_time"),
    "sessions": ("sessions", "last_seen_at"),
    "findings": ("findings", "bucket_time"),
    "incidents": ("incidents", "detected_at"),
    "feedback": ("feedback", "said_at"),
    "deliveries": ("deliveries", "queued_at"),
    "events_by_minute": ("events_by_minute_states", "minute"),
    "networks_by_day": ("networks_by_day_states", "day"),
    "users_by_day": ("users_by_day_states", "day"),
}
"""Retention setting -> the table whose rows it deletes, and the column of their age."""
_KEPT = """
SELECT name, extract(create_table_query, ' TTL (.+?) SETTINGS') FROM system.tables
WHERE database = {database:String}
"""


def retain(client: Client, layout: Layout, *, dry_run: bool = False) -> list[str]:
    """Set the TTL of tables to the days of a layout; return the statements that were needed.

    Tables without a setting, and those that have the TTL already, are not changed.

    Raises:
        MigrationError: a table cannot be changed.
    """
    home = layout.shards or client.database
    kept = {name: _days(ttl) for name, ttl in client.query(_KEPT, parameters={"database": home}).result_rows}
    statements = [
        _retaining(table, layout.ttl(name, column), layout)
        for name, (table, column) in RETAINED.items()
        if table in kept and kept[table] != layout.ttl_days.get(name, kept[table])
    ]
    try:
        for statement in () if dry_run else statements:
            client.command(statement)
    except ClickHouseError as error:
        raise MigrationError(f"retention: {first_line(error)}") from error
    return statements


def _days(ttl: str) -> int:
    found = re.search(r"toIntervalDay\((\d+)\)", ttl)
    return int(found[1]) if found else 0


def _retaining(table: str, ttl: str, layout: Layout) -> str:
    where = f"{layout.shards}.{table}" if layout.shards else table
    wish = f"MODIFY TTL {ttl}" if ttl else "REMOVE TTL"
    return layout.fill(f"ALTER TABLE {where}{{on_cluster}} {wish}")


def layout_of(settings: Settings) -> Layout:
    """Return the layout that the settings describe."""
    wishes, retention = settings.clickhouse, settings.retention
    return Layout(
        cluster=wishes.cluster,
        replicated=wishes.replicated,
        ttl_days=retention.by_table(),
        partitions={"session_events": wishes.event_partitions, "findings": wishes.finding_partitions},
        shards=wishes.shard_database,
        database=urlsplit(settings.store_dsn()).path.strip("/") or "default" if wishes.shard_database else "default",
    )


def _label(migration: Migration) -> str:
    return f"{migration.version:04d}_{migration.name}"


def _run(client: Client, migration: Migration, statements: Iterable[str], *, applied: bool) -> None:
    home = client.database
    try:
        for statement in statements:
            if statement.startswith("USE "):
                client.database = statement.removeprefix("USE ")
            else:
                client.command(statement)
        client.database = home
        row = {"version": migration.version, "name": migration.name, "checksum": migration.checksum}
        client.command(_RECORD, parameters={**row, "applied": applied})
    except ClickHouseError as error:
        hint = NOT_ALLOWED if error_code(error) == ACCESS_DENIED else ""
        raise MigrationError(f"migration {_label(migration)}: {first_line(error)}{hint}") from error
    finally:
        client.database = home
