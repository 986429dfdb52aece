"""Numbered migrations: `schemas/migrations/NNNN_name.sql`, each with an `-- up` and a `-- down` part.

A file that begins with `-- access` is about users: it is applied only when that is asked for, to a server, for the
embedded engine has none. A file may hold placeholders, which a `Layout` fills in: `{on_cluster}`, `{database}`,
`{ttl:table.column}` and `{engine:ReplacingMergeTree(version)}`. Every statement may run twice: two workers may apply
the same one at once.
"""

from __future__ import annotations

import re
from hashlib import sha256
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from clickhouse_connect.driver.exceptions import ClickHouseError

from worker.sinks.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from clickhouse_connect.driver.client import Client

_NAME = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_PARTS = re.compile(r"\A(?P<access>-- access\n)?-- up\n(?P<up>.*?)^-- down\n(?P<down>.*)\Z", re.DOTALL | re.MULTILINE)
_HOLE = re.compile(r"(?P<gap>\n?)\{(?P<what>on_cluster|database|engine|ttl)(?::(?P<of>[^}]*))?\}")
_NEWEST_FIRST = """
SELECT version, name, checksum FROM schema_migrations FINAL WHERE applied ORDER BY version DESC
"""
_ENGINE = "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = {table:String}"
_TTL_COLUMNS = {
    "session_events": "event_time",
    "sessions": "last_seen_at",
    "findings": "bucket_time",
    "feedback": "said_at",
}
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
    """Where tables lie and how long rows stay.

    Attributes:
        cluster: name of the cluster every statement runs on; `""` is the one server.
        replicated: Replicated engines, at the path and replica name the servers' configuration gives.
        ttl_days: days after which a table's rows are deleted, by table; unset means never.
        database: that of the tables.
    """

    cluster: str = ""
    replicated: bool = False
    ttl_days: Mapping[str, int] = MappingProxyType({})
    database: str = "default"

    def fill(self, template: str) -> str:
        """Return the statement a template stands for.

        >>> Layout("main", replicated=True).fill("CREATE TABLE t{on_cluster} … ENGINE = {engine:MergeTree}")
        "CREATE TABLE t ON CLUSTER 'main' … ENGINE = ReplicatedMergeTree"
        """
        return _HOLE.sub(self._fill, template)

    def _fill(self, hole: re.Match[str]) -> str:
        gap, of = hole["gap"], hole["of"] or ""
        if hole["what"] == "database":
            return f"{gap}`{self.database.replace('`', '``')}`"
        if hole["what"] == "engine":
            return f"{gap}Replicated{of}" if self.replicated else gap + of
        if hole["what"] == "on_cluster":
            return f"{gap} ON CLUSTER {_quoted(self.cluster)}" if self.cluster else gap
        table, _, column = of.partition(".")
        days = self.ttl_days.get(table)
        return f"{gap}TTL toDateTime({column}) + INTERVAL {int(days)} DAY" if days else ""


SINGLE = Layout()
"""One server, rows stay."""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class Migration(NamedTuple):
    """One migration; `up` and `down` are statements. `access`: it is about users and what they may."""

    version: int
    name: str
    checksum: str
    up: Sequence[str]
    down: Sequence[str]
    access: bool = False


class State(NamedTuple):
    """A migration and whether it is applied; `problem` says what is wrong with it, if anything is.

    `pending`: it is to be applied.
    """

    migration: Migration
    applied: bool
    problem: str
    pending: bool


def load(layout: Layout = SINGLE) -> list[Migration]:
    """Read the migrations the package ships, in order, as a layout wants them.

    Raises:
        MigrationError: a file is misnamed or lacks a part, or two have one number.
    """
    directory = files("schemas").joinpath("migrations")
    return parse({each.name: each.read_text("utf-8") for each in directory.iterdir()}, layout)


def parse(texts: Mapping[str, str], layout: Layout = SINGLE) -> list[Migration]:
    """Read migrations from the text of their files, by file name; return them in order.

    Raises:
        MigrationError: a file is misnamed or lacks a part, or two have one number.
    """
    found = sorted(_read(name, text, layout) for name, text in texts.items())
    if len({migration.version for migration in found}) != len(found):
        raise MigrationError("two migrations have the same number")
    return found


def _read(filename: str, text: str, layout: Layout) -> Migration:
    name, parts = _NAME.match(filename), _PARTS.match(text)
    if name is None or parts is None:
        raise MigrationError(f"{filename}: not a migration (NNNN_name.sql with -- up and -- down)")
    up, down = (_statements(layout.fill(parts[part])) for part in ("up", "down"))
    # Of the file and not of what a layout makes of it: a changed setting is no changed migration.
    return Migration(int(name[1]), name[2], sha256(text.encode()).hexdigest(), up, down, bool(parts["access"]))


def _statements(part: str) -> list[str]:
    return [statement.strip() for statement in re.split(r";\s*$", part, flags=re.MULTILINE) if statement.strip()]


def status(client: Client, migrations: Sequence[Migration] | None = None, *, access: bool = False) -> list[State]:
    """Compare the migrations there are with those the store has. Changes nothing.

    What a newer version applied is not looked at: its columns are named in every insert. `access`: those about users
    are to be applied, too.
    """
    applied = {version: checksum for version, _, checksum in _applied(client)}
    known = load() if migrations is None else migrations
    tables = {migration.version for migration in known if not migration.access}
    newest = max(tables & applied.keys(), default=0)
    return [_state(migration, applied, newest, access=access) for migration in known]


def _state(migration: Migration, applied: Mapping[int, str], newest: int, *, access: bool) -> State:
    checksum = applied.get(migration.version)
    if checksum is None:
        # Access may be asked for at any time.
        left_out = migration.version < newest and not migration.access
        problem = "left out: a later one is applied" if left_out else ""
        return State(migration, applied=False, problem=problem, pending=access or not migration.access)
    problem = "" if checksum == migration.checksum else "changed since it was applied"
    return State(migration, applied=True, problem=problem, pending=False)


def _applied(client: Client) -> list[tuple[int, str, str]]:
    """Return version, name and checksum of what is applied, the newest first."""
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
    """Apply what is not applied; return it. With `dry_run` nothing is done.

    Args:
        client: the store, in the database of the tables.
        migrations: by default those of the package, as `layout` wants them.
        dry_run: only tell.
        layout: where tables lie.
        access: apply those about users, too.

    Raises:
        MigrationError: an applied migration was changed since or one before it left out, or one fails.
    """
    states = status(client, _known(client, migrations, layout), access=access)
    for state in states:
        if state.problem:
            raise MigrationError(f"migration {_label(state.migration)}: {state.problem}")
    pending = [state.migration for state in states if state.pending]
    for migration in () if dry_run else pending:
        _run(client, migration, (layout.fill(_LEDGER), *migration.up), applied=True)
    return pending


def down(
    client: Client,
    migrations: Sequence[Migration] | None = None,
    *,
    dry_run: bool = False,
    layout: Layout = SINGLE,
) -> Migration | None:
    """Take the newest applied migration back; return it, None when there is none.

    Raises:
        MigrationError: it fails, or is not among the migrations there are: a newer version applied it.
    """
    known = {migration.version: migration for migration in _known(client, migrations, layout)}
    applied = _applied(client)
    if not applied:
        return None
    version, name, _ = applied[0]
    if version not in known:
        raise MigrationError(f"migration {version:04d}_{name} is of a newer version, which has to take it back")
    if not dry_run:
        _run(client, known[version], known[version].down, applied=False)
    return known[version]


def retain(client: Client, days: Mapping[str, int], *, dry_run: bool = False, layout: Layout = SINGLE) -> list[str]:
    """Have tables keep their rows for so many days; return the statements that takes, none when all is so already.

    Args:
        client: the store, in the database of the tables.
        days: by table; 0 means for good. What is not named stays as it is.
        dry_run: only tell.
        layout: where tables lie.

    Raises:
        MigrationError: a table cannot be changed, or there is none.
    """
    wanted = {table: _change(client, table, days[table], layout) for table in days}
    statements = [statement for statement in wanted.values() if statement]
    try:
        for statement in () if dry_run else statements:
            client.command(statement)
    except ClickHouseError as error:
        raise MigrationError(f"retention: {error}") from error
    return statements


def _change(client: Client, table: str, days: int, layout: Layout) -> str:
    """Return the statement after which a table keeps its rows for so many days; `""` when it does."""
    found = client.query(_ENGINE, parameters={"table": table}).result_rows
    if not found:
        raise MigrationError(f"retention: there is no table {table}")
    alter = layout.fill(f"ALTER TABLE {table}{{on_cluster}}")
    has = " TTL " in found[0][0]
    if not days:
        return f"{alter} REMOVE TTL" if has else ""
    column = _TTL_COLUMNS[table]
    if f"TTL toDateTime({column}) + toIntervalDay({days})" in found[0][0]:
        return ""
    return f"{alter} MODIFY TTL toDateTime({column}) + INTERVAL {days} DAY"


def _known(client: Client, migrations: Sequence[Migration] | None, layout: Layout) -> Sequence[Migration]:
    if migrations is not None:
        return migrations
    return load(layout._replace(database=str(client.command("SELECT currentDatabase()"))))


def _label(migration: Migration) -> str:
    return f"{migration.version:04d}_{migration.name}"


def _run(client: Client, migration: Migration, statements: Iterable[str], *, applied: bool) -> None:
    try:
        for statement in statements:
            client.command(statement)
        row = [migration.version, migration.name, migration.checksum, applied]
        client.insert("schema_migrations", [row], column_names=["version", "name", "checksum", "applied"])
    except ClickHouseError as error:
        raise MigrationError(f"migration {_label(migration)}: {error}") from error
