"""A worker with several input topics, on the embedded broker and store."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from schemas.keys import partition_of, user_key
from tests.support.records import T0, session
from worker.apps.build import build_worker
from worker.apps.embedded import embedded
from worker.apps.run import finish
from worker.clickhouse.writer import connect
from worker.settings import Settings
from worker.stream.run import running

if TYPE_CHECKING:
    from pathlib import Path

KEYCLOAK, KRATOS = "keycloak.events", "kratos.sessions"
BY_TOPIC = "SELECT kafka_topic, shape, count(), uniqExact(user_id) FROM session_events FINAL GROUP BY ALL ORDER BY ALL"
ENDED = "SELECT count() FROM sessions FINAL WHERE session_uid LIKE 'd%' AND end_reason = 'deleted'"


def login(number: int) -> bytes:
    record = {"type": "LOGIN", "realmId": "acme", "userId": f"u{number}", "sessionId": f"k{number}", "time": T0,
              "ipAddress": "203.0.113.7", "clientId": "portal", "details": {}}  # fmt: skip
    return orjson.dumps(record)


def kratos(number: int) -> bytes:
    record = {
        "id": f"r{number}",
        "active": True,
        "issued_at": "2026-09-21T14:13:20Z",
        "identity": {"id": f"u{number}"},
        "authenticated_at": "2026-09-21T14:13:20Z",
        "expires_at": "2026-09-22T14:13:20Z",
        "authentication_methods": [{"method": "password"}],
        "devices": [{"ip_address": "203.0.113.7", "user_agent": "Mozilla/5.0", "location": "Paris, FR"}],
    }
    return orjson.dumps(record)


def row(number: int) -> list[bytes]:
    """A database row that is made and deleted; the deletion holds its key alone."""
    after = orjson.loads(session(user_id=f"u{number}", uid=f"d{number}"))
    made = {"before": None, "after": after, "op": "c", "ts_ms": T0}
    gone = {"before": {"uid": f"d{number}"}, "after": None, "op": "d", "ts_ms": T0 + 1_000}
    return [orjson.dumps(made), orjson.dumps(gone)]


async def take(settings: Settings, users: int) -> dict[str, int]:
    """Put the same users' records on all three topics, right in one of them and in one partition of the others."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
        for number in range(users):
            key = user_key("acme", f"u{number}")
            right = partition_of(key, settings.topics.partitions)
            await producer.send(settings.topics.events, session(user_id=f"u{number}"), key, right)
            await producer.send(KEYCLOAK, login(number), None, 0)
            await producer.send(KRATOS, kratos(number), None, 1)
            for change in row(number):
                await producer.send(settings.topics.events, change, None, 2)
        await producer.flush()
    parts = build_worker(settings, timer_clock="stream", web=False)
    async with running(parts.app):
        await finish(settings, parts)
    await parts.writer.close()
    recorder = parts.recorder
    return {name: recorder.count(name) for name in ("accepted", "rejected", "deduplicated")}


@pytest.mark.timeout(120)
def test_records_of_all_topics_become_events_of_their_users(tmp_path: Path) -> None:
    sources = {KEYCLOAK: {"mapping": "keycloak"}, KRATOS: {"tenant_id": "acme"}}
    settings = Settings.model_validate({"data_dir": tmp_path, "topics": {"sources": sources}})
    with embedded(settings) as servers:
        servers.tables.result()
        assert asyncio.run(take(servers.settings, 40)) == {"accepted": 200, "rejected": 0, "deduplicated": 0}
        with closing(connect(servers.settings.store_dsn())) as client:
            assert client.query(BY_TOPIC).result_rows == [
                ("auth.sessions", "debezium", 80, 40),
                ("auth.sessions", "snapshot", 40, 40),
                (KEYCLOAK, "keycloak", 40, 40),
                (KRATOS, "kratos", 40, 40),
            ]
            assert client.query(ENDED).result_rows == [(40,)]
