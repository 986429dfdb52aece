"""What the workers of every fault eat: simulated events, out of order, doubled, misplaced, and some of it poison."""

from __future__ import annotations

import asyncio
import json
import re
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
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
AGE_DAYS = 40
HOURS = 4
"""Event time that the traffic covers, however many events it has."""
ATTACK_SECONDS = 120
"""Event time from one labelled attack to the next: a hundred of them, and some fifty incidents."""
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
    again after some hundred others, every twentieth comes that much too late. There are labelled attacks all along.
    """
    chance, held = Random(seed), deque[tuple[int, Sent]]()
    config = profile("demo", seed=seed, start_ms=start, users=max(count // 100, 50), rate=count / (HOURS * 3_600),
                     warmup_days=0.0, max_events=count, attack_interval_ms=ATTACK_SECONDS * 1_000)  # fmt: skip
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
    """A kind of poison.

    Attributes:
        value: what its n-th record is, before some good one.
        every, flood: there are `flood` records of it before each `every` good ones of a partition.
        ahead: how far its records' own timestamps are in the future of the good one's, milliseconds.
    """

    value: Callable[[int, Sent], bytes]
    every: int
    flood: int
    ahead: int = 0


def _event(tenant: str, user: str, uid: str, now: int, **more: Any) -> bytes:
    return json.dumps({
        "tenant_id": tenant, "user_id": user, "uid": uid, "ip": "203.0.113.7", "user_agent": "flood/1.0",
        "created_at": now, "last_used_at": now, "max_age_minutes": 60, **more,
    }).encode()  # fmt: skip


def _scopes(number: int, sent: Sent) -> bytes:
    """Return an event of one user with 1,024 scopes that no other has: a quarter of a megabyte."""
    scopes = [f"{number}-{each}-{'s' * 230}" for each in range(1_024)]
    return _event(FLOOD, "one", f"flood-{number % 8}", sent.time, scopes=scopes)


def _claim(number: int, sent: Sent) -> bytes:
    """Return an event of another tenant that uses the uid of the good record, and at times its user's name."""
    named = dict(_NAMED.findall(sent.value))
    uid = named.get(b"uid", b"own-%d" % number).decode()
    user = named.get(b"user_id", b"one").decode() if number % 2 else f"thief-{number % 5}"
    return _event(f"{FLOOD}-{number % 7}", user, uid, sent.time - number % 3 * HOUR_MS)


_NAMED = re.compile(rb'"(uid|user_id)": ?"([^"\\]+)"')
ALL = 1 << 40
"""More records than a partition has: before these lies all of the poison."""
LIMIT = 10
"""Unexpired sessions a user may have by the policy of tenants that have none."""
AHEAD_MS = 60 * 365 * DAY_MS
"""Sixty years: an event of a century ahead is refused as impossible."""
AGENT = "a" * 60 + "!"
"""A user agent over which a backtracking engine needs longer than anybody waits."""
POISONS = {
    "malformed": Poison(lambda number, _sent: BAD[number % len(BAD)], 10, 90),
    "only-malformed": Poison(lambda number, _sent: BAD[number % len(BAD)], ALL, 20_000),
    "oversized": Poison(lambda number, _sent: b"x" * (2 << 20 if number % 8 else LARGEST - 1024), 200, 1),
    "uids": Poison(lambda number, sent: _event(FLOOD, "one", f"flood-{number}", sent.time), 1, 1),
    "tenants": Poison(lambda number, sent: _event(f"{FLOOD}-{number}", "one", f"own-{number}", sent.time), 1, 1),
    # Users of unknown tenants with one session more than the policy allows.
    "limit": Poison(
        lambda number, sent: _event(f"{FLOOD}-{number // (LIMIT + 1)}", "one", f"own-{number}", sent.time), 1, 1
    ),
    "scopes": Poison(_scopes, 100, 1),
    "claims": Poison(_claim, 2, 1),
    # Events of sixty years from now, in records that say so themselves.
    "future": Poison(
        lambda number, sent: _event(FLOOD, f"u{number % 9}", f"own-{number}", sent.time + AHEAD_MS), 50, 1, AHEAD_MS
    ),
    "policies": Poison(
        lambda number, sent: _event(f"{FLOOD}-{number % len(POLICIES)}", "one", f"own-{number % 99}", sent.time,
                                    user_agent=AGENT), 20, 1,
    ),
}  # fmt: skip
EVENTS = ("uids", "tenants", "limit", "scopes", "claims", "future", "policies")
"""Poisons that are events, and not broken records."""
POLICIES = (
    b'{"first_party_clients":["(?i)acmeapp"]}',
    b'{"first_party_clients":["(a+)+$"]}',
    b'{"first_party_clients":["a{1,999999999999}"]}',
    b'{"first_party_clients":["(?P<x>a)","(?P<x>b)"]}',
    b"[" * 100_000,
    b'{"detections":' + b'{"a":' * 50_000,
    b'{"max_sessions":' + b"9" * 5_000 + b"}",
    b'{"alert_budget":NaN}',
    b"\xff\xfe",
    b'{"x":"' + b"x" * 900_000 + b'"}',
    json.dumps({"denied_networks": [f"10.{n >> 8 & 255}.{n & 255}.{n >> 16 << 6}/26" for n in range(30_000)]}).encode(),
    b"",
)
"""Documents of tenants that mean no good."""


async def produce(options: dict[str, Any], topic: str, records: list[Sent], poison: Poison | None = None) -> Input:
    """Make a topic of records, with poison between them."""
    every, flood = (poison.every, poison.flood) if poison else (1, 0)
    # Their timestamps are those of the past, which a broker would not keep for long.
    config = {
        "retention.ms": "-1",
        "max.message.bytes": str(LARGEST),
        # Apache Kafka refuses a record from more than an hour ahead; the worker must bear a topic that takes it.
        "message.timestamp.after.max.ms": str(2**63 - 1),
    }
    await create(options, [TopicSpec(topic, PARTITIONS, 1, config)])
    counts, poured, sending = [0] * PARTITIONS, 0, []
    async with AIOKafkaProducer(**options, linger_ms=20, max_batch_size=1 << 19, max_request_size=LARGEST) as producer:

        def send(value: bytes, partition: int, time: int) -> Any:
            return producer.send(topic, value, partition=partition, timestamp_ms=time)

        for sent in records:
            if poison and counts[sent.partition] % every == 0:
                bad = [poison.value(number, sent) for number in range(poured, poured + flood)]
                sending += [await send(value, sent.partition, sent.time + poison.ahead) for value in bad]
                poured += flood
            counts[sent.partition] += 1
            sending.append(await send(sent.value, sent.partition, sent.time))
        await asyncio.gather(*sending)
    return Input(topic, sum(sent.is_event for sent in records), len(records), every, flood, poured)


def feed(options: dict[str, Any], topic: str, records: list[Sent], poison: Poison | None = None) -> Input:
    """Do what `produce` does, from outside an event loop."""
    return asyncio.run(produce(options, topic, records, poison))


__all__ = ["EVENTS", "PARTITIONS", "POISONS", "POLICIES", "Input", "Poison", "Sent", "feed", "start_of_day", "traffic"]
