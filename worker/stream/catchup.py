"""Waits until a running worker has processed its input and everything is durable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from faust.types import TP

from worker.stream.run import raise_failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.stream.app import App


class StalledError(Exception):
    """The input is no longer processed, for no known reason."""


async def caught_up(
    app: App, end_offsets: Mapping[TP, int], *, poll_seconds: float = 0.05, patience: float = 120.0
) -> None:
    """Wait until all input up to these offsets, and everything forwarded from it, is durable.

    Args:
        app: a running worker that owns all partitions.
        end_offsets: for each partition of the input topic, the offset after the last record of interest.
        poll_seconds: seconds between two checks.
        patience: seconds without any progress after which to give up.

    Raises:
        StalledError: there was no progress for `patience` seconds.
        Exception: the error the worker failed with.
    """
    pace = PollPolicy(poll_seconds, patience)
    await _until_done(app, end_offsets, pace)
    # A record's messages are published before its offset is done: once one topic is done, the next one's end is final.
    for topic in app.settings.inputs()[1:]:
        await _until_done(app, await _own_ends(app, topic), pace)


class PollPolicy(NamedTuple):
    """Seconds between two checks, and seconds without progress after which to give up."""

    poll_seconds: float
    patience: float


async def _until_done(app: App, ends: Mapping[TP, int], pace: PollPolicy) -> None:
    """Wait for these offsets, and then for the end that the broker's fetch responses report.

    The second wait is for Tansu, which returns the first offset of the last batch plus one as the end.
    """
    ends = {tp: end for tp, end in ends.items() if end}
    await _until_at(app, ends, pace)
    await _until_at(app, {tp: app.consumer.highwater(tp) for tp in ends}, pace)


async def _until_at(app: App, ends: Mapping[TP, int], pace: PollPolicy) -> None:
    clock = asyncio.get_running_loop().time
    done, added, since = -1, -1, clock()
    while not all(_is_done(app, tp, end) for tp, end in ends.items()):
        raise_failure(app)
        now_done = sum(app.consumer.done_offset(tp) for tp in ends)
        if now_done != done:
            done, since = now_done, clock()
        elif clock() - since > pace.patience:
            raise StalledError(f"no progress for {pace.patience:.0f} s: {'; '.join(app.problems) or 'no reason known'}")
        if app.delivery.in_flight.added == added:
            # Nothing was computed since the last check: no more rows are coming that an insert could wait for.
            app.delivery.flush()
        added = app.delivery.in_flight.added
        await asyncio.sleep(pace.poll_seconds)


async def _own_ends(app: App, topic: str) -> dict[TP, int]:
    tps = {TP(topic, partition) for partition in range(app.settings.partitions)}
    ends = await app.consumer.highwaters(*tps)
    # Tansu returns ends that are too low, so the offsets that this worker published are considered, too.
    return {tp: max(end or 0, app.publisher.last.get((tp.topic, tp.partition), -1) + 1) for tp, end in ends.items()}


def _is_done(app: App, tp: TP, end: int) -> bool:
    return app.consumer.highwater(tp) is not None and app.consumer.done_offset(tp) >= end
