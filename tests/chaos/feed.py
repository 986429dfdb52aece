"""What the workers of every fault eat: simulated events, out of order, doubled, misplaced, and some of it poison."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaProducer

from schemas.keys import partition_of
from worker.simulator import Simulator, profile
from worker.stream.topics import LARGEST, TopicSpec, create

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARTITIONS = 4
DAY_MS = 86_400_000
AGE_DAYS = 40
BAD = (b"{bad", b"\xff\xfe", b'{"user_id": 5}', b'{"tenant_id": "t", "user_id": "u", "user_agent": "x", "ip": "y"}')
FLOOD = "flood"
"""Tenant, or beginning of the tenant's name, of what floods."""


class Sent(NamedTuple):
    """A record: its value, its partition, its timestamp in milliseconds, and whether it is an event."""

    value: bytes
    partition: int
    time: int
    is_event: bool


class Input(NamedTuple):
    """What is eaten.

    Attributes:
        topic: where it lies.
        accepted: how many events, in how many records; poison not counted.
        every, flood: before each so many records of a partition lie so many of poison; none when 0.
        floods: how many records are poison.
    """

    topic: str
    accepted: int
    records: int
    every: int = 1
    flood: int = 0
    floods: int = 0

    def is_flood(self, offset: int) -> bool:
        """Tell whether poison lies at an offset."""
        return offset % (self.every + self.flood) < self.flood

    def without_flood(self, offset: int) -> int:
        """Return the offset a record would have, were there no poison."""
        block, within = divmod(offset, self.every + self.flood)
        return block * self.every + within - self.flood


def start_of_day() -> int:
    """Return when the traffic begins unless told otherwise: a midnight `AGE_DAYS` ago, milliseconds."""
    now = int(time.time()) * 1000
    return now - now % DAY_MS - AGE_DAYS * DAY_MS


def traffic(count: int, seed: int, start: int) -> Iterator[Sent]:
    """Yield simulated events of the past, from `start`, milliseconds, on.

    Every fifth user's lie in a partition that is not theirs, every hundredth record is bad, every fiftieth event comes
    again after some hundred others, every twentieth comes that much too late.
    """
    chance, held = Random(seed), deque[tuple[int, Sent]]()
    config = profile("demo", seed=seed, start_ms=start, users=max(count // 100, 50), rate=200.0,
                     warmup_days=0.0, max_events=count)  # fmt: skip
    for number, event in enumerate(Simulator(config).events()):
        while held and held[0][0] <= number:
            yield held.popleft()[1]
        home = partition_of(event.key or b"", PARTITIONS)
        sent = Sent(event.value, (home + _is_stray(event.key)) % PARTITIONS, int(event.arrival_ms), is_event=True)
        lot = chance.random()
        if lot < 0.07:
            held.append((number + 300, sent))
        if lot >= 0.05:
            yield sent
        if number % 100 == 0:
            yield Sent(BAD[number // 100 % len(BAD)], number % PARTITIONS, sent.time, is_event=False)
    yield from (sent for _, sent in held)


def _is_stray(key: bytes | None) -> bool:
    return partition_of((key or b"") + b"#", 1 << 16) % 5 == 0


class Poison(NamedTuple):
    """A kind of poison: what its n-th record is, and how much of it there is beside so many good records."""

    value: Callable[[int, int], bytes]
    every: int
    flood: int


def _event(tenant: str, user: str, uid: str, now: int) -> bytes:
    return json.dumps({
        "tenant_id": tenant, "user_id": user, "uid": uid, "ip": "203.0.113.7", "user_agent": "flood/1.0",
        "created_at": now, "last_used_at": now, "max_age_minutes": 60,
    }).encode()  # fmt: skip


ALL = 1 << 40
"""More records than a partition has: before these lies all of the poison."""
LIMIT = 10
"""Unexpired sessions a user may have by the policy of tenants that have none."""
POISONS = {
    "malformed": Poison(lambda number, _now: BAD[number % len(BAD)], 10, 90),
    "only-malformed": Poison(lambda number, _now: BAD[number % len(BAD)], ALL, 20_000),
    "oversized": Poison(lambda number, _now: b"x" * (2 << 20 if number % 8 else LARGEST - 1024), 200, 1),
    "uids": Poison(lambda number, now: _event(FLOOD, "one", f"flood-{number}", now), 1, 1),
    "tenants": Poison(lambda number, now: _event(f"{FLOOD}-{number}", "one", f"own-{number}", now), 1, 1),
    # Users of unknown tenants with one session more than the policy allows.
    "limit": Poison(lambda number, now: _event(f"{FLOOD}-{number // (LIMIT + 1)}", "one", f"own-{number}", now), 1, 1),
}


async def produce(options: dict[str, Any], topic: str, records: list[Sent], poison: Poison | None = None) -> Input:
    """Make a topic of records, with poison between them."""
    every, flood = (poison.every, poison.flood) if poison else (1, 0)
    # Their timestamps are those of the past, which a broker would not keep for long.
    config = {"retention.ms": "-1", "max.message.bytes": str(LARGEST)}
    await create(options, [TopicSpec(topic, PARTITIONS, 1, config)])
    counts, poured, sending = [0] * PARTITIONS, 0, []
    async with AIOKafkaProducer(**options, linger_ms=20, max_batch_size=1 << 19, max_request_size=LARGEST) as producer:
        for sent in records:
            if poison and counts[sent.partition] % every == 0:
                for number in range(poured, poured + flood):
                    value = poison.value(number, sent.time)
                    sending.append(await producer.send(topic, value, partition=sent.partition, timestamp_ms=sent.time))
                poured += flood
            counts[sent.partition] += 1
            sending.append(await producer.send(topic, sent.value, partition=sent.partition, timestamp_ms=sent.time))
        await asyncio.gather(*sending)
    return Input(topic, sum(sent.is_event for sent in records), len(records), every, flood, poured)


def feed(options: dict[str, Any], topic: str, records: list[Sent], poison: Poison | None = None) -> Input:
    """Do what `produce` does, from outside an event loop."""
    return asyncio.run(produce(options, topic, records, poison))


__all__ = ["PARTITIONS", "POISONS", "Input", "Poison", "Sent", "feed", "start_of_day", "traffic"]
