"""Places and autonomous systems of addresses, from MaxMind-format files of the operator.

Replace such a file by renaming the new one over it, as `geoipupdate` does. The file is mapped into memory: if it is
overwritten in place, it changes while it is read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import maxminddb

from worker.enrich.model import UNKNOWN_PLACE, NetworkKind, Place

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_RADIUS_KM = 50.0
"""Radius of records without `accuracy_radius`: an estimate for a city; MaxMind's own values are 5 to 1,000."""


class GeoFileError(Exception):
    """A geo file cannot be read."""


class System(NamedTuple):
    """An autonomous system, with the kind of network if the file has it (a value of `NetworkKind`, else `""`)."""

    number: int
    organisation: str
    kind: str


NO_SYSTEM = System(0, "", "")


class GeoFile:
    """One MaxMind-format file; `reload` opens it again when it was replaced.

    Raises:
        GeoFileError: it is missing, or has another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = self._modified()
        self._reader = self._opened()

    def _modified(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except OSError as error:
            raise GeoFileError(f"{self.path}: {error.strerror}") from error
        return found.st_mtime_ns, found.st_ino

    def _opened(self) -> maxminddb.Reader:
        try:
            return maxminddb.open_database(self.path)
        except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
            raise GeoFileError(f"{self.path}: {error}") from error

    def reload(self) -> bool:
        """Open the file again if it changed; return whether it did.

        Raises:
            GeoFileError: it is missing or broken; the last content stays in use until the file is repaired.
        """
        stamp = self._modified()
        if stamp == self._stamp:
            return False
        new, old = self._opened(), self._reader
        self._reader, self._stamp = new, stamp
        old.close()
        return True

    @property
    def built(self) -> int:
        """The build time of the file, seconds since the epoch."""
        return int(self._reader.metadata().build_epoch)

    def find(self, ip: str) -> dict[str, Any]:
        """Return the record of an address, empty when there is none.

        Damaged records and invalid addresses have no record.
        """
        try:
            found = self._reader.get(ip)
        except (TypeError, ValueError, maxminddb.InvalidDatabaseError):  # TypeError: a NUL in the address
            return {}
        return found if isinstance(found, dict) else {}


def place_of(record: dict[str, Any]) -> Place:
    """Return the place of a city or country record; country alone when it has no coordinates.

    `registered_country` is ignored: it is the country of the network's owner, not of its user.
    """
    country = _text(_part(record, "country").get("iso_code"))
    location = _part(record, "location")
    latitude, longitude = _number(location.get("latitude")), _number(location.get("longitude"))
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return Place(country, "", None, None, 0.0, "ip") if country else UNKNOWN_PLACE
    city = _text(_part(_part(record, "city"), "names").get("en"))
    radius = _number(location.get("accuracy_radius"))
    if radius is None or radius < 0:
        radius = DEFAULT_RADIUS_KM
    return Place(country, city, latitude, longitude, radius, "ip")


def system_of(record: dict[str, Any]) -> System:
    """Return the autonomous system of an ASN record."""
    if not record:
        return NO_SYSTEM
    number = record.get("autonomous_system_number")
    return System(
        number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else 0,
        _text(record.get("autonomous_system_organization")),
        kind_told(record),
    )


_KINDS = frozenset(kind.value for kind in NetworkKind)
# MaxMind's names: dev.maxmind.com/geoip/docs/databases/anonymous-ip and …/enterprise, the first that is true wins.
_FLAGS = (
    ("is_tor_exit_node", NetworkKind.TOR),
    ("is_anonymous_vpn", NetworkKind.VPN),
    ("is_public_proxy", NetworkKind.VPN),
    ("is_hosting_provider", NetworkKind.HOSTING),
    ("is_satellite_provider", NetworkKind.SATELLITE),
)
_USERS = {
    "cellular": NetworkKind.MOBILE,
    "hosting": NetworkKind.HOSTING,
    "content_delivery_network": NetworkKind.HOSTING,
    "search_engine_spider": NetworkKind.HOSTING,
    "satellite": NetworkKind.SATELLITE,
    "consumer_privacy_network": NetworkKind.RELAY,
}


def kind_told(record: dict[str, Any]) -> str:
    """Return the kind of network of a record, `""` when the record does not have it.

    It comes from our key `network_kind` (a value of `NetworkKind`), else from MaxMind's traits, in `traits` or at the
    top. Residential proxies are ignored: their addresses are mostly used by the residents.
    """
    told = record.get("network_kind")
    if isinstance(told, str) and told in _KINDS:
        return told
    traits = _part(record, "traits") or record
    flagged = next((kind for flag, kind in _FLAGS if traits.get(flag) is True), None)
    return (flagged or _user(traits.get("user_type")) or _user(traits.get("connection_type"))).value


def _user(told: object) -> NetworkKind:
    return _USERS.get(told.lower(), NetworkKind.UNKNOWN) if isinstance(told, str) else NetworkKind.UNKNOWN


def _part(record: dict[str, Any], key: str) -> dict[str, Any]:
    part = record.get(key)
    return part if isinstance(part, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if math.isfinite(value) else None
