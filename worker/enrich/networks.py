"""Determines the kind of network that an address belongs to."""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from socket import AF_INET, inet_ntop
from typing import TYPE_CHECKING, Protocol

import iporigin

from schemas.session import canonical_ip
from worker.enrich.model import NetworkKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.enrich.geoip import System
    from worker.enrich.known_networks import KnownNetworks

RELAYS = frozenset({"Apple Private Relay"})
"""Private relays that iporigin lists as VPNs. They are on by default, and users cannot choose the place of the exit."""
UNLICENSED_PROVIDERS = frozenset(
    {
        # 123jjck/cdn-ip-ranges
        "BunnyCDN",
        "BuyVM",
        "CDN77",
        "Cogent",
        "Contabo",
        "DataCamp",
        "GTHost",
        "GleSYS",
        "Melbicom",
        "Scalaxy",
        "Vercel",
        # SecOps-Institute/Akamai-ASN-and-IPs-List, for a part of Akamai's ranges; the table does not say which.
        "Akamai",
    }
)
"""Providers whose ranges iporigin takes from lists without a licence (section 3 of its NOTICE); they are ignored."""
_SPECIFIC = frozenset({NetworkKind.SATELLITE, NetworkKind.RELAY, NetworkKind.PROXY, NetworkKind.VPN})
"""Kinds of autonomous systems that are more specific than the kind `hosting` of a published range."""
_KINDS_OF_RANGES = {
    iporigin.HOSTING: NetworkKind.HOSTING,
    # Traffic from a CDN or a crawler comes from servers, not from people.
    iporigin.CDN: NetworkKind.HOSTING,
    iporigin.BOT: NetworkKind.HOSTING,
    iporigin.VPN: NetworkKind.VPN,
    iporigin.TOR: NetworkKind.TOR,
}
_SPECIAL_V4 = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "224.0.0.0/3",
)
_SPECIAL_V6 = ("2001::/23", "2002::/16")
"""Addresses that no public host has: IANA's special-purpose registries
(https://www.iana.org/assignments/iana-ipv4-special-registry, …-ipv6-…), including RFC 6598 (CGNAT) and 3056 (6to4). Of
IPv6 only 2000::/3 is public (RFC 4291). Documentation and benchmark ranges (RFC 5737, 2544, 3849, 9637) count as
ordinary networks, because tests and demos use them."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _ranges(networks: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the first and the last addresses of networks as two sorted lists of numbers."""
    known = sorted((ipaddress.ip_network(each) for each in networks), key=lambda each: int(each.network_address))
    return [int(each.network_address) for each in known], [int(each.broadcast_address) for each in known]


_V4_FIRST, _V4_LAST = _ranges(_SPECIAL_V4)
_V6_FIRST, _V6_LAST = _ranges(_SPECIAL_V6)


def is_private(address: Address) -> bool:
    """Return whether an address is not a public one: private, shared (CGNAT), loopback, link-local and others."""
    number = int(address)
    if address.version == 4:
        place = bisect_right(_V4_FIRST, number) - 1
        return place >= 0 and number <= _V4_LAST[place]
    place = bisect_right(_V6_FIRST, number) - 1
    return number >> 125 != 1 or (place >= 0 and number <= _V6_LAST[place])


def prefix_of(address: Address) -> str:
    """Return the /24 or /64 around an address."""
    # The functions of the C library: those of `ipaddress` take ten times as long.
    if address.version == 4:
        return f"{inet_ntop(AF_INET, address.packed[:3] + bytes(1))}/24"
    return f"{ipaddress.IPv6Address(address.packed[:8] + bytes(8))}/64"


def network_of(text: str) -> tuple[str, str]:
    """Return an address in canonical form and the prefix around it; the prefix is `""` if the address is not public.

    Raises:
        ValueError: the text is not an address.
    """
    ip = canonical_ip(text)
    address = ipaddress.ip_address(ip)
    return ip, "" if is_private(address) else prefix_of(address)


class Ranges(Protocol):
    """Looks up the kind of network of an address in published ranges."""

    @property
    def built(self) -> int:
        """When the ranges were collected, seconds since the epoch."""

    def kind(self, ip: str) -> NetworkKind:
        """Return the kind, `NetworkKind.UNKNOWN` when no range contains the address."""


class PublishedRanges:
    """The ranges in the package iporigin, as published by providers, VPNs, Tor and crawlers."""

    @property
    def built(self) -> int:
        """When the ranges were collected, seconds since the epoch."""
        return int(iporigin.dataset_info()["built_at"])  # type: ignore[no-untyped-call]

    def kind(self, ip: str) -> NetworkKind:
        """Return the kind, `NetworkKind.UNKNOWN` when no range contains the address."""
        found = iporigin.classify(ip)  # type: ignore[no-untyped-call]
        if found.provider in UNLICENSED_PROVIDERS:
            return NetworkKind.UNKNOWN
        if found.provider in RELAYS:
            return NetworkKind.RELAY
        return _KINDS_OF_RANGES.get(found.kind, NetworkKind.UNKNOWN)


def kind_of(known: KnownNetworks, address: Address, system: System, published: NetworkKind) -> NetworkKind:
    """Return the kind of a public network whose kind is in no geo file.

    Args:
        known: prefixes, systems and words of organisations with a known kind.
        address: an address of the network.
        system: its autonomous system; number 0 when unknown.
        published: the kind of the address according to `Ranges`.
    """
    if kind := known.of_address(address):
        return kind
    of_system = known.of_system(system.number, system.organisation)
    if published in (NetworkKind.UNKNOWN, NetworkKind.HOSTING) and of_system in _SPECIFIC:
        return of_system
    fallback = NetworkKind.ISP if system.number else NetworkKind.UNKNOWN
    return published or of_system or fallback
