"""The result of enrichment: network, place, device. Unknown is a value (`""`, `None`, `0`)."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec


class NetworkKind(StrEnum):
    """The kind of network that an address belongs to."""

    UNKNOWN = ""
    PRIVATE = "private"
    ISP = "isp"
    MOBILE = "mobile"
    HOSTING = "hosting"
    VPN = "vpn"
    TOR = "tor"
    RELAY = "relay"
    SATELLITE = "satellite"
    PROXY = "proxy"
    """A secure web gateway or tunnel: one egress for people in many places."""


class Network(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The network of an address.

    Attributes:
        ip: canonical address text.
        family: 4 or 6.
        prefix: the /24 or /64 around it, e.g. `203.0.113.0/24`; `""` when unknown (private, loopback).
        asn: autonomous system number; 0 when unknown.
        as_org: its organisation; `""` when unknown.
        kind: see `NetworkKind`.
        threat_list: names of the threat lists that the address was on when the event arrived, separated by spaces.
    """

    ip: str
    family: int
    prefix: str
    asn: int
    as_org: str
    kind: str
    threat_list: str = ""


class Place(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The place that an event came from.

    Attributes:
        country: ISO 3166-1 alpha-2; `""` when unknown.
        city: name; `""` when unknown.
        latitude, longitude: degrees; None when only the country, or nothing, is known.
        radius_km: accuracy of the coordinates.
        source: `"location"`, `"ip"` or `""`.
        stated_country: country of the event's own `location` if it contradicts that of the address. Then the place is
            that of the address. `""` otherwise.
    """

    country: str
    city: str
    latitude: float | None
    longitude: float | None
    radius_km: float
    source: str
    stated_country: str = ""


class Device(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The client, parsed from a user agent string.

    Attributes:
        browser: family of the client, e.g. `Chrome`, `python-requests`; `""` when it cannot be parsed.
        browser_major: major version; 0 when unknown.
        os: family of the operating system; `""` when unknown.
        os_major: major version as text; `""` when unknown.
        kind: `desktop`, `mobile`, `tablet`, `tv`, `bot`, `script`, or `""`.
        scripted: True for scripted clients (python-requests, curl, Go-http-client, headless browsers, bots).
    """

    browser: str
    browser_major: int
    os: str
    os_major: str
    kind: str
    scripted: bool


class Enrichment(NamedTuple):
    """Network, place and device of an event; unknown parts are values."""

    network: Network
    place: Place
    device: Device


UNKNOWN_NETWORK = Network("", 0, "", 0, "", "")
UNKNOWN_PLACE = Place("", "", None, None, 0.0, "")
UNKNOWN_DEVICE = Device("", 0, "", "", "", False)

ANONYMISERS = frozenset(
    {
        NetworkKind.VPN,
        NetworkKind.TOR,
        NetworkKind.RELAY,
        NetworkKind.HOSTING,
        NetworkKind.SATELLITE,
        NetworkKind.PROXY,
    }
)
_ELSEWHERE = ANONYMISERS | {NetworkKind.MOBILE}


def is_anonymiser(kind: str) -> bool:
    """Return whether a network of this kind does not show where its user is, not even the country."""
    return kind in ANONYMISERS


def is_own_place(network: Network, place: Place) -> bool:
    """Return whether the coordinates of a place are known and are the user's own.

    The coordinates of an anonymiser are those of its exit. The coordinates of a mobile carrier are those of a gateway,
    which may be hundreds of kilometres away: at most the country is the user's (Triukose et al. 2012,
    doi:10.1007/978-3-642-28537-0_9).
    """
    return place.latitude is not None and network.kind not in _ELSEWHERE
