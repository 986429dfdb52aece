"""`migrate`: apply, revert and list the ClickHouse migrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from worker.apps.store import store_client
from worker.clickhouse import migrations
from worker.clickhouse.writer import create_database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.clickhouse.migrations import Migration, MigrationState
    from worker.settings import Settings

NOT_APPLICABLE = "skipped: about users, for a ClickHouse server with clickhouse.manage_access"


class MigrationStep(NamedTuple):
    """A migration that was applied or reverted, or would be, and its statements."""

    name: str
    statements: Sequence[str]


class MigrationStatus(NamedTuple):
    """A migration and its state; `current` is false when it is pending or was changed."""

    version: int
    short_name: str
    name: str
    state: str
    current: bool


def up(settings: Settings, *, dry_run: bool) -> tuple[list[MigrationStep], list[str]]:
    """Apply the pending migrations and set the retention of the tables; return the migrations and those statements.

    Creates the database first where the server lacks it, except on a cluster.

    Raises:
        MigrationError: a migration fails, or one that is applied was changed.
        StoreUnreachableError: ClickHouse does not answer.
    """
    layout = migrations.layout_of(settings)
    if not dry_run and not layout.cluster:
        create_database(settings.store_dsn(), **settings.store_options())
    with store_client(settings) as (ready, client):
        done = migrations.up(client, dry_run=dry_run, layout=layout, access=ready.manages_access())
        changed = migrations.retain(client, layout, dry_run=dry_run)
    return [MigrationStep(_name(each), each.up) for each in done], changed


def down(settings: Settings, *, dry_run: bool) -> list[MigrationStep]:
    """Revert the newest migration, and delete its data; return it, or nothing when none is applied.

    Raises:
        MigrationError: it fails, or a newer version applied it.
        StoreUnreachableError: ClickHouse does not answer.
    """
    with store_client(settings) as (ready, client):
        done = migrations.down(client, dry_run=dry_run, layout=migrations.layout_of(ready))
    return [] if done is None else [MigrationStep(_name(done), done.down)]


def status(settings: Settings) -> list[MigrationStatus]:
    """Return the state of every migration.

    Raises:
        StoreUnreachableError: ClickHouse does not answer.
    """
    with store_client(settings) as (ready, client):
        states = migrations.status(client, access=ready.manages_access())
    return [_status(each) for each in states]


def _status(state: MigrationState) -> MigrationStatus:
    migration = state.migration
    current = not (state.problem or state.pending)
    return MigrationStatus(migration.version, migration.name, _name(migration), _state(state), current)


def _state(state: MigrationState) -> str:
    if state.problem or state.applied:
        return state.problem or "applied"
    return "pending" if state.pending else NOT_APPLICABLE


def _name(migration: Migration) -> str:
    return f"{migration.version:04d}_{migration.name}"
