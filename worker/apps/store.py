"""A client of the store that the settings name, whether a server or an embedded one."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from worker.apps.embedded import served
from worker.clickhouse.writer import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickhouse_connect.driver.client import Client

    from worker.settings import Settings


@contextmanager
def store_client(settings: Settings) -> Iterator[tuple[Settings, Client]]:
    """Yield settings whose DSN is that of a server, and a client of that server.

    Raises:
        worker.settings.SettingsError: `clickhouse.dsn` is not set.
        worker.embedded.store.StoreProcessError: the embedded store did not start.
        worker.clickhouse.errors.StoreUnreachableError: ClickHouse does not answer.
    """
    with served(settings) as ready, closing(connect(ready.store_dsn(), **ready.store_options())) as client:
        yield ready, client
