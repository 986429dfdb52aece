"""What kind of network an address belongs to."""

from __future__ import annotations

import ipaddress

import iporigin

from worker.enrich.model import NetworkKind

SATELLITE_ASNS = frozenset({14593, 45700, 27277, 40306, 7155, 16491, 6621, 63062, 22351, 201554})
"""Starlink (14593, 45700, 27277), ViaSat (40306, 7155, 16491), Hughes (6621, 63062), Intelsat (22351), Eutelsat's
Konnect (201554); RIR whois. Their addresses are placed at ground stations, not at users."""
MOBILE_ASNS = frozenset(
    {21928, 20057, 22394, 6167, 26599, 26615, 55836, 45609, 25135, 12576, 206067, 21334, 28885, 24400, 56040, 9808}
)
"""Networks that carry mobile customers only or above all: T-Mobile US 21928, AT&T Mobility 20057, Verizon Wireless
22394 and 6167, Vivo 26599, TIM Brasil 26615, Jio 55836, Airtel Mobile 45609, Vodafone UK 25135, EE 12576, Three UK
206067, Vodafone HU 21334, Omantel Mobile 28885, China Mobile 24400, 56040 and 9808; RIR whois and PeeringDB."""
RELAY_ASNS = frozenset({36183})
"""Akamai's egress for iCloud Private Relay (https://mask-api.icloud.com/egress-ip-ranges.csv). Its other partners
share their systems with ordinary hosting and are left to the offline list."""
_ORIGINS = {
    iporigin.HOSTING: NetworkKind.HOSTING,
    iporigin.CDN: NetworkKind.HOSTING,
    iporigin.BOT: NetworkKind.HOSTING,
    iporigin.VPN: NetworkKind.VPN,
    iporigin.TOR: NetworkKind.TOR,
}
_ORDINARY = tuple(
    map(
        ipaddress.ip_network,
        ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "2001:db8::/32"),
    )
)
"""Documentation and benchmark ranges (RFC 5737, 2544, 3849): ordinary networks here; tests and demos use them."""
_KINDS = {kind.value: kind for kind in NetworkKind}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_private(address: Address) -> bool:
    """Tell whether an address belongs to nobody in public: private, shared (CGNAT), loopback, link-local."""
    return not address.is_global and not any(
        address in network for network in _ORDINARY if network.version == address.version
    )


def prefix_of(address: Address) -> str:
    """Return the /24 or /64 around an address."""
    length = 24 if address.version == 4 else 64
    return str(ipaddress.ip_network((address, length), strict=False))


def kind_of(address: Address, asn: int, told: str) -> NetworkKind:
    """Return the kind of a public network: as the ASN file tells, else by its number, else by the offline list."""
    if told in _KINDS and told:
        return _KINDS[told]
    if asn in SATELLITE_ASNS:
        return NetworkKind.SATELLITE
    if asn in RELAY_ASNS:
        return NetworkKind.RELAY
    found = _ORIGINS.get(iporigin.classify(address).kind)  # type: ignore[no-untyped-call]
    if found is not None:
        return found
    if asn in MOBILE_ASNS:
        return NetworkKind.MOBILE
    return NetworkKind.ISP if asn else NetworkKind.UNKNOWN
