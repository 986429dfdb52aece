"""`rollups`: compare the rollups with the stored events, and fill them from the events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.apps.store import store_client
from worker.clickhouse import rollups

if TYPE_CHECKING:
    from worker.settings import Settings


def differences(settings: Settings) -> dict[str, int]:
    """Return the number of rows of each rollup that differ from what the stored events give.

    Raises:
        StoreUnreachableError: ClickHouse does not answer.
    """
    with store_client(settings) as (_, client):
        return rollups.differences(client)


def fill(settings: Settings) -> list[str]:
    """Add every stored event to the rollups; return their names. Running it again changes nothing.

    Raises:
        StoreUnreachableError: ClickHouse does not answer.
    """
    with store_client(settings) as (_, client):
        return rollups.fill(client)
