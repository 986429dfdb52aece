"""`query`: runs one statement on ClickHouse or on an embedded store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from clickhouse_connect.driver.exceptions import DatabaseError

from schemas.text import printable_lines
from worker.apps.directories import NoDirectoryError, StoredAt, find_store
from worker.apps.errors import UsageError
from worker.clickhouse.query import QueryAnswer, run_query, spreadsheet_safe
from worker.embedded.access import Role
from worker.embedded.store import StoreProcessError, running

if TYPE_CHECKING:
    from pathlib import Path

    from worker.settings import Settings

_CHANGES = re.compile(r"not allowed for a reader|Cannot execute query in readonly mode")
"""What an embedded store, or a server, answers to a statement that is not read-only."""


def run(settings: Settings, data_dir: Path | None, sql: str, form: str, *, write: bool) -> QueryAnswer:
    """Run one statement on the store of a directory, or else on that of the settings.

    A store that another process serves is queried over HTTP; otherwise this process opens the directory.

    Args:
        settings: where the store is.
        data_dir: directory of the store of `demo`, `replay` or `worker --embedded`, instead of the settings' store.
        sql: the statement.
        form: name of a ClickHouse output format.
        write: the statement may change something.

    Raises:
        NoDirectoryError: there is no store in the directory.
        UsageError: the statement needs `write`.
        ClickHouseError: the store does not understand the statement, or refuses it.
    """
    try:
        return _run(settings, data_dir, sql, form, write=write)
    except DatabaseError as error:
        if write or not _CHANGES.search(str(error)):
            raise
        raise UsageError("the statement changes data or is not allowed for readers: use --write") from error


def _run(settings: Settings, data_dir: Path | None, sql: str, form: str, *, write: bool) -> QueryAnswer:
    found = _embedded(settings, data_dir)
    if found is None:
        return run_query(settings.store_dsn(), sql, form, settings.store_options(), write=write)
    role = Role.WRITER if write else Role.READER
    if found.address is not None:
        return run_query(found.address.dsn(role), sql, form, {}, write=write)
    return _run_here(found.directory, sql, form, role)


def without_commands(answer: QueryAnswer, *, terminal: bool) -> bytes:
    """Return an answer without text that a spreadsheet, or a terminal, would execute."""
    body = spreadsheet_safe(answer.body) if answer.format.startswith("CSV") else answer.body
    return printable_lines(body.decode(errors="replace")).encode() if terminal else body


def _embedded(settings: Settings, data_dir: Path | None) -> StoredAt | None:
    """Return the embedded store to query; None when the settings name a server."""
    if data_dir is not None or settings.clickhouse.dsn is None:
        return find_store(data_dir or settings.data_dir)
    directory = settings.embedded_directory()
    if directory is None:
        return None
    if not directory.is_dir():
        raise NoDirectoryError(f"there is no store in {directory}")
    return StoredAt(directory, running(directory))


def _run_here(directory: Path, sql: str, form: str, role: Role) -> QueryAnswer:
    from worker.embedded.engine import Engine, Query  # noqa: PLC0415  half a gigabyte

    try:
        engine = Engine(directory, ceilings={}).__enter__()
    except RuntimeError as error:
        why = f"{directory} cannot be opened: another process has it open, or it cannot be written"
        raise StoreProcessError(why) from error
    try:
        answer = engine.run(Query(sql.rstrip().rstrip(";"), format=form), role)
    finally:
        engine.__exit__()
    if answer.code:
        raise DatabaseError(answer.body.decode(errors="replace"))
    return QueryAnswer(answer.body, answer.format)
