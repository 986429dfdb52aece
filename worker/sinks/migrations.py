"""Numbered migrations: `schemas/migrations/NNNN_name.sql`, each with an `-- up` and a `-- down` part."""

from __future__ import annotations

import re
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from clickhouse_connect.driver.exceptions import ClickHouseError

from worker.sinks.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clickhouse_connect.driver.client import Client

_NAME = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_PARTS = re.compile(r"\A-- up\n(?P<up>.*?)^-- down\n(?P<down>.*)\Z", re.DOTALL | re.MULTILINE)
_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    version    UInt32 COMMENT 'Number of the migration',
    name       String COMMENT 'Its name',
    checksum   String COMMENT 'SHA-256 of its file when it was applied',
    applied    Bool COMMENT 'False once it was taken back',
    changed_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When'
)
ENGINE = ReplacingMergeTree(changed_at)
ORDER BY version
"""


class Migration(NamedTuple):
    """One migration; `up` and `down` are statements."""

    version: int
    name: str
    checksum: str
    up: Sequence[str]
    down: Sequence[str]


class State(NamedTuple):
    """A migration and whether it is applied; `problem` says what is wrong with it, if anything is."""

    migration: Migration
    applied: bool
    problem: str


def load() -> list[Migration]:
    """Read the migrations the package ships, in order.

    Raises:
        MigrationError: a file is misnamed or lacks a part, or a number is missing.
    """
    found = sorted(
        (_read(each.name, each.read_text("utf-8")) for each in files("schemas").joinpath("migrations").iterdir()),
        key=lambda migration: migration.version,
    )
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("the migrations are not numbered 1, 2, 3, …")
    return found


def _read(filename: str, text: str) -> Migration:
    name, parts = _NAME.match(filename), _PARTS.match(text)
    if name is None or parts is None:
        raise MigrationError(f"{filename}: not a migration (NNNN_name.sql with -- up and -- down)")
    checksum = sha256(text.encode()).hexdigest()
    return Migration(int(name[1]), name[2], checksum, _statements(parts["up"]), _statements(parts["down"]))


def _statements(part: str) -> list[str]:
    return [statement.strip() for statement in re.split(r";\s*$", part, flags=re.MULTILINE) if statement.strip()]


def status(client: Client, migrations: Iterable[Migration] | None = None) -> list[State]:
    """Compare the migrations there are with those the store has."""
    client.command(_LEDGER)
    rows = client.query("SELECT version, checksum FROM schema_migrations FINAL WHERE applied").result_rows
    applied = {int(version): checksum for version, checksum in rows}
    states = []
    for migration in load() if migrations is None else migrations:
        checksum = applied.get(migration.version)
        changed = checksum is not None and checksum != migration.checksum
        states.append(State(migration, checksum is not None, "changed since it was applied" if changed else ""))
    return states


def up(client: Client, migrations: Iterable[Migration] | None = None, *, dry_run: bool = False) -> list[Migration]:
    """Apply what is not applied; return it. With `dry_run` nothing is done.

    Raises:
        MigrationError: an applied migration was changed since, or one fails.
    """
    states = status(client, migrations)
    for state in states:
        if state.problem:
            raise MigrationError(f"migration {state.migration.version:04d} was {state.problem}")
    pending = [state.migration for state in states if not state.applied]
    for migration in () if dry_run else pending:
        _run(client, migration, migration.up, applied=True)
    return pending


def down(
    client: Client, migrations: Iterable[Migration] | None = None, *, dry_run: bool = False
) -> Migration | None:
    """Take the newest applied migration back; return it, None when there is none.

    Raises:
        MigrationError: it fails.
    """
    applied = [state.migration for state in status(client, migrations) if state.applied]
    if not applied:
        return None
    if not dry_run:
        _run(client, applied[-1], applied[-1].down, applied=False)
    return applied[-1]


def _run(client: Client, migration: Migration, statements: Iterable[str], *, applied: bool) -> None:
    try:
        for statement in statements:
            client.command(statement)
        row = [migration.version, migration.name, migration.checksum, applied]
        client.insert("schema_migrations", [row], column_names=["version", "name", "checksum", "applied"])
    except ClickHouseError as error:
        raise MigrationError(f"migration {migration.version:04d}_{migration.name}: {error}") from error
