"""`demo`: broker, store, worker and labelled traffic in one process."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

from worker.apps.alert_process import alert_process
from worker.apps.build import build_worker, settle_memory
from worker.apps.demo_view import Watcher, demo_settings, traffic_of, watch
from worker.apps.embedded import embedded, web_listener
from worker.apps.run import finish, producing, summary_of
from worker.stream.run import running

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from worker.apps.embedded import Servers
    from worker.observe.recorder import Recorder
    from worker.observe.snapshot import Snapshot, Summary
    from worker.settings import Settings


def demo(
    settings: Settings,
    *,
    duration: float | None,
    rate: float,
    on_tick: Callable[[Snapshot], None],
) -> Summary:
    """Run broker, store, worker and labelled traffic.

    Args:
        settings: `data_dir` is the demo's own directory.
        duration: seconds; None until interrupted.
        rate: events per second.
        on_tick: called with a snapshot a few times a second.
    """
    with (
        web_listener(demo_settings(settings)) as (placed, listener),
        embedded(placed) as servers,
        alert_process(servers.settings, servers.tables) as told,
    ):
        started = time.perf_counter()
        shown = servers._replace(addresses={**servers.addresses, "alerts": told})
        recorder, sent, interrupted = asyncio.run(_demo(shown, listener, duration, rate, on_tick))
        return summary_of(recorder, sent, time.perf_counter() - started, interrupted=interrupted)


async def _demo(
    servers: Servers,
    listener: socket.socket,
    duration: float | None,
    rate: float,
    on_tick: Callable[[Snapshot], None],
) -> tuple[Recorder, int, bool]:
    interrupted, done = _on_interrupt(), asyncio.Event()
    settings = servers.settings
    feed = traffic_of(settings, rate, duration)
    settle_memory()
    parts = build_worker(settings, web_socket=listener, tables=servers.tables)
    web = f"http://{settings.web.host}:{settings.web.port}"
    shown = {"metrics": f"{web}/metrics", "sessions": f"{web}/api/tenants/t-0000", **servers.addresses}
    async with producing(settings) as producer, running(parts.app):
        watching = asyncio.create_task(watch(Watcher(parts, shown, feed), on_tick, done))
        feeding = asyncio.create_task(feed.run(producer))
        stopped = asyncio.create_task(interrupted.wait())
        await asyncio.wait([feeding, stopped, watching], return_when=asyncio.FIRST_COMPLETED)
        feeding.cancel()
        stopped.cancel()
        await producer.flush()
        await finish(settings, parts)
        done.set()
        await watching
    await parts.writer.close()
    return parts.recorder, feed.sent, interrupted.is_set()


def _on_interrupt() -> asyncio.Event:
    """Return an event that the first Ctrl-C or SIGTERM sets; the next one ends the process."""
    asked, loop = asyncio.Event(), asyncio.get_running_loop()

    def ask() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask)
    return asked
