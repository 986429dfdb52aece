"""`forget`: erase a user from the workers' state and from ClickHouse."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from worker.apps.embedded import served
from worker.clickhouse.erasure import erase
from worker.clickhouse.migrations import layout_of
from worker.stream import erasure
from worker.stream.connection import aiokafka_options

if TYPE_CHECKING:
    from worker.settings import Settings


class ErasureResult(NamedTuple):
    """The result of an erasure.

    Attributes:
        state_erased: the workers have erased the user's state; otherwise they do when they read the request.
        rows: deleted rows by table.
        stays: what is not erased at once, and how long it stays.
    """

    state_erased: bool
    rows: dict[str, int]
    stays: dict[str, str]


def forget(settings: Settings, tenant: str, user: str, wait: float) -> ErasureResult:
    """Erase a user from the workers' state and from ClickHouse.

    Args:
        settings: where Kafka and ClickHouse are.
        tenant: tenant id.
        user: user id, or the user's pseudonym.
        wait: seconds to wait for the workers.

    Raises:
        KafkaError: Kafka cannot be reached.
        StoreUnreachableError: ClickHouse does not answer.
    """
    options, pseudonyms = aiokafka_options(settings.kafka), settings.privacy.pseudonyms()
    names = pseudonyms.names(tenant, user) if pseudonyms else [user]
    done = asyncio.run(erasure.forget(options, settings.topics, settings.stream.group_id, tenant, names, wait))
    with served(settings) as ready:
        rows = erase(ready.store_dsn(), ready.store_options(), tenant, names, layout_of(ready))
    return ErasureResult(done, rows, _stays(settings))


def _stays(settings: Settings) -> dict[str, str]:
    topics = settings.topics
    read = (topics.events, *topics.sources, topics.by_user, topics.starts, topics.dlq, topics.findings)
    return {
        ", ".join(read): f"{topics.retention_days} days at most",
        "changelog": "until the broker compacts it",
        "which database rows of sessions are the user's": "30 days at most",
        "who else used a session's uid, or came from a network": "8 and 30 days at most",
        "logs and backups of your own": "as you keep them",
    }
