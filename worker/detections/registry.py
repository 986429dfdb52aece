"""The catalogue: every detection there is, built in or plugged in."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

import worker.detections.rules as package

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.detections.api import Detection

GROUP = "sessionwatch.detections"


class UnknownDetectionError(KeyError):
    """No detection of that id."""


@cache
def detections() -> Mapping[str, Detection[Any]]:
    """Return every detection, built in or plugged in, by id, in order of ids.

    Raises:
        ValueError: two detections share an id.
    """
    found: dict[str, Detection[Any]] = {}
    for detection in sorted((*_built_in(), *_plugged_in()), key=lambda each: each.id):
        if detection.id in found:
            raise ValueError(f"two detections have the id {detection.id!r}")
        found[detection.id] = detection
    return found


def _built_in() -> Iterable[Detection[Any]]:
    for module in iter_modules(package.__path__):
        yield import_module(f"{package.__name__}.{module.name}").DETECTION


def _plugged_in() -> Iterable[Detection[Any]]:
    for entry in entry_points(group=GROUP):
        yield entry.load()


def detection(uid: str) -> Detection[Any]:
    """Return one detection.

    Raises:
        UnknownDetectionError: there is none of that id.
    """
    try:
        return detections()[uid]
    except KeyError:
        raise UnknownDetectionError(uid) from None
