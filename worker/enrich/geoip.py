"""Places and autonomous systems of addresses, from MaxMind-format files the operator gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import maxminddb

from worker.enrich.model import UNKNOWN_PLACE, Place

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_RADIUS_KM = 50.0
"""For records without `accuracy_radius`: MaxMind's own say 5 to 1,000; a city-level guess."""


class GeoFileError(Exception):
    """A geo file cannot be read."""


class System(NamedTuple):
    """An autonomous system, with the kind of network if the file says it (key `network_kind`, our extension)."""

    number: int
    organisation: str
    kind: str


NO_SYSTEM = System(0, "", "")


class GeoFile:
    """One MaxMind-format file, read anew by `reload` when it was replaced.

    Raises:
        GeoFileError: it is missing or no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()

    def _open(self) -> None:
        try:
            self._stamp = self.path.stat().st_mtime_ns
            self._reader = maxminddb.open_database(self.path)
        except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
            raise GeoFileError(f"{self.path}: {error}") from error

    def reload(self) -> bool:
        """Open the file anew if it changed; tell whether it did."""
        if self.path.stat().st_mtime_ns == self._stamp:
            return False
        old = self._reader
        self._open()
        old.close()
        return True

    @property
    def built(self) -> int:
        """When the file was made, seconds since the epoch."""
        return int(self._reader.metadata().build_epoch)

    def get(self, ip: str) -> dict[str, Any]:
        """Return the record of an address, empty when there is none."""
        try:
            found = self._reader.get(ip)
        except ValueError:  # a v6 address in a v4-only file
            return {}
        return found if isinstance(found, dict) else {}


def place_of(record: dict[str, Any]) -> Place:
    """Return the place of a city record; country alone when it has no coordinates."""
    country = str(record.get("country", {}).get("iso_code", ""))
    location = record.get("location", {})
    latitude, longitude = location.get("latitude"), location.get("longitude")
    if not country and latitude is None:
        return UNKNOWN_PLACE
    if latitude is None or longitude is None:
        return Place(country, "", None, None, 0.0, "ip")
    city = str(record.get("city", {}).get("names", {}).get("en", ""))
    radius = float(location.get("accuracy_radius", DEFAULT_RADIUS_KM))
    return Place(country, city, float(latitude), float(longitude), radius, "ip")


def system_of(record: dict[str, Any]) -> System:
    """Return the autonomous system of an ASN record."""
    if not record:
        return NO_SYSTEM
    return System(
        int(record.get("autonomous_system_number", 0)),
        str(record.get("autonomous_system_organization", "")),
        str(record.get("network_kind", "")),
    )
