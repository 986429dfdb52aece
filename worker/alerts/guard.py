"""Decides which addresses may be connected to: public ones, and those that a destination allows."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NAT64 = ip_network("64:ff9b::/96")


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
        if any(ip in network for network in self._networks) or (ip.is_global and not ip.is_multicast):
            return
        if self._allow_private and (ip.is_private or ip.is_loopback) and not _never(ip):
            return
        raise BlockedAddressError(f"{_sort(ip)} address: allow_private or allowed_networks would permit it")


def unwrapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address leads to (mapped, NAT64, 6to4), else the address itself."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip in NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None) or ip


# Where clouds serve metadata and credentials to whoever asks from inside, beside link-local addresses.
_METADATA = frozenset({ip_address("fd00:ec2::254"), ip_address("100.100.100.200"), ip_address("192.0.0.192")})


def _never(ip: IPv4Address | IPv6Address) -> bool:
    return ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in _METADATA


def _sort(ip: IPv4Address | IPv6Address) -> str:
    if ip.is_link_local or ip in _METADATA:
        return "a link-local or metadata"
    return "a loopback" if ip.is_loopback else "a private or reserved"
