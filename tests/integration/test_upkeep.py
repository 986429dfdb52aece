"""Dead letters put back and a user erased, with real workers, a real broker and the real engine behind HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.keys import user_key
from tests.chaos.feed import PARTITIONS, Input
from tests.chaos.world import World
from worker.clickhouse.writer import connect
from worker.embedded.store import EmbeddedStore
from worker.settings import KafkaSettings
from worker.stream.connection import aiokafka_options
from worker.stream.topics import TopicSpec, changelog_name, create

USERS, EACH = 10, 6
NOW = int(time.time() * 1000) - 60_000
"""Whoever was away for long is forgotten without anybody asking."""
PRIVACY = {"KEY": "0123456789abcdef" * 2, "USERS": "true", "ADDRESSES": "network"}
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)
BAD = b'{"tenant_id": "acme", "user_id": "u1", "ip": "nonsense", "user_agent": "x", "meta": "%s"}' % (b"x" * 200)


def event(user: int, number: int) -> bytes:
    return json.dumps({
        "tenant_id": "acme", "user_id": f"u{user}", "uid": f"s{user}", "user_agent": CHROME, "ip": "203.0.113.7",
        "created_at": NOW, "last_used_at": NOW + number * 1000,
    }).encode()  # fmt: skip


async def produce(options: Any, topic: str) -> Input:
    await create(options, [TopicSpec(topic, PARTITIONS, 1, {})])
    values = [BAD, *(event(user, number) for number in range(EACH) for user in range(USERS))]
    async with AIOKafkaProducer(**options) as producer:
        for number, value in enumerate(values):
            await producer.send_and_wait(topic, value, partition=number % PARTITIONS)
    return Input(topic, USERS * EACH, len(values))


def output(world: World, *arguments: str) -> bytes:
    environment = {**os.environ, **world.environment(0)}
    done = subprocess.run([sys.executable, "-m", "worker.cli", *arguments], env=environment,
                          capture_output=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


async def more_of(options: Any, topic: str, *users: int) -> None:
    async with AIOKafkaProducer(**options) as producer:
        for user in users:
            await producer.send_and_wait(topic, event(user, EACH + 1), partition=0)


async def last_states(options: Any, topic: str) -> dict[bytes, bytes | None]:
    found: dict[bytes, bytes | None] = {}
    async with AIOKafkaConsumer(**options, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, each) for each in range(PARTITIONS)])
        while batches := await consumer.getmany(timeout_ms=1_000):
            found |= {each.key: each.value for records in batches.values() for each in records}
    return found


def command(world: World, *arguments: str) -> Any:
    return json.loads(output(world, *arguments, "--json"))


def rows(world: World, sql: str) -> list[tuple[Any, ...]]:
    with closing(connect(world.dsn(direct=True, database=True))) as client:
        return list(client.query(sql).result_rows)


def status(worker: Any, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}{path}", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_dead_letters_go_back_without_doubling_and_a_user_is_erased(broker: Any, tmp_path: Path) -> None:
    name = f"upkeep-{uuid4().hex[:6]}"
    options = aiokafka_options(KafkaSettings(bootstrap_servers=broker.bootstrap_servers))
    source = asyncio.run(produce(options, f"{name}-input"))
    with (
        EmbeddedStore(tmp_path / "store") as store,
        World(name, broker.bootstrap_servers, source, store.address, tmp_path) as world,
    ):
        # What is wrong at first: all records are larger than the worker takes.
        world.more = {"SESSIONWATCH_STREAM__MAX_RECORD_BYTES": "100"}
        worker = world.start()
        world.until_ready(worker)
        world.until(lambda: len(asyncio.run(world.dead_letters())) == source.records, "the dead letters")
        world.stop(worker)
        listed = command(world, "dlq", "list", "--limit", "5")
        assert listed["counts"] == {"too-large": source.records}
        assert len(listed["letters"]) == 5
        known = [value for _, _, value in asyncio.run(world.dead_letters())]
        assert output(world, "dlq", "show", listed["letters"][0]["id"]) in known

        world.more = {}
        worker = world.start()
        world.until_ready(worker)
        for _ in range(2):
            done = command(world, "dlq", "replay", "--reason", "too-large")
            assert done["sent"] == source.accepted
            assert [letter["bytes"] for letter in done["left"]] == [len(BAD)]
        world.until(world.done, "the end of the replays")
        world.until(lambda: rows(world, "SELECT count() FROM session_events FINAL") == [(source.accepted,)], "rows")
        # As if they had been taken at first.
        assert rows(world, "SELECT DISTINCT kafka_topic FROM session_events") == [(source.topic,)]
        kept = "SELECT user_id, event_count, status FROM sessions FINAL ORDER BY user_id"
        assert [(user, count) for user, count, _ in rows(world, kept)] == [(f"u{user}", EACH) for user in range(USERS)]

        assert status(worker, "/api/tenants/acme/users/u3") == 200
        done = command(world, "forget", "--tenant", "acme", "--user", "u3")
        assert done["state"] == "erased"
        assert (done["rows"]["session_events"], done["rows"]["sessions"]) == (EACH, 1)
        assert status(worker, "/api/tenants/acme/users/u3") == 404
        assert status(worker, "/api/tenants/acme/users/u4") == 200
        for table in ("session_events", "sessions", "findings"):
            assert rows(world, f"SELECT count() FROM {table} WHERE user_id = 'u3'") == [(0,)]  # noqa: S608
        assert rows(world, "SELECT uniq(user_id) FROM session_events") == [(USERS - 1,)]
        # The changelog's last word on the user is a tombstone: compaction takes what came before it.
        assert asyncio.run(last_states(options, changelog_name(name)))[user_key("acme", "u3")] is None
        assert world.stop(worker) < 10

        # Whoever got a pseudonym meanwhile is erased by both names, asked for by the user's own or by the pseudonym.
        world.more = {f"SESSIONWATCH_PRIVACY__{each}": value for each, value in PRIVACY.items()}
        worker = world.start()
        world.until_ready(worker)
        asyncio.run(more_of(options, source.topic, 4, 5))
        for user, of_old in ((4, EACH), (5, EACH)):
            pseudonym = command(world, "pseudonym", "--tenant", "acme", "--user", f"u{user}")["user"]
            written = f"SELECT count() FROM session_events FINAL WHERE user_id = '{pseudonym}'"  # noqa: S608
            world.until(lambda written=written: rows(world, written) == [(1,)], "a row by the pseudonym")
            for known in (f"u{user}", pseudonym):
                assert status(worker, f"/api/tenants/acme/users/{known}") == 200
            done = command(world, "forget", "--tenant", "acme", "--user", pseudonym if user == 5 else f"u{user}")
            assert done["state"] == "erased"
            assert done["rows"]["session_events"] == (1 if user == 5 else 1 + of_old)
            assert status(worker, f"/api/tenants/acme/users/{pseudonym}") == 404
            assert rows(world, written) == [(0,)]
        assert rows(world, "SELECT count() FROM session_events WHERE user_id = 'u4'") == [(0,)]
        assert world.stop(worker) < 10
