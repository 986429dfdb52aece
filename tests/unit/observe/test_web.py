"""The worker's pages over HTTP, with one and with two workers, on the embedded broker."""

from __future__ import annotations

import asyncio
import json
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP
from prometheus_client.parser import text_string_to_metric_families

from schemas.keys import partition_of, user_key
from tests.support import stream_counting as sc
from worker.embedded.broker import EmbeddedBroker, free_port
from worker.enrich.enricher import GeoSource
from worker.observe.observer import MetricsObserver, state_sample
from worker.observe.web import _borne, _Pages, add_pages
from worker.pipeline.ports import BatchResult
from worker.sessions.codec import NEVER
from worker.sessions.limits import Limits
from worker.sessions.state import Session, encode_user, new_user
from worker.stream.app import App, create_app
from worker.stream.catchup import caught_up
from worker.stream.options import TABLE
from worker.stream.run import running
from worker.stream.state_store import MemoryShard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.pipeline.ports import Record, Shard

PARTITIONS = 4
NOW = 1_760_000_000_000
PSEUDONYM = f"p-{'0f' * 16}"
"""Of it nobody can tell the partition: every worker is asked."""
USERS = [PSEUDONYM, *(f"u/{number}%" for number in range(39))]


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker") / "log") as broker:
        yield broker.bootstrap_servers


class Remembering:
    """Remembers of every key that it was there: a user of the tenant before the slash."""

    def process(self, partition: int, records: Sequence[Record], shard: Shard) -> BatchResult:
        outcome = BatchResult()
        for record in records:
            assert record.key is not None
            assert record.value is not None
            state = encode_user(new_user("acme", record.value.decode()), NEVER)
            shard.put(record.key, state)
            outcome.states[record.key] = state
            outcome.counters["accepted",] += 1
        del partition
        return outcome

    def fire_timers(self, partition: int, now: int, shard: Shard) -> BatchResult:
        del partition, now, shard
        return BatchResult()


def make(bootstrap: str, group: str, token: str = "") -> App:
    settings = sc.settings(bootstrap, group, PARTITIONS, web=True, web_port=free_port())
    app = create_app(settings, Remembering(), sc.ListWriter(), observer=MetricsObserver(lambda: NOW))
    sources = [GeoSource("city", "test", NOW // 1000 - 60), GeoSource("gazetteer", "test", 0)]
    add_pages(app, table=TABLE, limits=Limits(), clock=lambda: NOW, sources=lambda: sources, token=token)
    return app


async def get(app: App, path: str, **headers: str) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{app.settings.web_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        body = await answer.text()
        return answer.status, json.loads(body) if answer.content_type == "application/json" else body


async def fill(bootstrap: str, group: str) -> dict[TP, int]:
    topics = await sc.make_topics(bootstrap, group, PARTITIONS)
    made = [(partition_of(key, PARTITIONS), key, user.encode()) for user in USERS if (key := user_key("acme", user))]
    await sc.produce(bootstrap, topics.events, made)
    async with AIOKafkaConsumer(**sc.options(bootstrap)) as consumer:
        ends = await consumer.end_offsets([TopicPartition(topics.events, p) for p in range(PARTITIONS)])
    return {TP(*tp): offset for tp, offset in ends.items()}


def path_of(user: str) -> str:
    return f"/api/tenants/acme/users/{user.replace('%', '%25').replace('/', '%2F')}"


def values(text: str, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def test_one_worker_answers_everything(bootstrap: str) -> None:
    async def main() -> None:
        group = f"g{uuid.uuid4().hex[:8]}"
        ends = await fill(bootstrap, group)
        app = make(bootstrap, group)
        async with running(app):
            await asyncio.wait_for(caught_up(app, ends), 30)
            assert await get(app, "/health/live") == (200, {"status": "live"})
            assert await get(app, "/health/ready") == (200, {"status": "ready", "reasons": []})
            for user in USERS[:3]:
                status, found = await get(app, path_of(user))
                assert (status, found["user_id"], found["active_sessions"]) == (200, user, 0)
            assert (await get(app, path_of("nobody")))[0] == 404
            status, tenant = await get(app, "/api/tenants/acme")
            assert (status, tenant["users"]) == (200, len(USERS))
            assert (await get(app, "/api/tenants/acm"))[1]["users"] == 0
            await check_metrics(app, group)

    asyncio.run(main())


async def check_metrics(app: App, group: str) -> None:
    status, text = await get(app, "/metrics")
    assert status == 200
    assert values(text, "sessionwatch_records_in_total")[f"{group}.in",] == len(USERS)
    assert sum(values(text, "sessionwatch_state_users").values()) == len(USERS)
    assert sum(values(text, "sessionwatch_state_bytes").values()) > len(USERS)
    assert values(text, "sessionwatch_ready") == {(): 1}
    assert values(text, "sessionwatch_in_flight_rows") == {(): 0}
    assert values(text, "sessionwatch_geo_age_seconds") == {("city",): 60}


def test_a_request_is_routed_to_the_worker_that_keeps_the_user(bootstrap: str) -> None:
    async def main() -> None:
        group = f"g{uuid.uuid4().hex[:8]}"
        await fill(bootstrap, group)
        first, second = make(bootstrap, group), make(bootstrap, group)
        async with running(first), running(second):
            await until_shared(first, second)
            for app, other in ((first, second), (second, first)):
                for user in USERS[:12]:
                    status, found = await get(app, path_of(user))
                    assert (status, found["user_id"]) == (200, user)
                away = next(user for user in USERS[1:] if home(user) in other.delivery.queues)
                status, _ = await get(app, path_of(away), **{"X-Sessionwatch-Routed": "1"})
                assert status == 503
                status, found = await get(app, path_of(PSEUDONYM[:-1] + "e"))
                assert (status, found["error"]) == (404, "there is no state of this user")

    asyncio.run(main())


def test_without_the_token_nothing_but_health_is_told(bootstrap: str) -> None:
    async def main() -> None:
        group = f"g{uuid.uuid4().hex[:8]}"
        await fill(bootstrap, group)
        first, second = make(bootstrap, group, "s3cret"), make(bootstrap, group, "s3cret")
        async with running(first), running(second):
            await until_shared(first, second)
            for path in ("/metrics", "/api/tenants/acme", path_of(USERS[0])):
                for given in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "s3cret"}):
                    assert (await get(first, path, **given))[0] == 401
                assert (await get(first, path, Authorization="Bearer s3cret"))[0] == 200
            assert (await get(first, "/health/live"))[0] == 200
            # A request that is routed takes its token along: both are on loopback.
            away = next(user for user in USERS[1:] if home(user) in second.delivery.queues)
            assert (await get(first, path_of(away), Authorization="Bearer s3cret"))[0] == 200

    asyncio.run(main())


def test_a_token_goes_to_another_host_only_where_a_setting_allows_it() -> None:
    asked: list[dict[str, str]] = []

    class Client:
        def get(self, _url: str, *, headers: dict[str, str], **_: Any) -> Any:
            asked.append(headers)
            raise aiohttp.ClientConnectionError

    app = SimpleNamespace(http_client=Client())

    async def ask(url: str, *, clear_token: bool, **headers: str) -> str:
        pages = _Pages(app, TABLE, Limits(), lambda: NOW, tuple, list, None, clear_token=clear_token)
        page = await pages._asked(url, SimpleNamespace(headers=headers, raw_path="/x"))
        assert page.status == 503
        return str(json.loads(page.body)["error"])

    async def main() -> None:
        given = {"Authorization": "Bearer s3cret"}
        why = await ask("http://10.1.2.3:6066", clear_token=False, **given)
        assert "http://10.1.2.3:6066" in why
        assert "web.forward_over_http" in why
        assert not asked
        await ask("http://10.1.2.3:6066", clear_token=True, **given)
        await ask("https://10.1.2.3:6066", clear_token=False, **given)
        await ask("http://127.0.0.1:6066", clear_token=False, **given)
        assert [headers["Authorization"] for headers in asked] == ["Bearer s3cret"] * 3
        await ask("http://10.1.2.3:6066", clear_token=False)
        assert "Authorization" not in asked[-1]

    asyncio.run(main())


def test_a_token_that_is_no_text_is_a_wrong_token() -> None:
    request = SimpleNamespace(headers={"Authorization": "Bearer s3cret\udcff"})
    assert _borne(request) == b"Bearer s3cret\xff"


def home(user: str) -> int:
    return partition_of(user_key("acme", user), PARTITIONS)


async def until_shared(first: App, second: App) -> None:
    deadline = asyncio.get_running_loop().time() + 40
    while not (is_complete(first) and is_complete(second)):
        assert asyncio.get_running_loop().time() < deadline, "the workers did not share the partitions"
        await asyncio.sleep(0.1)


def is_complete(app: App) -> bool:
    """Whether the worker has half of the partitions, and everything in them."""
    queues = app.delivery.queues
    due = sum(home(user) in queues for user in USERS)
    return len(queues) == PARTITIONS // 2 and sum(map(len, queues.values())) == due


def test_the_size_of_a_shard_is_extrapolated() -> None:
    shard = MemoryShard()
    assert state_sample(shard, 0) == (0, 0, 0)
    for number in range(5_000):
        user = new_user("acme", "u" * (number % 10))
        expires = 3_600_000 if number % 3 else 600_000
        user.current.sessions["s"] = Session(1, 1, 0, 1, 1, 1, expires, 0, None, None, -1, 0, 1, 0, 0.0, 0, 0, [])
        shard.put(b"%d" % number, encode_user(user, NEVER))
    exact = sum(len(state) for _, state in shard.items())
    size, users, active = state_sample(shard, 30 * 60_000)
    assert users == pytest.approx(5_000)
    assert size == pytest.approx(exact, rel=0.05)
    assert active == pytest.approx(3_333, rel=0.05), "a third of the sessions last ten minutes, the others an hour"
