"""`sessionwatch demo`: broker, store, worker and labelled traffic in one process, with a live view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.common import Json, configure_logs, finish, say, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from worker.observe.snapshot import Snapshot, Summary
    from worker.settings import Settings


def demo(
    context: typer.Context,
    *,
    duration: Annotated[float | None, typer.Option(min=0.1, help="Seconds; without it until Ctrl-C.")] = None,
    rate: Annotated[float, typer.Option(min=1, help="Events per second.")] = 200,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the store of the last demo.")] = False,
    as_json: Json = False,
) -> None:
    """Run broker, store, worker and simulated traffic with a live view, in the directory `demo` below data_dir."""
    from rich.console import Console  # noqa: PLC0415  `--help` needs none of it

    from worker.apps.directories import demo_directory  # noqa: PLC0415

    settings = settings_of(context)
    console = Console(stderr=True)
    with demo_directory(settings.data_dir, keep=keep) as directory:
        settings = settings.model_copy(update={"data_dir": directory})
        _log_aside(context, settings, console)
        summary = _run(settings, console, duration, rate)
    if not as_json:
        say(_sources())
        say("incidents of this demo: `sessionwatch incidents list`")
    finish(summary, as_json=as_json)


def _run(settings: Settings, console: Console, duration: float | None, rate: float) -> Summary:
    from worker.apps.live import LiveView  # noqa: PLC0415  as above
    from worker.observe.snapshot import Snapshot  # noqa: PLC0415

    with LiveView(console) as view:
        view(Snapshot(doing="starting broker, store and worker"))
        from worker.apps import demo as program  # noqa: PLC0415  seconds, with something to look at

        on_tick = view if console.is_terminal else _Announcer()
        return program.demo(settings, duration=duration, rate=rate, on_tick=on_tick)


def _sources() -> str:
    """Return a line that names the record formats that can be read."""
    from schemas.mappings import builtin  # noqa: PLC0415  `--help` needs none of it

    names = ", ".join(builtin())
    return f"records of your own: native, CloudEvents, Debezium, or {names}; try `sessionwatch map check FILE`"


def _log_aside(context: typer.Context, settings: Settings, console: Console) -> None:
    """Log into a file while the terminal shows the live view."""
    if not console.is_terminal:
        configure_logs(context, settings, quiet=True)
        return
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    configure_logs(context, settings, (settings.data_dir / "demo.log").open("a", encoding="utf-8"))


class _Announcer:
    """Prints the addresses once, when there is no live view."""

    def __init__(self, show: Callable[[str], None] = say) -> None:
        self._show = show
        self._said = False

    def __call__(self, snapshot: Snapshot) -> None:
        if snapshot.addresses and not self._said:
            self._said = True
            self._show("  ".join(f"{name} {address}" for name, address in snapshot.addresses.items()))
