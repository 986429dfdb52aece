"""The catalogue: every detection there is, built in or plugged in."""

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
    """No detection of that id."""


class PluginError(Exception):
    """A plug-in that cannot be used; the message names it, its package, the reason and what to do."""


class Catalogue(NamedTuple):
    """Every detection by id, in order of ids, and why each of the plug-ins that are left out cannot be used."""

    detections: Mapping[str, Detection[Any]]
    broken: tuple[str, ...]


@cache
def catalogue() -> Catalogue:
    """Return what is built in and plugged in; importing a plug-in can fail in any way, which costs that one alone."""
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
    """Return every detection that can be used, by id, in order of ids."""
    return catalogue().detections


def require_plugins() -> None:
    """Refuse to go on without a plug-in.

    Raises:
        PluginError: one cannot be used.
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
        UnknownDetectionError: there is none of that id.
    """
    try:
        return detections()[uid]
    except KeyError:
        raise UnknownDetectionError(uid) from None
