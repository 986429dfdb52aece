"""The two mixes of events that are measured, and how they are put onto a topic."""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaProducer

from worker.simulator import Simulator, profile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

HEAD = 14
"""Size of the header of a record in a file, in bytes: its timestamp and the lengths of its key and value."""
STEADY_GAP_SECONDS = 240


class Mix(NamedTuple):
    """A mix of events.

    Attributes:
        profile: of the simulator.
        events_per_user: how many a user has in a run.
        event_seconds: seconds from one event of a user to the next; None: the profile's rate stays.
        description: for the page.
    """

    profile: str
    events_per_user: int
    event_seconds: int | None
    description: str


class Event(NamedTuple):
    """A record to send."""

    timestamp: int
    key: bytes
    value: bytes


MIXES: Mapping[str, Mix] = {
    "busy": Mix("benchmark", 10, None, "10 events a user, about 7 a session; two in five events change something"),
    "steady": Mix("steady", 120, STEADY_GAP_SECONDS, "120 events a user, 60 refreshes a session; little changes"),
}


def simulator(mix: Mix, count: int, start_ms: int | None = None) -> Simulator:
    """Return a simulator of so many events."""
    users = max(count // mix.events_per_user, 1)
    changes: dict[str, Any] = {} if mix.event_seconds is None else {"rate": users / mix.event_seconds}
    if start_ms is not None:
        changes["start_ms"] = start_ms
    return Simulator(profile(mix.profile, users=users, max_events=count, **changes))


def write(path: Path, mix: Mix, count: int) -> None:
    """Write simulated events to a file, so that every run gets the same ones without simulating them again."""
    with path.open("wb") as file:
        for event in simulator(mix, count).events():
            head = int(event.arrival_ms).to_bytes(8) + len(event.key).to_bytes(2) + len(event.value).to_bytes(4)
            file.write(head + event.key + event.value)


def read(path: Path) -> list[Event]:
    """Return the events of a file."""
    events, data, at = [], path.read_bytes(), 0
    while at < len(data):
        timestamp, key = int.from_bytes(data[at : at + 8]), int.from_bytes(data[at + 8 : at + 10])
        start = at + HEAD + key
        at = start + int.from_bytes(data[start - key - 4 : start - key])
        events.append(Event(timestamp, data[start - key : start], data[start:at]))
    return events


def recent(mix: Mix, count: int) -> list[Event]:
    """Return simulated events, the newest with the present time, because older sessions would have expired."""
    now = int(time.time() * 1000)
    *_, newest = islice(simulator(mix, count, now).events(), count)
    start = now - int(newest.arrival_ms - now)
    return [Event(int(each.arrival_ms), each.key, each.value) for each in simulator(mix, count, start).events()]


async def preload(options: Mapping[str, Any], topic: str, events: Sequence[Event]) -> None:
    """Produce events as fast as possible."""
    async with AIOKafkaProducer(**options, linger_ms=20, max_batch_size=1 << 19) as producer:
        for event in events:
            await producer.send(topic, value=event.value, key=event.key, timestamp_ms=event.timestamp)


class Sent(NamedTuple):
    """Where a record was written, and when it was sent, in milliseconds."""

    partition: int
    offset: int
    at: int


async def send_steadily(options: Mapping[str, Any], topic: str, events: Sequence[Event], rate: float) -> list[Sent]:
    """Send the events that are due every few milliseconds, with the present time as timestamp."""
    sending, begun = [], time.perf_counter()
    async with AIOKafkaProducer(**options, linger_ms=2) as producer:
        while len(sending) < len(events):
            due = min(int((time.perf_counter() - begun) * rate), len(events))
            now = int(time.time() * 1000)
            for event in events[len(sending) : due]:
                future = await producer.send(topic, value=event.value, key=event.key, timestamp_ms=now)
                sending.append((now, future))
            await asyncio.sleep(0.005)
    found = [(now, future.result()) for now, future in sending]
    return [Sent(each.partition, each.offset, now) for now, each in found]
