"""Decides which addresses may be connected to: public ones, and those that a destination allows."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EMBEDDED = tuple(map(ip_network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
"""IPv6 networks whose addresses end with the IPv4 address they lead to: compatible, translated, NAT64."""
UNICAST = ip_network("2000::/3")
"""The IPv6 addresses that are allotted to the public; others are reserved, local or of no use."""


class BlockedAddressError(OSError):
    """The address of a destination is not allowed."""


class AddressGuard:
    """Checks the address of each connection, after the name was resolved.

    Args:
        allow_private: allow private and loopback addresses; link-local ones, which serve cloud metadata, are not.
        networks: CIDR networks that are always allowed.
    """

    def __init__(self, *, allow_private: bool = False, networks: Iterable[str] = ()) -> None:
        self._allow_private = allow_private
        self._networks = [ip_network(each, strict=False) for each in networks]

    def check(self, address: str) -> None:
        """Return if an address is allowed.

        Raises:
            BlockedAddressError: the address is not allowed.
        """
        ip = unwrapped(ip_address(address.partition("%")[0]))
        if any(ip in network for network in self._networks):
            return
        if not _never(ip) and (_is_public(ip) or (self._allow_private and (ip.is_private or ip.is_loopback))):
            return
        raise BlockedAddressError(f"{_sort(ip)} address: allow_private or allowed_networks would permit it")


def unwrapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address leads to (mapped, NAT64, 6to4, …), else the address itself."""
    if isinstance(ip, IPv4Address) or ip.is_loopback or ip.is_unspecified:
        return ip
    if any(ip in network for network in EMBEDDED):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None) or ip


# Where clouds (AWS, Alibaba, Oracle, Azure) serve metadata and credentials to whoever asks from inside, beside
# link-local addresses. Azure's is a public address.
_METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")))


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    return ip.is_global and not ip.is_multicast and (ip.version == 4 or ip in UNICAST)


def _never(ip: IPv4Address | IPv6Address) -> bool:
    return ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in _METADATA


def _sort(ip: IPv4Address | IPv6Address) -> str:
    if ip.is_link_local or ip in _METADATA:
        return "a link-local or metadata"
    return "a loopback" if ip.is_loopback else "a private or reserved"
