"""The second stage: starts of sessions, announced under their uid and under their network, to findings across users.

Announcements come at least once, and after a crash again at other offsets; what is kept of them is a set, so that a
repeated one changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import DecodeError

from schemas.keys import user_key
from worker.detections.evidence import device_name, network_name, place_name
from worker.findings import Named, Told
from worker.outcome import Message, Outcome
from worker.sessions.cross import (
    NETWORK,
    UID,
    Shared,
    Start,
    arrive,
    claim,
    decode_shared,
    decode_start,
    encode_shared,
    encode_start,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from schemas.event import SessionEvent
    from worker.enrich.model import Device, Network, Place
    from worker.outcome import Record, Shard
    from worker.sessions.cross import Found
    from worker.sessions.limits import Limits
    from worker.sessions.user import Started
    from worker.sessions.view import Judge

MOST_STARTS = 500
"""Starts of one user within five minutes of which no more are announced: nobody signs in so often, and what is kept of
each announcement for days would be as much as somebody likes."""


def start_of(
    event: SessionEvent,
    seen: tuple[Network, Place, Device],
    started: Started,
    origin: tuple[str, int, int],
    record_time: int,
) -> Start:
    """Return the announcement of the session an event began."""
    network, place, device = seen
    shown = (network_name(network), place_name(place), device_name(device))
    return Start(
        event.tenant_id, event.user_id, event.session_uid, event.event_time, shown,
        *started, origin, record_time,
    )  # fmt: skip


def announcements(start: Start, network: Network, topic: str, *, derived: bool) -> Iterator[Message]:
    """Yield what is announced of a start.

    Under its uid, unless that was derived, for then it names its owner; under its network when that is public and the
    user has a history, for others do not count there. Keys begin with a slash, as no user's does: tenants have names.
    """
    value = encode_start(start)
    if not derived:
        yield Message(topic, f"/{UID}/{start.session_uid}".encode(), value, timestamp=start.record_time)
    if start.has_history and network.prefix:
        key = f"/{NETWORK}/{network.prefix}/{start.tenant_id}".encode()
        yield Message(topic, key, value, timestamp=start.record_time)


class Crossing:
    """Applies announcements to state.

    Args:
        judge: the detections in force for a tenant.
        findings: topic of findings.
        limits: bounds and times.
    """

    def __init__(self, judge: Callable[[str], Judge], findings: str, limits: Limits) -> None:
        self._judge = judge
        self._findings = findings
        self._limits = limits

    def process(self, records: Sequence[Record], shard: Shard) -> Outcome:
        """Apply announcements of one partition, in their order; the shard is left alone until nothing can fail."""
        outcome, states = Outcome(), dict[bytes, Shared]()
        told = Told(outcome, self._findings, self._judge, shard)
        for record in records:
            if record.key is not None and record.value is not None:
                self._take(record.key, record, states, shard, told)
        for key, state in states.items():
            outcome.states[key] = encoded = encode_shared(state)
            shard.put(key, encoded)
        told.settle()
        if rows := told.rows():
            outcome.rows["findings"] = rows
        outcome.counters["announced",] += len(records)
        return outcome

    def _take(self, key: bytes, record: Record, states: dict[bytes, Shared], shard: Shard, told: Told) -> None:
        state = states.get(key) or _load(shard.get(key))
        if record.offset <= state.offset:
            return
        states[key] = state
        state.offset = record.offset
        try:
            start = decode_start(record.value or b"")
        except DecodeError:
            # Nobody but us writes there.
            return
        for found in self._found(key, state, start):
            named = Named(found.tenant_id, found.user_id, state.applied)
            # A user's findings lie together, whichever stage makes them.
            own = user_key(found.tenant_id, found.user_id) if found.user_id else key
            told.add(found.change, named, own, (start.source, start.record_time))

    def _found(self, key: bytes, state: Shared, start: Start) -> list[Found]:
        judge = self._judge(start.tenant_id)
        _, kind, rest = key.decode().split("/", 2)
        if kind == UID:
            return claim(state, start, judge, self._limits)
        network = rest.removesuffix(f"/{start.tenant_id}")
        return arrive(state, start, network, judge, self._limits)


def _load(state: bytes | None) -> Shared:
    return Shared() if state is None else decode_shared(state)
