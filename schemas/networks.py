"""A set of networks, stored as sorted, disjoint ranges: one bisection looks up an address."""

from __future__ import annotations

from bisect import bisect_right
from ipaddress import IPv6Address, ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class AddressRange(NamedTuple):
    """First and last address of a network, as numbers. `text`: the network in canonical CIDR notation."""

    version: int
    first: int
    last: int
    text: str


def parse_network(text: str) -> AddressRange:
    """Parse a network in CIDR notation, or one address. Host bits are ignored.

    The module `ipaddress` takes four times as long, which matters for lists of 50,000 networks. It is used only for
    other notations, such as netmasks.

    Raises:
        ValueError: the text is not a network.

    >>> parse_network("192.0.2.7/24").text
    '192.0.2.0/24'
    """
    address, slash, bits = text.partition("/")
    family, version, width = (AF_INET6, 6, 128) if ":" in address else (AF_INET, 4, 32)
    try:
        host_bits = width - (int(bits) if slash and bits.isascii() and bits.isdigit() else width if not slash else -1)
        number = int.from_bytes(inet_pton(family, address))
    except (OSError, ValueError):
        host_bits = -1
    if not 0 <= host_bits <= width:
        network = ip_network(text, strict=False)
        return AddressRange(network.version, int(network.network_address), int(network.broadcast_address), str(network))
    first = number >> host_bits << host_bits
    last = first | ((1 << host_bits) - 1)
    canonical = inet_ntop(family, first.to_bytes(4)) if version == 4 else IPv6Address(first)
    return AddressRange(version, first, last, f"{canonical}/{width - host_bits}")


class NetworkSet:
    """A set of IPv4 and IPv6 networks.

    Args:
        networks: networks in CIDR notation.

    Raises:
        ValueError: one of them is not a network.

    >>> "192.0.2.7" in NetworkSet(["192.0.2.0/24", "2001:db8::/32"]), "192.0.3.7" in NetworkSet(["192.0.2.0/24"])
    (True, False)
    """

    def __init__(self, networks: Iterable[str]) -> None:
        ranges: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for each in map(parse_network, networks):
            ranges[each.version].append((each.first, each.last))
        self._ranges = {version: _disjoint(found) for version, found in ranges.items()}
        self._is_empty = not any(ranges.values())

    def __contains__(self, ip: str) -> bool:
        """Return whether an address is in one of the networks; False for a pseudonym."""
        if self._is_empty or (":" not in ip and "." not in ip):
            return False
        address = ip_address(ip)
        first, last = self._ranges[address.version]
        place = bisect_right(first, int(address)) - 1
        return place >= 0 and int(address) <= last[place]


def _disjoint(ranges: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Return the first and the last addresses of the disjoint ranges that cover the given ones, in order."""
    first: list[int] = []
    last: list[int] = []
    for start, end in sorted(ranges):
        if last and start <= last[-1] + 1:
            last[-1] = max(last[-1], end)
        else:
            first.append(start)
            last.append(end)
    return first, last
