"""Networks with a known kind, by prefix, by autonomous system or by a word of the organisation's name.

The data is `networks.csv`, with the source and date of every line; a file of the operator in the same format takes
precedence (`geo.networks`).
"""

from __future__ import annotations

import csv
import ipaddress
import re
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from worker.enrich.geoip import GeoFileError
from worker.enrich.model import NetworkKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SHIPPED = "networks.csv"
_SYSTEM = re.compile(r"AS([0-9]{1,10})", re.IGNORECASE)
_SEPARATORS = re.compile(r"[^\w]+")


class KnownNetwork(NamedTuple):
    """One line: a network or system, and its kind."""

    match: str
    kind: NetworkKind


class KnownNetworks:
    """Kinds of networks.

    Args:
        path: a file whose lines take precedence over the shipped ones.

    Raises:
        GeoFileError: the file cannot be read, or a line of it is invalid.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._systems: dict[int, NetworkKind] = {}
        self._prefixes: dict[tuple[int, int], dict[int, NetworkKind]] = {}
        self._words: dict[str, NetworkKind] = {}
        for line in (*(_given(path) if path else ()), *_shipped()):
            self._add(line)
        self._lengths = sorted(self._prefixes, reverse=True)

    def of_address(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> NetworkKind:
        """Return the kind of the longest prefix that contains an address, `NetworkKind.UNKNOWN` when none does."""
        number, bits = int(address), address.max_prefixlen
        for version, length in self._lengths:
            if version == address.version:
                kind = self._prefixes[version, length].get(number >> bits - length)
                if kind is not None:
                    return kind
        return NetworkKind.UNKNOWN

    def of_system(self, asn: int, organisation: str) -> NetworkKind:
        """Return the kind of an autonomous system by its number, else by the longest word of its organisation."""
        known = self._systems.get(asn)
        if known is not None:
            return known
        name = _folded(organisation)
        found = max((word for word in self._words if word in name), key=len, default="")
        return self._words[found] if found else NetworkKind.UNKNOWN

    def _add(self, line: KnownNetwork) -> None:
        system = _SYSTEM.fullmatch(line.match)
        if system:
            self._systems.setdefault(int(system[1]), line.kind)
        elif "/" in line.match:
            prefix = ipaddress.ip_network(line.match)
            shift = prefix.max_prefixlen - prefix.prefixlen
            held = self._prefixes.setdefault((prefix.version, prefix.prefixlen), {})
            held.setdefault(int(prefix.network_address) >> shift, line.kind)
        else:
            self._words.setdefault(_folded(line.match), line.kind)


def _folded(name: str) -> str:
    """Return the words of a name in lower case, each between two spaces."""
    return f" {_SEPARATORS.sub(' ', name.casefold()).strip()} "


def _shipped() -> Iterator[KnownNetwork]:
    text = (resources.files("worker.enrich") / SHIPPED).read_text(encoding="utf-8")
    return _parsed(text.splitlines())


def _given(path: Path) -> Iterator[KnownNetwork]:
    try:
        yield from _parsed(path.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError) as error:
        raise GeoFileError(f"{path}: {error}") from error


def _parsed(lines: Iterable[str]) -> Iterator[KnownNetwork]:
    """Yield the networks of the lines.

    Raises:
        ValueError: a line has too few columns, an unknown kind or an invalid prefix.
    """
    rows = csv.reader(line for line in lines if line.strip() and not line.startswith("#"))
    for row in rows:
        match, kind, *_ = *row, ""
        if "/" in match:
            ipaddress.ip_network(match)
        yield KnownNetwork(match.strip(), NetworkKind(kind.strip()))
