"""The embedded store for tests: one chDB directory a module, a database of its own for each test.

A process can have one chDB directory open, so every client must be closed when the module ends.
"""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import pytest

from worker.clickhouse import migrations
from worker.clickhouse.writer import connect
from worker.embedded.http import HttpEndpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clickhouse_connect.driver.client import Client

_numbers = itertools.count(1)


class Store(NamedTuple):
    """A directory that is open, and a writable SQL endpoint over it."""

    directory: Path
    endpoint: HttpEndpoint

    @property
    def dsn(self) -> str:
        return f"chdb://{self.directory}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    directory = tmp_path_factory.mktemp("chdb") / "store"
    with HttpEndpoint(directory, read_only=False) as endpoint:
        yield Store(directory, endpoint)


@pytest.fixture
def database(store: Store) -> str:
    name = f"t{next(_numbers)}"
    with closing(connect(store.dsn)) as client:
        client.command(f"CREATE DATABASE {name}")
    return name


@pytest.fixture
def client(store: Store, database: str) -> Iterator[Client]:
    """A client in an empty database."""
    with closing(connect(store.dsn, database=database)) as client:
        yield client


@pytest.fixture
def tables(client: Client) -> Client:
    """A client in a database with the tables of this version."""
    migrations.up(client)
    return client
