"""Registry of all detections, built-in ones and plug-ins."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, NamedTuple

import worker.detections.rules as package
from worker.detections.api import Detection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from importlib.metadata import EntryPoint

GROUP = "sessionwatch.detections"


class UnknownDetectionError(KeyError):
    """There is no detection with this id."""


class PluginError(Exception):
    """A plug-in cannot be used; the message names it, its package, the reason and what to do."""


class Catalogue(NamedTuple):
    """All detections by id, in order of ids, and for each broken plug-in a message with the reason."""

    detections: Mapping[str, Detection[Any]]
    broken: tuple[str, ...]


@cache
def catalogue() -> Catalogue:
    """Return built-in detections and plug-ins. A plug-in that cannot be imported is left out; the others are kept."""
    found: dict[str, Detection[Any]] = {each.id: each for each in _built_in()}
    broken = []
    for entry in entry_points(group=GROUP):
        try:
            plugged = _loaded(entry)
            if plugged.id in found:
                raise ValueError(f"its id {plugged.id!r} is taken")  # noqa: TRY301  as any other fault of it
        except (Exception, SystemExit) as error:  # noqa: BLE001  code of others
            broken.append(f"plug-in {entry.name!r} ({entry.value}{_package(entry)}) cannot be used: {_reason(error)}")
        else:
            found[plugged.id] = plugged
    return Catalogue(dict(sorted(found.items())), tuple(broken))


def _loaded(entry: EntryPoint) -> Detection[Any]:
    loaded = entry.load()
    if not isinstance(loaded, Detection):
        raise TypeError(f"it is not a Detection, but {type(loaded).__name__}")
    return loaded


def _package(entry: EntryPoint) -> str:
    return f" of {entry.dist.name}" if entry.dist is not None else ""


def _reason(error: BaseException) -> str:
    text = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def detections() -> Mapping[str, Detection[Any]]:
    """Return all usable detections by id, in order of ids."""
    return catalogue().detections


def require_plugins() -> None:
    """Check that all plug-ins can be used.

    Raises:
        PluginError: a plug-in cannot be used.
    """
    broken = catalogue().broken
    if broken:
        advice = "repair or uninstall its package, or set detections.broken_plugins to skip"
        raise PluginError(f"{'; '.join(broken)}; {advice}")


def _built_in() -> Iterable[Detection[Any]]:
    for module in iter_modules(package.__path__):
        yield import_module(f"{package.__name__}.{module.name}").DETECTION


def detection(uid: str) -> Detection[Any]:
    """Return one detection.

    Raises:
        UnknownDetectionError: there is no detection with this id.
    """
    try:
        return detections()[uid]
    except KeyError:
        raise UnknownDetectionError(uid) from None
