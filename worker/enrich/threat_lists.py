"""Lists of networks that are known for attacks, as files that the operator keeps up to date.

Each line has one network (CIDR), address or autonomous system (`AS64500`). The rest of the line, and lines that begin
with `#` or `;`, are comments. Spamhaus DROP, FireHOL netsets and lists of Tor exits have this format. Of a CSV file
the first column is used.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from schemas.networks import NetworkSet, parse_network
from worker.enrich.geoip import GeoFileError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_FIRST = re.compile(r'[\s"\'\[{]*([^\s,;#"\']+)')
_SYSTEM = re.compile(r"AS?([0-9]{1,10})", re.IGNORECASE)


class ThreatList:
    """One list, named like its file. `reload` reads the file again if it has changed.

    Raises:
        GeoFileError: the file cannot be read, or a line of it is invalid.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.stem
        self._stamp: tuple[int, int] | None = None
        self._networks, self._systems = NetworkSet(()), frozenset[int]()
        self.reload()

    def reload(self) -> bool:
        """Read the file if it has changed; return whether it has.

        Raises:
            GeoFileError: the file is missing or invalid; the last valid content stays in use.
        """
        try:
            found = self.path.stat()
            stamp = found.st_mtime_ns, found.st_ino
            if stamp == self._stamp:
                return False
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise GeoFileError(f"{self.path}: {error}") from error
        self._networks, self._systems = self._read(text)
        self._stamp = stamp
        return True

    @property
    def built(self) -> int:
        """Modification time of the file, seconds since the epoch."""
        return self._stamp[0] // 1_000_000_000 if self._stamp else 0

    def holds(self, ip: str, asn: int) -> bool:
        """Return whether an address or its autonomous system is on the list."""
        return ip in self._networks or asn in self._systems

    def _read(self, text: str) -> tuple[NetworkSet, frozenset[int]]:
        networks, systems = [], set()
        for number, line in enumerate(text.splitlines(), 1):
            word = _first_word(line)
            if not word:
                continue
            system = _SYSTEM.fullmatch(word)
            if system:
                systems.add(int(system[1]))
                continue
            try:
                networks.append(parse_network(word).text)
            except ValueError as error:
                where = f"{self.path}, line {number}"
                raise GeoFileError(f"{where}: {word!r} is no network, address or AS number") from error
        return NetworkSet(networks), frozenset(systems)


def _first_word(line: str) -> str:
    """Return the first word of a line, `""` for an empty line or a comment."""
    if line.lstrip()[:1] in ("", "#", ";"):
        return ""
    found = _FIRST.match(line)
    return found[1] if found else ""


class ThreatLists:
    """All lists.

    Args:
        paths: their files.

    Raises:
        GeoFileError: a list cannot be read.
    """

    def __init__(self, paths: Sequence[Path] = ()) -> None:
        self.lists = tuple(map(ThreatList, paths))

    def find(self, ip: str, asn: int) -> str:
        """Return the names of the lists that an address is on, separated by spaces; `""` for none."""
        if not self.lists or not ip:
            return ""
        return " ".join(each.name for each in self.lists if each.holds(ip, asn))
