"""What kind of network an address belongs to."""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from typing import TYPE_CHECKING, Protocol

import iporigin

from schemas.session import canonical_ip
from worker.enrich.model import NetworkKind

if TYPE_CHECKING:
    from collections.abc import Sequence

# Autonomous systems by the names their registries (whois) and PeeringDB give them; only those that carry nothing else,
# or next to nothing else, stand here. Everything finer is what the geo file's `network_kind` and traits are for.
SATELLITE_ASNS = frozenset(
    {
        14593,  # SPACEX-STARLINK
        45700,  # Starlink, Asia
        800,  # OneWeb
        7155,  # VIASAT-SP-BACKBONE
        40306,  # ViaSat
        6621,  # HNS-DIRECPC: Hughes
        22351,  # INTELSAT
        29286,  # SKYLOGIC: Eutelsat
        60725,  # O3b: SES
    }
)
"""Their addresses are placed at ground stations, not at users."""
MOBILE_ASNS = frozenset(
    {
        21928,  # T-MOBILE-AS21928 (US)
        20057,  # ATT-MOBILITY-LLC-AS20057 (US)
        22394,  # CELLCO: Verizon Wireless (US)
        6167,  # CELLCO-PART: Verizon Wireless (US)
        12576,  # EE (GB)
        25135,  # VODAFONE-UK, mobile (GB)
        206067,  # H3GUK: Three (GB)
        51207,  # FREEM: Free Mobile (FR)
        16232,  # ASN-TIM: Telecom Italia Mobile (IT)
        45609,  # BHARTI-MOBILITY-AS-AP: Airtel, GPRS (IN)
        55836,  # RELIANCEJIO-IN (IN)
        9605,  # DOCOMO (JP)
    }
)
RELAY_ASNS = frozenset({36183})
"""Akamai's egress for iCloud Private Relay (https://mask-api.icloud.com/egress-ip-ranges.csv). Cloudflare and Fastly,
its other partners, use systems that carry much else (13335, 54113): of those the published ranges alone decide."""
RELAYS = frozenset({"Apple Private Relay"})
"""Providers that iporigin counts among VPNs and that hide everybody by default, without choice of a place."""
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
HOSTING_ASNS = frozenset(
    {
        16625,  # AKAMAI-AS
        20940,  # AKAMAI-ASN1
        200325,  # BUNNYCDN
        53667,  # PONYNET: FranTech, BuyVM
        60068,  # CDN77: DataCamp
        212238,  # CDNEXT: DataCamp
        40021,  # NL-811-40021: Contabo (US)
        51167,  # CONTABO (DE)
        141995,  # CAPL-AS-AP: Contabo (Asia)
        63023,  # AS-GLOBALTELEHOST: GTHost
        42708,  # GLESYS-AS
        8849,  # MELBICOM-EU-AS
        56630,  # MELBICOM-EU-AS
        58061,  # SCALAXY-AS
    }
)
"""Systems of those providers that carry nothing but servers; Cogent's (174) carries everything."""
_KINDS_OF_RANGES = {
    iporigin.HOSTING: NetworkKind.HOSTING,
    # People do not sit in front of a CDN or a crawler: what comes from there is somebody's server.
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
"""What of the address space is nobody's in public, or no host's: IANA's special-purpose registries
(https://www.iana.org/assignments/iana-ipv4-special-registry, …-ipv6-…), RFC 6598 (CGNAT) and 3056 (6to4) among them.
Of IPv6 only 2000::/3 is public at all (RFC 4291). Documentation and benchmark ranges (RFC 5737, 2544, 3849,
9637) are ordinary networks here: tests and demos live on them."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _ranges(networks: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the first and the last addresses of networks, as numbers in their order."""
    known = sorted((ipaddress.ip_network(each) for each in networks), key=lambda each: int(each.network_address))
    return [int(each.network_address) for each in known], [int(each.broadcast_address) for each in known]


_V4_FIRST, _V4_LAST = _ranges(_SPECIAL_V4)
_V6_FIRST, _V6_LAST = _ranges(_SPECIAL_V6)


def is_private(address: Address) -> bool:
    """Tell whether an address belongs to nobody in public: private, shared (CGNAT), loopback, link-local."""
    number = int(address)
    if address.version == 4:
        place = bisect_right(_V4_FIRST, number) - 1
        return place >= 0 and number <= _V4_LAST[place]
    place = bisect_right(_V6_FIRST, number) - 1
    return number >> 125 != 1 or (place >= 0 and number <= _V6_LAST[place])


def prefix_of(address: Address) -> str:
    """Return the /24 or /64 around an address."""
    if address.version == 4:
        return f"{str(address).rpartition('.')[0]}.0/24"
    return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"


def network_of(text: str) -> tuple[str, str]:
    """Return an address in its canonical form and the prefix around it, `""` when it is nobody's in public.

    Raises:
        ValueError: it is no address.
    """
    ip = canonical_ip(text)
    address = ipaddress.ip_address(ip)
    return ip, "" if is_private(address) else prefix_of(address)


class Ranges(Protocol):
    """Tells what kind of network published ranges make an address part of."""

    @property
    def built(self) -> int:
        """When the ranges were collected, seconds since the epoch."""

    def kind(self, ip: str) -> NetworkKind:
        """Return the kind, `NetworkKind.UNKNOWN` when no range holds the address."""


class PublishedRanges:
    """The ranges that the package iporigin ships: what providers, VPNs, Tor and crawlers publish about themselves."""

    @property
    def built(self) -> int:
        """When the ranges were collected, seconds since the epoch."""
        return int(iporigin.dataset_info()["built_at"])  # type: ignore[no-untyped-call]

    def kind(self, ip: str) -> NetworkKind:
        """Return the kind, `NetworkKind.UNKNOWN` when no range holds the address. LocalPipeline only."""
        found = iporigin.classify(ip)  # type: ignore[no-untyped-call]
        if found.provider in UNLICENSED_PROVIDERS:
            return NetworkKind.UNKNOWN
        if found.provider in RELAYS:
            return NetworkKind.RELAY
        return _KINDS_OF_RANGES.get(found.kind, NetworkKind.UNKNOWN)


def kind_of(asn: int, published: NetworkKind) -> NetworkKind:
    """Return the kind of a public network that no geo file tells the kind of.

    Args:
        asn: its autonomous system, 0 when unknown.
        published: what `Ranges` says of the address.
    """
    if asn in SATELLITE_ASNS:
        return NetworkKind.SATELLITE
    if asn in RELAY_ASNS:
        return NetworkKind.RELAY
    if published:
        return published
    if asn in HOSTING_ASNS:
        return NetworkKind.HOSTING
    if asn in MOBILE_ASNS:
        return NetworkKind.MOBILE
    return NetworkKind.ISP if asn else NetworkKind.UNKNOWN
