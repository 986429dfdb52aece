"""Medians over the rounds of a benchmark."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

KEY = ("what", "broker", "mix", "store", "asked_rate", "program")


def summary(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry for each program and cell: the median of every number, and how many runs there were."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(tuple(run.get(name) for name in KEY), []).append(run)
    return [_merged(key, group) for key, group in groups.items()]


def _merged(key: Sequence[Any], group: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    labels = {name: value for name, value in zip(KEY, key, strict=True) if value is not None}
    good = [run for run in group if "error" not in run]
    if not good:
        return {**labels, "runs": 0, "error": group[-1]["error"]}
    numbers = [{name: value for name, value in run.items() if name not in (*KEY, "round")} for run in good]
    return {**labels, "runs": len(good), **_medians(numbers)}


def _medians(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for each in values for name in each)
    return {name: _median([each[name] for each in values if name in each]) for name in names}


def _median(values: Sequence[Any]) -> Any:
    return _medians(values) if isinstance(values[0], dict) else median(values)
