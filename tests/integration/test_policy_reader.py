"""The reader of tenant policies: one bad document stops nothing, and a reader that cannot read says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from worker.apps.build import _policy_taker
from worker.detections.policies import Policies
from worker.detections.registry import detections
from worker.settings import KafkaSettings
from worker.stream.connection import aiokafka_options
from worker.stream.policies import PolicyReader
from worker.stream.topics import TopicSpec, create

HOSTILE = (
    (b"a", b'{"first_party_clients":["(?i)acmeapp"]}'),
    (b"a", b'{"first_party_clients":["a{1,999999999999}"]}'),
    (b"a", b'{"first_party_clients":["(?P<x>a)", "(?P<x>b)"]}'),
    (b"a", b'{"first_party_clients":["(a+)+$"]}'),
    (b"b", b"[" * 100_000),
    (b"b", b'{"max_sessions":' + b"9" * 5_000 + b"}"),
    (b"c", b"\xff\xfe"),
    (b"\xff", b"{}"),
    (None, b"{}"),
    (b"d", b'{"x":"' + b"x" * 900_000 + b'"}'),
)


@asynccontextmanager
async def reading(
    broker: Any, topic: str, records: Any, on_policy: Callable[[str, bytes | None], None]
) -> AsyncIterator[tuple[PolicyReader, AIOKafkaProducer]]:
    """Give a started reader of a topic that holds records, and a producer."""
    options = aiokafka_options(KafkaSettings(bootstrap_servers=broker.bootstrap_servers))
    await create(options, [TopicSpec(topic, 1, 1, {})])
    async with AIOKafkaProducer(**options) as producer:
        for key, value in records:
            await producer.send_and_wait(topic, value, key, partition=0)
        reader = PolicyReader(options, topic, on_policy)
        await asyncio.wait_for(reader.start(), 30)
        try:
            yield reader, producer
        finally:
            await reader.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  a state of another task
            await asyncio.sleep(0.02)


def test_hostile_documents_stop_neither_start_nor_the_tenants_that_follow(broker: Any) -> None:
    policies = Policies(detections().values())

    async def scene() -> None:
        records = [*HOSTILE, (b"last", b'{"max_sessions": 3}')]
        async with reading(broker, "policies.hostile", records, _policy_taker(policies)) as (reader, producer):
            assert policies.engine_for("last").policy.max_sessions == 3
            for key, value in (*HOSTILE, (b"later", b'{"max_sessions": 4}')):
                await producer.send_and_wait("policies.hostile", value, key, partition=0)
            await until(lambda: policies.engine_for("later").policy.max_sessions == 4)
            assert reader.problem == ""

    asyncio.run(scene())
    assert policies.engine_for("a").is_first_party("a" * 60)


def test_a_reader_that_cannot_read_says_so_until_it_can(broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, bytes | None] = {}

    async def scene() -> None:
        async with reading(broker, "policies.broken", [(b"a", b"1")], found.__setitem__) as (reader, producer):
            assert reader.problem == ""
            fetch = reader._partitions

            async def broken(_: Any) -> Any:
                raise RuntimeError("no such thing")

            monkeypatch.setattr(reader, "_partitions", broken)
            await reader.stop()
            assert reader.problem == "the reader of tenant policies has stopped"
            reader._task = asyncio.create_task(reader._read_forever())
            await until(lambda: "no such thing" in reader.problem)
            assert "policies.broken" in reader.problem
            monkeypatch.setattr(reader, "_partitions", fetch)
            await producer.send_and_wait("policies.broken", b"2", b"b", partition=0)
            await until(lambda: reader.problem == "" and found.get("b") == b"2")

    asyncio.run(scene())
