"""The live view of `demo`: one screen of figures and the newest incidents, drawn from a snapshot."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from rich.cells import set_cell_size
from rich.console import Group
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schemas.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from worker.observe.snapshot import IncidentLine, Snapshot

SEVERITIES = {
    "critical": ("bold white on red", "CRIT"),
    "high": ("bold red", "high"),
    "medium": ("yellow", "med"),
    "low": ("cyan", "low"),
    "informational": ("dim", "info"),
}
"""Severity -> style, and a word of at most four columns."""
_BLOCKS, _ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.,-~=+#"
_BAR, _ASCII_BAR = "█", "#"
_NUMBERS_LINES = 9
# Lines below which the figures are hidden; columns below which the second column is, above which incidents are wider.
_SHORT, _NARROW, _WIDE = 18, 60, 110


class LiveView:
    """Draws snapshots on the terminal's alternate screen; draws nothing if the console is not a terminal."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, screen=True, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, snapshot: Snapshot) -> None:
        """Replace the shown snapshot."""
        if self._live is not None:
            self._live.update(render(snapshot), refresh=True)


def render(snapshot: Snapshot) -> RenderableType:
    """Return the screen for a snapshot; it fills the console that it is printed on, from 40 x 10 up."""
    return _Screen(snapshot)


class _Screen:
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.height
        yield from console.render(_layout(self._snapshot, options.max_width, height), options.update(height=height))


def _layout(snapshot: Snapshot, width: int, height: int) -> Layout:
    layout = Layout()
    header = _header(snapshot, width - 4)
    parts = [Layout(_framed(snapshot, header), size=len(header) + 2)]
    if height >= _SHORT:
        parts.append(_numbers(snapshot, width))
    parts.append(Layout(_incidents(snapshot, width)))
    layout.split_column(*parts)
    return layout


def _numbers(snapshot: Snapshot, width: int) -> Layout:
    middle = Layout(size=_NUMBERS_LINES)
    if width < _NARROW:
        middle.update(_traffic(snapshot))
    else:
        middle.split_row(Layout(_traffic(snapshot), ratio=3), Layout(_sessions(snapshot), ratio=2))
    return middle


def _header(snapshot: Snapshot, room: int) -> list[_Line]:
    """Return the state, then the addresses on as few lines as possible."""
    lines = [_state(snapshot)]
    for part in [_pair(name, address) for name, address in snapshot.addresses.items()]:
        if len(lines) > 1 and lines[-1].cell_len + part.cell_len + 2 <= room:
            lines[-1].append("  ").append_text(part)
        else:
            lines.append(part)
    return [_Line(line) for line in lines]


def _state(snapshot: Snapshot) -> Text:
    if snapshot.waiting_for:
        return Text("waiting for " + ", ".join(map(printable, snapshot.waiting_for)), style="yellow")
    return Text(snapshot.doing, style="yellow") if snapshot.doing else Text("running", style="green")


def _pair(name: str, value: str) -> Text:
    return Text.assemble((f"{name} ", "dim"), printable(value))


def _framed(snapshot: Snapshot, lines: Sequence[_Line]) -> Panel:
    clock = f"{int(snapshot.elapsed) // 60:d}:{int(snapshot.elapsed) % 60:02d}"
    return Panel(
        Group(*lines),
        title="sessionwatch",
        title_align="left",
        subtitle=f"{clock}  Ctrl-C ends it",
        subtitle_align="right",
    )


def _traffic(snapshot: Snapshot) -> Panel:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(style="dim", no_wrap=True, width=9)
    table.add_column(no_wrap=True, ratio=1)
    table.add_row("events/s", _Spark(snapshot.speeds, f"{snapshot.events_per_second:>8,.0f} "))
    for name, value in _figures(snapshot).items():
        table.add_row(name, _Line(Text(value)))
    return Panel(table, title="traffic", title_align="left")


def _figures(snapshot: Snapshot) -> dict[str, str]:
    return {
        "read": f"{snapshot.read:,}   lag {snapshot.lag:,}",
        "rows": _listed({name.removeprefix("session_"): count for name, count in snapshot.rows.items()}),
        "in flight": f"{snapshot.in_flight:,} rows",
        "rejected": _listed(snapshot.rejected) or "0",
        "latency": f"p50 {_span(snapshot.latency_p50)}   p99 {_span(snapshot.latency_p99)}",
        "findings": _by_severity(snapshot.severities) or "0",
    }


def _listed(counts: Mapping[str, int]) -> str:
    """Return `name 1,234` of each, most first."""
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return "  ".join(f"{printable(name)} {count:,}" for name, count in most)


def _by_severity(counts: Mapping[str, int]) -> str:
    """Return the counts of findings, the highest severity first, in words that leave room for six digits each."""
    return "  ".join(f"{short} {counts[name]:,}" for name, (_, short) in SEVERITIES.items() if counts.get(name))


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _sessions(snapshot: Snapshot) -> Panel:
    most = sorted(snapshot.sessions.items(), key=lambda item: (-item[1], item[0]))
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, max_width=14, overflow="ellipsis")
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, ratio=1)
    for tenant, count in most[: _NUMBERS_LINES - 2]:
        table.add_row(Text(printable(tenant)), f"{count:,}", _Bar(count / (most[0][1] or 1)))
    return Panel(table, title=f"active sessions {sum(snapshot.sessions.values()):,}", title_align="left")


def _incidents(snapshot: Snapshot, width: int) -> Panel:
    table = Table.grid(padding=(0, 1), expand=True)
    shown = 4 if width < _NARROW else 5
    for room in ((8, 4, 8, 24) if width >= _WIDE else (8, 4, 8, 16))[:shown]:
        table.add_column(no_wrap=True, max_width=room, overflow="ellipsis")
    if shown > 4:
        table.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
    for incident in snapshot.incidents:
        table.add_row(*_incident(incident)[:shown])
    return Panel(table, title="newest incidents", title_align="left")


def _incident(incident: IncidentLine) -> tuple[Text, ...]:
    style, short = SEVERITIES.get(incident.severity, ("", incident.severity))
    style = "dim" if incident.state == "resolved" else style
    clock = datetime.fromtimestamp(incident.time / 1000, UTC)
    return (
        Text(f"{clock:%H:%M:%S}", style="dim"),
        Text(short, style=style),
        Text(printable(incident.state), style=style),
        Text(printable(f"{incident.tenant_id}/{incident.user_id}")),
        Text(printable(incident.text)),
    )


class _Line:
    """One line of text, truncated with an ellipsis."""

    def __init__(self, text: Text) -> None:
        self._text = text

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        line = self._text.copy()
        line.no_wrap = True
        line.truncate(options.max_width, overflow="ellipsis")
        yield line


class _Spark:
    """A number, and a sparkline in the remaining width."""

    def __init__(self, values: Sequence[float], label: str) -> None:
        self._values = values
        self._label = label

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        room = max(options.max_width - len(self._label), 0)
        blocks = _ASCII_BLOCKS if options.ascii_only else _BLOCKS
        drawn = sparkline(self._values[-room:] if room else (), blocks)
        yield Text(set_cell_size(self._label + drawn, options.max_width), style="green")


def sparkline(values: Sequence[float], blocks: str = _BLOCKS) -> str:
    """Return one character per value, scaled to the highest.

    >>> sparkline([0, 5, 10])
    '▁▄█'
    """
    top = max(values, default=0) or 1
    return "".join(blocks[int(max(value, 0) / top * (len(blocks) - 1) + 0.5)] for value in values)


class _Bar:
    """A bar over a share (0 to 1) of the width."""

    def __init__(self, share: float) -> None:
        self._share = share

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        bar = _ASCII_BAR if options.ascii_only else _BAR
        yield Text(bar * round(self._share * options.max_width), style="blue")
