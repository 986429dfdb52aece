"""The stream layer over the real wire protocol, on the embedded broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import uuid
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from faust.exceptions import ImproperlyConfigured
from faust.types import TP

from tests.support import stream_counting as sc
from tests.support.brokers import ApacheKafka, missing
from worker.observe.interface import StreamObserver
from worker.pipeline.ports import Message
from worker.sessions.codec import UnknownFormatError
from worker.stream.app import AFTER_COMMIT, App, create_app
from worker.stream.catchup import caught_up
from worker.stream.clock import Timers
from worker.stream.delivery import AFTER_CHANGELOG, AbandonedError
from worker.stream.inflight import DeliveryLimits
from worker.stream.inserter import AFTER_INSERT, BEFORE_INSERT
from worker.stream.publisher import ChangelogWriter, Publisher
from worker.stream.recovery import restore
from worker.stream.run import running
from worker.stream.state_store import MemoryShard
from worker.stream.timers import NEVER
from worker.stream.topics import TopicSpec, changelog_name, create

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from worker.pipeline.ports import BatchResult, Record, Shard

PARTITIONS = 4
HELPER = Path(__file__).parents[1] / "support" / "stream_counting.py"


@pytest.fixture
def bootstrap(broker: Any) -> str:
    address: str = broker.bootstrap_servers
    return address


@pytest.fixture
def group() -> str:
    return f"g{uuid.uuid4().hex[:8]}"


def make(bootstrap: str, group: str, writer: Any, **changes: Any) -> App:
    parts = {name: changes.pop(name) for name in ("observer", "clock", "faults") if name in changes}
    processor = changes.pop("processor", None) or sc.Counting(PARTITIONS, f"{group}.by-user")
    return create_app(
        sc.settings(bootstrap, group, PARTITIONS, **changes),
        processor,
        writer,
        on_policy=processor.set_policy,
        **parts,
    )


async def catch_up(app: App, ends: dict[TP, int], seconds: float = 90) -> None:
    await asyncio.wait_for(caught_up(app, ends), seconds)


async def recovered(bootstrap: str, group: str) -> dict[str, tuple[int, int]]:
    """What a new owner of all partitions would find in the changelog."""
    shards = {partition: MemoryShard() for partition in range(PARTITIONS)}
    await restore(sc.options(bootstrap), changelog_name(group), shards)
    return sc.shard_totals(shards.values())


async def eventually(check: Callable[[], Any], seconds: float = 90) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not check():
        assert asyncio.get_running_loop().time() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


def test_state_survives_a_restart_and_nothing_comes_twice(bootstrap: str, group: str) -> None:
    async def main() -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        first, second = sc.events(2_000, PARTITIONS), sc.events(1_000, PARTITIONS, start=2_000)
        writer = sc.ListWriter()
        ends = await sc.produce(bootstrap, topics.events, first)
        async with running(make(bootstrap, group, writer)) as app:
            await catch_up(app, ends)
            assert sc.shard_totals(app.shards.shards.values()) == sc.totals(first)
        inserted = len(writer.rows["events"])
        ends = await sc.produce(bootstrap, topics.events, second)
        async with running(make(bootstrap, group, writer)) as app:
            assert sc.shard_totals(app.shards.shards.values()) == sc.totals(first)
            await catch_up(app, ends)
            assert sc.shard_totals(app.shards.shards.values()) == sc.totals([*first, *second])
        # A graceful stop commits everything: not one row is written again.
        assert inserted == 2_000
        assert len(writer.rows["events"]) == 3_000
        rows = sc.deduplicated(writer.rows["events"])
        assert sc.final_totals(rows) == sc.totals([*first, *second])

    asyncio.run(main())


def test_a_record_that_breaks_the_processor_goes_to_the_dead_letters_alone(
    bootstrap: str, group: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        good = sc.events(100, PARTITIONS)
        ends = await sc.produce(bootstrap, topics.events, [*good[:50], (0, b"bad", b"boom"), *good[50:]])
        writer = sc.ListWriter()
        async with running(make(bootstrap, group, writer)) as app:
            await catch_up(app, ends)
        assert sc.final_totals(sc.deduplicated(writer.rows["events"])) == sc.totals(good)
        (dead,) = await read_all(bootstrap, topics.dlq)
        assert (dead.key, dead.value) == (b"bad", b"boom")
        headers = dict(dead.headers)
        assert headers["sw-reason"] == b"internal-error"
        # What went wrong and where, without what the record says.
        assert headers["sw-message"].startswith(b"ValueError at stream_counting.py:")
        assert b"boom" not in headers["sw-message"]
        (line,) = [each.getMessage() for each in caplog.records if "The processor failed" in each.getMessage()]
        assert "ValueError at stream_counting.py:" in line
        assert "ValueError: boom" not in line

    asyncio.run(main())


def test_a_state_of_a_newer_version_stops_the_worker_and_makes_no_dead_letter(bootstrap: str, group: str) -> None:
    class Newer(sc.Counting):
        def process(self, *_: Any) -> Any:
            raise UnknownFormatError(99)

    async def until_failed(app: App) -> None:
        async with running(app):
            await eventually(lambda: app.failure is not None)

    async def main() -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        await sc.produce(bootstrap, topics.events, sc.events(10, PARTITIONS))
        processor = Newer(PARTITIONS, topics.by_user)
        with pytest.raises(UnknownFormatError, match="format 99"):
            await until_failed(make(bootstrap, group, sc.ListWriter(), processor=processor))
        assert await read_all(bootstrap, topics.dlq) == []

    asyncio.run(main())


async def read_all(bootstrap: str, topic: str) -> list[Any]:
    found: list[Any] = []
    async with AIOKafkaConsumer(**sc.options(bootstrap), auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, p) for p in range(PARTITIONS)])
        await consumer.seek_to_beginning()
        while records := await consumer.getmany(timeout_ms=1_000):
            found += [record for batch in records.values() for record in batch]
    return found


def test_an_idle_worker_inserts_an_event_150_ms_after_the_insert_delay_at_most(bootstrap: str, group: str) -> None:
    async def main() -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        writer = sc.ListWriter()
        loop = asyncio.get_running_loop()
        producer = AIOKafkaProducer(**sc.options(bootstrap))
        await producer.start()
        taken, limits = [], DeliveryLimits(insert_delay=0.1)
        async with running(make(bootstrap, group, writer, limits=limits)):
            for i, (partition, key, value) in enumerate(sc.events(6, PARTITIONS, stray=100, start=1)):
                await asyncio.sleep(0.3)
                sent = loop.time()
                await producer.send_and_wait(topics.events, value, key, partition=partition)
                await eventually(lambda wanted=i + 1: len(writer.rows["events"]) >= wanted)
                taken.append(writer.times[-1] - sent)
        await producer.stop()
        assert sorted(taken)[len(taken) // 2] < 0.25, taken

    asyncio.run(main())


def test_a_blocked_store_bounds_what_is_in_flight_and_catches_up(bootstrap: str, group: str) -> None:
    seconds, count = 5, 100_000
    limits = DeliveryLimits(insert_rows=5_000, max_rows=10_000, stall_seconds=2)

    async def main() -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        writer = sc.ListWriter()
        assigned: list[Any] = []

        class Watch(StreamObserver):
            def on_assigned(self, partitions: Any) -> None:
                assigned.append(list(partitions))

        app = make(bootstrap, group, writer, limits=limits, batch_records=1_000, observer=Watch())
        async with running(app):
            assert app.problems == []
            writer.go.clear()
            made = sc.events(count, PARTITIONS, keys=500, stray=1000)
            ends = await sc.produce(bootstrap, topics.events, made)
            most = 0
            for _ in range(seconds * 10):
                most = max(most, app.delivery.in_flight.rows)
                await asyncio.sleep(0.1)
            assert 10_000 <= most <= 11_000
            assert "in flight" in app.problems[0]
            assert sum(app.lag().values()) > count // 2
            writer.go.set()
            await catch_up(app, ends)
            assert app.problems == []
            assert len(assigned) == 1, "the worker lost its place in the group"
        assert sc.final_totals(sc.deduplicated(writer.rows["events"])) == sc.totals(made)

    asyncio.run(main())


def test_time_alone_ends_what_is_due_once(bootstrap: str, group: str) -> None:
    async def main() -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        writer, now = sc.ListWriter(), [1_000_000]
        processor = sc.Counting(PARTITIONS, topics.by_user, wake_after=60_000)
        made = sc.events(40, PARTITIONS, stray=1000)
        async with running(make(bootstrap, group, writer, processor=processor, clock=lambda: now[0])) as app:
            ends = await sc.produce(bootstrap, topics.events, made, timestamp=1_000_000)
            await catch_up(app, ends)
            now[0] = 1_059_999
            await asyncio.sleep(0.4)
            assert not writer.rows["ended"]
            now[0] = 1_060_000
            await eventually(lambda: len(writer.rows["ended"]) == 40)
            await asyncio.sleep(0.4)
        assert sorted(key for key, _ in writer.rows["ended"]) == sorted(sc.totals(made))
        assert await recovered(bootstrap, group) == {}

    asyncio.run(main())


def test_policies_are_there_before_the_first_batch_and_change_live(bootstrap: str, group: str) -> None:
    async def main() -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        await sc.produce(bootstrap, topics.policies, [(0, b"acme", b"old"), (0, b"acme", b"{}"), (0, b"beta", b"1")])
        ends = await sc.produce(bootstrap, topics.events, sc.events(10, PARTITIONS))
        processor = sc.Counting(PARTITIONS, topics.by_user)
        async with running(make(bootstrap, group, sc.ListWriter(), processor=processor)) as app:
            await catch_up(app, ends)
            assert processor.first_policies == {"acme": b"{}", "beta": b"1"}
            producer = AIOKafkaProducer(**sc.options(bootstrap))
            await producer.start()
            await producer.send_and_wait(topics.policies, None, b"acme", partition=0)
            await producer.stop()
            await eventually(lambda: processor.policies["acme"] is None)

    asyncio.run(main())


def test_a_worker_that_does_not_read_policies_is_unready_and_a_bad_one_is_no_reason(bootstrap: str, group: str) -> None:
    class Picky(sc.Counting):
        def set_policy(self, tenant: str, document: bytes | None) -> None:
            super().set_policy(tenant, document)
            raise RuntimeError("a document that nobody foresaw")

    async def main() -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        await sc.produce(bootstrap, topics.policies, [(0, b"acme", b"old"), (0, b"acme", b"{}"), (0, b"beta", b"1")])
        processor = Picky(PARTITIONS, topics.by_user)
        async with running(make(bootstrap, group, sc.ListWriter(), processor=processor)) as app:
            await eventually(lambda: app.problems == [])
            assert processor.policies == {"acme": b"{}", "beta": b"1"}
            assert app.policy_reader is not None
            await app.policy_reader.stop()
            assert app.problems == ["the reader of tenant policies has stopped"]

    asyncio.run(main())


def test_a_second_worker_takes_a_share_and_gives_it_back(bootstrap: str, group: str) -> None:
    async def main() -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        writer = sc.ListWriter()
        made: list[sc.Event] = []

        async def more() -> None:
            made.extend(sc.events(500, PARTITIONS, start=len(made)))
            await sc.produce(bootstrap, topics.events, made[-500:])

        async def until_done() -> None:
            await eventually(lambda: len(sc.deduplicated(writer.rows["events"])) == len(made), 30)

        async with running(make(bootstrap, group, writer)) as one:
            await more()
            await until_done()
            kept = dict(one.shards.shards)
            async with running(make(bootstrap, group, writer)) as two:
                await eventually(lambda: len(one.delivery.queues) == len(two.delivery.queues) == PARTITIONS // 2)
                assert set(one.delivery.queues).isdisjoint(two.delivery.queues)
                for partition, shard in one.delivery.queues.items():
                    assert shard is kept[partition], "a partition that stayed was recovered again"
                await more()
                await until_done()
                totals = sc.shard_totals([*one.delivery.queues.values(), *two.delivery.queues.values()])
                assert totals == sc.totals(made)
            await eventually(lambda: len(one.delivery.queues) == PARTITIONS)
            await more()
            await until_done()
            assert sc.shard_totals(one.delivery.queues.values()) == sc.totals(made)
        assert sc.final_totals(sc.deduplicated(writer.rows["events"])) == sc.totals(made)

    asyncio.run(main())


class Slow(sc.Counting):
    """Takes 10 ms a record, and keeps of which partition and of how many records each part was."""

    def __init__(self, by_user: str) -> None:
        super().__init__(PARTITIONS, by_user)
        self.pieces: list[tuple[TP, int]] = []

    def process(self, partition: int, records: Sequence[Record], shard: Shard) -> BatchResult:
        time.sleep(0.01 * len(records))
        self.pieces.append((TP(records[0].topic, partition), len(records)))
        return super().process(partition, records, shard)


def test_a_chunk_that_takes_long_is_processed_in_pieces(bootstrap: str, group: str) -> None:
    async def main() -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        made, writer, processor = sc.events(400, PARTITIONS), sc.ListWriter(), Slow(topics.by_user)
        ends = await sc.produce(bootstrap, topics.events, made)
        async with running(make(bootstrap, group, writer, processor=processor, batch_records=80)) as app:
            await catch_up(app, ends)
        sizes: defaultdict[TP, list[int]] = defaultdict(list)
        for tp, size in processor.pieces:
            sizes[tp].append(size)
        # How long a record takes is known after the first; half a second is what a part may take.
        assert max(size for _, *later in sizes.values() for size in later) <= 50
        assert any(first > 50 for first, *_ in sizes.values())
        assert sc.final_totals(sc.deduplicated(writer.rows["events"])) == sc.totals(made)

    asyncio.run(main())


def test_a_stop_amid_a_chunk_leaves_the_rest_to_the_next_owner(bootstrap: str, group: str) -> None:
    async def main() -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        made, writer, processor = sc.events(640, PARTITIONS, keys=1), sc.ListWriter(), Slow(topics.by_user)
        async with running(make(bootstrap, group, writer, processor=processor, batch_records=600)):
            await sc.produce(bootstrap, topics.events, made[:40])
            await eventually(lambda: len(sc.deduplicated(writer.rows["events"])) == 40)
            ends = await sc.produce(bootstrap, topics.events, made[40:])
            await eventually(lambda: len(sc.deduplicated(writer.rows["events"])) > 40)
        assert len(writer.rows["events"]) < 640, "the stop waited for the whole chunk"
        async with running(make(bootstrap, group, writer)) as app:
            await catch_up(app, ends)
        assert len(writer.rows["events"]) == 640, "what was durable at the stop was not committed"
        assert sc.final_totals(sc.deduplicated(writer.rows["events"])) == sc.totals(made)

    asyncio.run(main())


async def fill(bootstrap: str, topic: str, partitions: range, count: int) -> None:
    async with AIOKafkaProducer(**sc.options(bootstrap), linger_ms=20, max_batch_size=1 << 19) as producer:
        for number in range(count):
            for partition in partitions:
                state = sc.encode(NEVER, n=1, sum=number) + bytes(1_000)
                await producer.send(topic, state, b"a/%d" % number, partition=partition)


def test_all_of_a_large_changelog_is_recovered(bootstrap: str, group: str) -> None:
    """A broker fills an answer with one partition and says nothing of the others, which says nothing."""

    async def main() -> None:
        topic, count = changelog_name(group), 12_000
        await create(sc.options(bootstrap), [TopicSpec(topic, PARTITIONS, 1, {})])
        await fill(bootstrap, topic, range(PARTITIONS), count)
        shards = {partition: MemoryShard() for partition in range(PARTITIONS)}
        await asyncio.wait_for(restore(sc.options(bootstrap), topic, shards), 60)
        assert [len(shard) for shard in shards.values()] == [count] * PARTITIONS

    asyncio.run(main())


def test_recovery_does_not_end_before_the_mark_was_read(bootstrap: str, group: str) -> None:
    async def main() -> None:
        topic = changelog_name(group)
        await create(sc.options(bootstrap), [TopicSpec(topic, PARTITIONS, 1, {})])
        await fill(bootstrap, topic, range(1), 10)
        shard = MemoryShard()
        # As when a new leader does not know yet that 15 records are durable.
        recovering = asyncio.create_task(restore(sc.options(bootstrap), topic, {0: shard}, {0: 14}))
        await eventually(lambda: len(shard) == 10)
        await asyncio.sleep(0.5)
        assert not recovering.done()
        await fill(bootstrap, topic, range(1), 15)
        await asyncio.wait_for(recovering, 30)
        assert (len(shard), shard.offset) == (15, 24)

    asyncio.run(main())


@pytest.mark.kafka
def test_the_broker_refuses_states_of_a_partition_that_has_a_new_owner(kafka_broker: Any, group: str) -> None:
    async def main() -> None:
        address = kafka_broker.bootstrap_servers
        await sc.make_topics(address, group, PARTITIONS)
        topic = changelog_name(group)
        frozen, owner = (ChangelogWriter(sc.options(address), topic, group) for _ in range(2))

        async def sure() -> None:
            """Be as sure as a process that was frozen right here."""

        await frozen.take(0)
        await frozen.take(1)
        await frozen.write(0, {b"a/b": sc.encode(NEVER, n=1, sum=1)}, sure)
        await owner.take(0)
        await owner.write(0, {b"a/b": sc.encode(NEVER, n=3, sum=3)}, sure)
        with pytest.raises(AbandonedError):
            await asyncio.wait_for(frozen.write(0, {b"a/b": sc.encode(NEVER, n=2, sum=2)}, sure), 10)
        await frozen.write(1, {b"c/d": sc.encode(NEVER, n=1, sum=1)}, sure)
        await frozen.stop()
        await owner.stop()
        assert await recovered(address, group) == {"a/b": (3, 3), "c/d": (1, 1)}

    asyncio.run(main())


@pytest.mark.kafka
@pytest.mark.parametrize("before", [60, 100])
def test_a_changelog_whose_head_or_whole_was_deleted_does_not_hang(kafka_broker: Any, group: str, before: int) -> None:
    async def main() -> None:
        address = kafka_broker.bootstrap_servers
        topic = changelog_name(group)
        # What only compacts cannot be deleted from on demand.
        await create(sc.options(address), [TopicSpec(topic, 4, 1, {"cleanup.policy": "compact,delete"})])
        writer = ChangelogWriter(sc.options(address), topic, group)

        async def sure() -> None:
            """Be sure."""

        await writer.take(0)
        await writer.write(0, {b"a/%d" % i: sc.encode(NEVER, n=1, sum=i) for i in range(1, 100)}, sure)
        await writer.stop()
        admin = AIOKafkaAdminClient(**sc.options(address))
        await admin.start()
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=before)})
        await admin.close()
        found = await asyncio.wait_for(recovered(address, group), 10)
        assert found == {f"a/{i}": (1, i) for i in range(before, 100)}
        # A shard that holds some of what was deleted goes on; one that holds more than there is starts anew.
        shard = MemoryShard()
        shard.restore([(b"a/1", sc.encode(NEVER, n=1, sum=1))], 1)
        await asyncio.wait_for(restore(sc.options(address), topic, {0: shard}), 10)
        assert len(shard) == 101 - before
        shard.restore([], 5_000)
        await asyncio.wait_for(restore(sc.options(address), topic, {0: shard}), 10)
        assert (len(shard), shard.offset) == (100 - before, 99)

    asyncio.run(main())


@pytest.mark.kafka
def test_a_message_that_is_too_large_loses_its_value_and_not_its_neighbours(kafka_broker: Any, group: str) -> None:
    async def main() -> None:
        address, topic = kafka_broker.bootstrap_servers, f"{group}.small"
        await create(sc.options(address), [TopicSpec(topic, PARTITIONS, 1, {"max.message.bytes": "2000"})])
        told: list[tuple[str, int]] = []
        publisher = Publisher(sc.options(address), on_oversize=lambda *about: told.append(about))
        values = [b"one", b"x" * 5_000, b"three" * 300, b"four" * 300]
        messages = [Message(topic, b"key", value, (("h", b"1"),), timestamp=1_000) for value in values]
        await asyncio.wait_for(publisher.publish(messages), 10)
        await publisher.stop()
        records = await read_all(address, topic)
        found = {record.value: dict(record.headers) for record in records}
        assert found[b""] == {"h": b"1", "sw-truncated": b"5000"}
        assert set(found) == {b"", b"one", b"three" * 300, b"four" * 300}
        assert {record.timestamp for record in records} == {1_000}
        assert told == [(topic, 5_000)]

    asyncio.run(main())


@pytest.mark.kafka
def test_partitions_added_to_the_input_stop_the_worker_with_what_to_do(kafka_broker: Any, group: str) -> None:
    async def add(address: str, topic: str) -> None:
        admin = AIOKafkaAdminClient(**sc.options(address))
        await admin.start()
        await admin.create_partitions({topic: NewPartitions(PARTITIONS + 2)})
        await admin.close()

    async def until_failed(app: App, ends: dict[TP, int], topic: str) -> None:
        async with running(app):
            await catch_up(app, ends)
            await add(kafka_broker.bootstrap_servers, topic)
            await eventually(lambda: app.failure is not None, 30)

    async def main() -> None:
        address = kafka_broker.bootstrap_servers
        topics = await sc.make_topics(address, group, PARTITIONS)
        made, writer = sc.events(200, PARTITIONS), sc.ListWriter()
        ends = await sc.produce(address, topics.events, made)
        # So often the group's leader looks for new partitions; five minutes unless set.
        kafka = {**sc.options(address), "metadata_max_age_ms": 500}
        with pytest.raises(ImproperlyConfigured, match=r"same number of partitions.*new group with new topics"):
            await until_failed(make(address, group, writer, kafka=kafka), ends, topics.events)
        assert sc.final_totals(sc.deduplicated(writer.rows["events"])) == sc.totals(made)
        assert await recovered(address, group) == sc.totals(made)

    asyncio.run(main())


@pytest.mark.kafka
def test_a_broker_that_dies_and_comes_back_costs_nothing(group: str, tmp_path: Path) -> None:
    if missing():
        pytest.skip(missing())

    async def main(kafka: ApacheKafka) -> None:
        address = kafka.bootstrap_servers
        topics = await sc.make_topics(address, group, PARTITIONS)
        writer = sc.ListWriter()
        made = sc.events(20_000, PARTITIONS)
        ends = await sc.produce(address, topics.events, made)
        async with running(make(address, group, writer, limits=DeliveryLimits(insert_rows=200, max_rows=400))) as app:
            await eventually(lambda: len(writer.rows["events"]) > 2_000)
            await asyncio.to_thread(kafka.kill)
            await asyncio.sleep(3)
            assert app.delivery.in_flight.rows <= 600
            await asyncio.to_thread(kafka.start)
            back = app.clock()
            await catch_up(app, ends, 60)
            await eventually(lambda: app.timers.watermark.time > back)
            assert sc.shard_totals(app.delivery.queues.values()) == sc.totals(made)
        assert sc.final_totals(sc.deduplicated(writer.rows["events"])) == sc.totals(made)
        assert await recovered(address, group) == sc.totals(made)

    with ApacheKafka(tmp_path / "kafka") as kafka:
        asyncio.run(main(kafka))


def test_a_store_that_refuses_for_good_ends_the_worker(bootstrap: str, group: str) -> None:
    class Refusing:
        async def insert(self, rows: Any) -> None:  # noqa: ARG002  the port's signature
            raise LookupError("no such table")

    async def until_failed(app: App) -> None:
        async with running(app):
            await eventually(lambda: app.failure is not None)
            assert "no such table" in app.problems[0]

    async def main() -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        await sc.produce(bootstrap, topics.events, sc.events(10, PARTITIONS))
        with pytest.raises(LookupError, match="no such table"):
            await until_failed(make(bootstrap, group, Refusing()))
        assert await recovered(bootstrap, group) == {}

    asyncio.run(main())


class Child:
    """A worker in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, log: Path, stack: AsyncExitStack, **args: Any) -> Child:
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(HELPER), json.dumps(args), stdout=asyncio.subprocess.PIPE, stderr=errors
            )
        stack.callback(lambda: process.kill() if process.returncode is None else None)
        return cls(process)

    async def assigned(self, seconds: float = 90) -> list[int]:
        assert self.process.stdout is not None
        found: list[int] = json.loads(await asyncio.wait_for(self.process.stdout.readline(), seconds))
        return found

    async def ended(self, seconds: float = 90) -> int:
        return await asyncio.wait_for(self.process.wait(), seconds)

    async def stop(self) -> int:
        self.process.terminate()
        return await self.ended(10)


async def ended(main: Callable[[AsyncExitStack], Awaitable[None]]) -> None:
    """Run a test, and end what it has started, whatever happens."""
    async with AsyncExitStack() as stack:
        await main(stack)


def rows_in(path: Path) -> list[list[Any]]:
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [row[1:] for row in map(json.loads, lines) if row[0] == "events"]


def test_a_crash_at_any_step_changes_nothing(bootstrap: str, group: str, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    steps = [BEFORE_INSERT, AFTER_INSERT, AFTER_CHANGELOG, AFTER_COMMIT]

    async def main(stack: AsyncExitStack) -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        made: list[sc.Event] = []
        args = {"bootstrap": bootstrap, "group": group, "partitions": PARTITIONS, "rows": str(path)}
        for step, times in zip(steps, [2, 3, 4, 1], strict=True):
            made += sc.events(1_500, PARTITIONS, start=len(made))
            await sc.produce(bootstrap, topics.events, made[-1_500:])
            worker = await Child.start(tmp_path / "log", stack, **args, fault=step, times=times)
            assert await worker.ended() == 77, step
        worker = await Child.start(tmp_path / "log", stack, **args)
        await eventually(lambda: len(sc.deduplicated(rows_in(path))) == len(made), 30)
        assert await worker.stop() == 0
        assert len(rows_in(path)) > len(made), "no crash made anything be computed again"
        assert sc.final_totals(sc.deduplicated(rows_in(path))) == sc.totals(made)
        assert await recovered(bootstrap, group) == sc.totals(made)

    asyncio.run(ended(main))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_freezes_hands_its_partitions_over(
    bootstrap: str, group: str, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "rows"

    async def main(stack: AsyncExitStack) -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        args = {"bootstrap": bootstrap, "group": group, "partitions": PARTITIONS, "rows": str(path)}
        one = await Child.start(tmp_path / "log1", stack, **args)
        assert len(await one.assigned()) == PARTITIONS
        two = await Child.start(tmp_path / "log2", stack, **args)
        assert len(await two.assigned()) == len(await one.assigned()) == PARTITIONS // 2
        made = sc.events(3_000, PARTITIONS)
        await sc.produce(bootstrap, topics.events, made)
        await asyncio.sleep(0.1)
        os.kill(one.process.pid, number)
        assert len(await two.assigned()) == PARTITIONS
        await eventually(lambda: len(sc.deduplicated(rows_in(path))) == len(made), 30)
        if number == signal.SIGSTOP:
            os.kill(one.process.pid, signal.SIGCONT)
            assert len(await one.assigned()) == PARTITIONS // 2
            assert await one.stop() == 0
        else:
            await one.ended()
        assert await two.stop() == 0
        assert sc.final_totals(sc.deduplicated(rows_in(path))) == sc.totals(made)
        assert await recovered(bootstrap, group) == sc.totals(made)

    asyncio.run(ended(main))


def test_a_rebalance_amid_a_batch_changes_nothing(bootstrap: str, group: str, tmp_path: Path) -> None:
    path = tmp_path / "rows"

    async def main(stack: AsyncExitStack) -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        made = sc.events(1_240, PARTITIONS, keys=1)
        one = make(bootstrap, group, sc.FileWriter(path), processor=Slow(topics.by_user), batch_records=1_200)
        going_on: list[bool] = []
        goes_on = one.processing._is_still_next

        async def watched(tp: TP) -> bool:
            going_on.append(await goes_on(tp))
            return going_on[-1]

        one.processing._is_still_next = watched  # type: ignore[method-assign]
        await stack.enter_async_context(running(one))
        await sc.produce(bootstrap, topics.events, made[:40])
        await eventually(lambda: len(rows_in(path)) == 40)
        await sc.produce(bootstrap, topics.events, made[40:])
        await eventually(lambda: any(going_on))
        # A process of its own: in this one's loop it would have its turn between slices only.
        args = {"bootstrap": bootstrap, "group": group, "partitions": PARTITIONS, "rows": str(path)}
        await (two := await Child.start(tmp_path / "log", stack, **args)).assigned()
        await eventually(lambda: len(sc.deduplicated(rows_in(path))) == len(made), 40)
        assert not all(going_on), "the rebalance came too late to matter"
        assert await two.stop() == 0
        assert sc.final_totals(sc.deduplicated(rows_in(path))) == sc.totals(made)
        assert await recovered(bootstrap, group) == sc.totals(made)

    asyncio.run(ended(main))


@pytest.mark.parametrize(
    ("mark", "expected"),
    [(8_000, 8_000), (9_500, 9_000), (0, 0)],
    ids=["as far as the group is", "a mark ahead of the clock", "not known yet"],
)
def test_the_time_of_timers(mark: int, expected: int) -> None:
    timers: Any = SimpleNamespace(_clock=lambda: 9_000, watermark=SimpleNamespace(time=mark))
    assert Timers._watermark_time(timers) == expected


def test_by_event_time_no_timer_fires_while_a_record_may_still_come(bootstrap: str, group: str) -> None:
    async def main() -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        # Each key has records in every other part of the input.
        made = sc.events(2_000, PARTITIONS, keys=400, stray=2)
        ends: dict[TP, int] = {}
        for number in range(10):
            part = made[number * 200 : (number + 1) * 200]
            ends |= await sc.produce(bootstrap, topics.events, part, timestamp=(number + 1) * 1_000_000)
        writer, processor = sc.ListWriter(), sc.Counting(PARTITIONS, topics.by_user, wake_after=60_000)
        app = make(bootstrap, group, writer, processor=processor, timer_clock="stream", timer_interval=0.001,
                   batch_records=20)  # fmt: skip
        async with running(app):
            await catch_up(app, ends)
            assert not writer.rows["ended"]
            await app.timers.fire_last()
            await app.delivery.drain(15)
        assert sc.final_totals(sc.deduplicated(writer.rows["events"])) == sc.totals(made)
        assert {key for key, _ in writer.rows["ended"]} == set(sc.totals(made[1_600:1_800]))

    asyncio.run(main())


def test_while_another_worker_lags_no_time_passes(bootstrap: str, group: str) -> None:
    async def main() -> None:
        topics = await sc.make_topics(bootstrap, group, PARTITIONS)
        quick, slow = sc.ListWriter(), sc.ListWriter()

        one, two = (
            make(bootstrap, group, writer, processor=sc.Counting(PARTITIONS, topics.by_user, wake_after=60_000))
            for writer in (quick, slow)
        )
        made = sc.events(400, PARTITIONS, stray=1000)
        await sc.produce(bootstrap, topics.events, made, timestamp=1_000_000)
        quick.go.clear()
        slow.go.clear()
        async with running(one), running(two):
            await eventually(lambda: len(one.delivery.queues) == len(two.delivery.queues) == PARTITIONS // 2)
            quick.go.set()
            await eventually(lambda: quick.rows["events"] and not sum(one.lag().values()))
            await asyncio.sleep(4)
            assert not quick.rows["ended"]
            slow.go.set()
            await eventually(lambda: len(quick.rows["ended"]) + len(slow.rows["ended"]) == len(sc.totals(made)))

    asyncio.run(main())
