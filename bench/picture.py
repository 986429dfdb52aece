"""Bar charts as SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH, LEFT, RIGHT, TOP, BAR, GAP = 760, 230, 90, 46, 18, 8
COLOURS = ("#1f6feb", "#d29922", "#8b949e", "#2da44e")


def bars(title: str, unit: str, values: Mapping[str, Sequence[float]], parts: Sequence[str]) -> str:
    """Return horizontal bars.

    Args:
        title: above the picture.
        unit: what the numbers count.
        values: for each bar its parts, drawn one after the other.
        parts: names of the parts, in the order of the values; one part needs no legend.
    """
    most = max((sum(each) for each in values.values()), default=1) or 1
    height = TOP + len(values) * (BAR + GAP) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/><text x="10" y="18" font-size="14">{escape(title)}</text>',
        f'<text x="{WIDTH - 10}" y="18" text-anchor="end" fill="#57606a">{escape(unit)}</text>',
    ]
    if len(parts) > 1:
        lines += _legend(parts)
    for number, (name, each) in enumerate(values.items()):
        lines += _bar(name, each, TOP + number * (BAR + GAP), (WIDTH - LEFT - RIGHT) / most)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _legend(parts: Sequence[str]) -> list[str]:
    return [
        f'<rect x="{LEFT + 130 * number}" y="26" width="10" height="10" fill="{COLOURS[number]}"/>'
        f'<text x="{LEFT + 15 + 130 * number}" y="35">{escape(name)}</text>'
        for number, name in enumerate(parts)
    ]


def _bar(name: str, values: Sequence[float], y: int, scale: float) -> list[str]:
    lines, x = [f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>'], float(LEFT)
    for colour, value in zip(COLOURS, values, strict=False):
        lines.append(f'<rect x="{x:.1f}" y="{y}" width="{value * scale:.1f}" height="{BAR}" fill="{colour}"/>')
        x += value * scale
    lines.append(f'<text x="{x + 6:.1f}" y="{y + 13}">{sum(values):,.0f}</text>')
    return lines
