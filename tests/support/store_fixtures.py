"""The embedded store for tests: one process and directory a module, a database of its own for each test."""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import pytest

from worker.clickhouse import migrations
from worker.clickhouse.writer import connect
from worker.embedded.access import Role
from worker.embedded.store import Address, EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clickhouse_connect.driver.client import Client

_numbers = itertools.count(1)


class Store(NamedTuple):
    """A store that is served, and its directory."""

    directory: Path
    embedded: EmbeddedStore

    @property
    def address(self) -> Address:
        return self.embedded.address

    @property
    def dsn(self) -> str:
        """The DSN of who may write."""
        return self.address.dsn(Role.WRITER)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    directory = tmp_path_factory.mktemp("chdb") / "store"
    with EmbeddedStore(directory) as embedded:
        yield Store(directory, embedded)


@pytest.fixture
def database(store: Store) -> str:
    name = f"t{next(_numbers)}"
    with closing(connect(store.dsn)) as client:
        client.command(f"CREATE DATABASE {name}")
    return name


@pytest.fixture
def client(store: Store, database: str) -> Iterator[Client]:
    """A client in an empty database."""
    with closing(connect(store.address.dsn(Role.WRITER, database))) as client:
        yield client


@pytest.fixture
def tables(client: Client) -> Client:
    """A client in a database with the tables of this version."""
    migrations.up(client)
    return client
