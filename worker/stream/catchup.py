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
    """The input is not processed any more, and nobody says why."""


async def caught_up(
    app: App, end_offsets: Mapping[TP, int], *, poll_seconds: float = 0.05, patience: float = 120.0
) -> None:
    """Wait until all input up to these offsets, and what was forwarded of it, is durable.

    Args:
        app: a running worker that has all partitions.
        end_offsets: for each partition of the input topic the offset after the last record of interest.
        poll_seconds: how often to look.
        patience: seconds without any progress after which to give up.

    Raises:
        StalledError: there was no progress for so long.
        Exception: what the worker crashed of, if it did.
    """
    pace = PollPolicy(poll_seconds, patience)
    await _until_done(app, end_offsets, pace)
    # What is published for a record is so before its offset counts as done: after one topic's end the next's is final.
    for topic in app.settings.inputs()[1:]:
        await _until_done(app, await _own_ends(app, topic), pace)


class PollPolicy(NamedTuple):
    """How often to look whether something is done, and how long to bear no progress, in seconds."""

    poll_seconds: float
    patience: float


async def _until_done(app: App, ends: Mapping[TP, int], pace: PollPolicy) -> None:
    """Wait for these offsets, and then for the end as the broker's fetch answers have told it by then.

    The second is for ends that were asked of Tansu, which tells the first offset of the last batch plus one.
    """
    ends = {tp: end for tp, end in ends.items() if end}
    await _until_at(app, ends, pace)
    await _until_at(app, {tp: app.consumer.highwater(tp) for tp in ends}, pace)


async def _until_at(app: App, ends: Mapping[TP, int], pace: PollPolicy) -> None:
    clock = asyncio.get_running_loop().time
    done, since = -1, clock()
    while not all(_is_done(app, tp, end) for tp, end in ends.items()):
        raise_failure(app)
        now_done = sum(app.consumer.done_offset(tp) for tp in ends)
        if now_done != done:
            done, since = now_done, clock()
        elif clock() - since > pace.patience:
            raise StalledError(f"no progress for {pace.patience:.0f} s: {'; '.join(app.problems) or 'no reason known'}")
        await asyncio.sleep(pace.poll_seconds)


async def _own_ends(app: App, topic: str) -> dict[TP, int]:
    tps = {TP(topic, partition) for partition in range(app.settings.partitions)}
    ends = await app.consumer.highwaters(*tps)
    # Tansu tells ends that are too low, so what this worker published itself is asked for, too.
    return {tp: max(end or 0, app.publisher.last.get((tp.topic, tp.partition), -1) + 1) for tp, end in ends.items()}


def _is_done(app: App, tp: TP, end: int) -> bool:
    return app.consumer.highwater(tp) is not None and app.consumer.done_offset(tp) >= end
