"""Addresses to networks and places: special ranges, published ranges, geo files; and everything put together."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from importlib.metadata import distribution
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from random import Random
from typing import Any

import iporigin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdb_writer import MMDBWriter
from msgspec.structs import replace
from netaddr import IPSet

from worker.enrich.enricher import Enricher, build_enricher
from worker.enrich.gazetteer import gazetteer
from worker.enrich.geodesy import distance_km, great_circle_km
from worker.enrich.geoip import DEFAULT_RADIUS_KM, GeoFile, GeoFileError, System, kind_told, place_of, system_of
from worker.enrich.known_networks import KnownNetworks
from worker.enrich.model import (
    UNKNOWN_DEVICE,
    UNKNOWN_PLACE,
    Device,
    Network,
    NetworkKind,
    Place,
    is_anonymiser,
)
from worker.enrich.networks import UNLICENSED_PROVIDERS, PublishedRanges, is_private, kind_of, prefix_of
from worker.simulator.geo import internet, write_geo

NOTICE = Path(__file__).parents[3] / "NOTICE"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"

# IANA's special-purpose address registries, without documentation and benchmarking.
SPECIAL_V4 = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
]  # fmt: skip
SPECIAL_V6 = [
    "::/128", "::1/128", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:10::/28",
    "2001:20::/28", "2002::/16", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
]  # fmt: skip
ORDINARY = [
    "1.1.1.0/24", "8.8.8.0/24", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "192.31.196.0/24",
    "2001:db8::/32", "2001:200::/23", "2400::/12", "2600::/12", "2a00::/12", "2c00::/12", "2606:4700::/32",
    "3fff::/20",
]  # fmt: skip


def ends(text: str) -> tuple[Any, Any]:
    network = ip_network(text)
    return network.network_address, network.broadcast_address


@pytest.mark.parametrize("network", SPECIAL_V4 + SPECIAL_V6)
def test_special_ranges_are_private_from_end_to_end(network: str) -> None:
    assert [is_private(each) for each in ends(network)] == [True, True]


@pytest.mark.parametrize("network", ORDINARY)
def test_public_ranges_are_ordinary_and_so_are_documentation_and_benchmarks(network: str) -> None:
    assert [is_private(each) for each in ends(network)] == [False, False]


@pytest.mark.parametrize(
    "address",
    ["1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
     "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.88.98.255",
     "192.88.100.0", "192.167.255.255", "192.169.0.0", "223.255.255.255", "2001:200::", "2003::",
     "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
)  # fmt: skip
def test_what_lies_beside_special_ranges_is_ordinary(address: str) -> None:
    assert not is_private(ip_address(address))


KNOWN_V4 = [ip_network(text) for text in SPECIAL_V4]
BORDERS = [int(end) + step for network in SPECIAL_V4 for end in ends(network) for step in (-1, 0, 1)]


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1) | st.sampled_from([each for each in BORDERS if 0 <= each < 2**32]))
def test_ipv4_is_private_exactly_in_the_special_ranges(number: int) -> None:
    address = IPv4Address(number)
    assert is_private(address) == any(address in network for network in KNOWN_V4)


@settings(max_examples=200)
@given(st.integers(0, 2**128 - 1))
def test_ipv6_is_public_only_within_global_unicast(number: int) -> None:
    address = IPv6Address(number)
    assert is_private(address) or address in ip_network("2000::/3")


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("203.0.113.0", "203.0.113.0/24"),
        ("203.0.113.255", "203.0.113.0/24"),
        ("8.8.8.8", "8.8.8.0/24"),
        ("255.255.255.255", "255.255.255.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2a00::", "2a00::/64"),
    ],
)
def test_prefix(address: str, prefix: str) -> None:
    assert prefix_of(ip_address(address)) == prefix


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
def test_a_prefix_is_canonical_and_holds_its_address(address: IPv4Address | IPv6Address) -> None:
    network = ip_network(prefix_of(address))  # strict: refuses host bits
    assert address in network
    assert network.prefixlen == {4: 24, 6: 64}[address.version]
    assert str(network) == prefix_of(address)


# `said` and `provider` are what iporigin's release makes of an address. Addresses of VPNs and Tor come and go with
# its releases; the others have been their owners' for many years.
PUBLISHED = [
    ("66.249.66.1", "bot", "Googlebot", NetworkKind.HOSTING),
    ("3.5.140.2", "hosting", "Amazon AWS", NetworkKind.HOSTING),
    ("20.1.2.3", "hosting", "Microsoft Azure", NetworkKind.HOSTING),
    ("5.9.0.1", "hosting", "Hetzner", NetworkKind.HOSTING),
    ("104.16.0.1", "cdn", "Cloudflare", NetworkKind.HOSTING),
    ("151.101.1.1", "cdn", "Fastly", NetworkKind.HOSTING),
    ("2606:4700::1", "cdn", "Cloudflare", NetworkKind.HOSTING),
    ("185.220.101.1", "tor", "Tor", NetworkKind.TOR),
    ("172.224.226.1", "vpn", "Apple Private Relay", NetworkKind.RELAY),
    ("146.75.128.1", "vpn", "Apple Private Relay", NetworkKind.RELAY),
    ("217.138.213.18", "vpn", "Mullvad", NetworkKind.VPN),
    ("217.138.216.162", "vpn", "ProtonVPN", NetworkKind.VPN),
    ("23.32.0.1", "cdn", "Akamai", NetworkKind.UNKNOWN),  # from a list without a licence, as those of the next two
    ("38.32.0.1", "hosting", "Cogent", NetworkKind.UNKNOWN),
    ("212.102.34.1", "cdn", "CDN77", NetworkKind.UNKNOWN),
    ("17.1.2.3", "unknown", "", NetworkKind.UNKNOWN),
    ("73.1.2.3", "unknown", "", NetworkKind.UNKNOWN),
    ("203.0.113.5", "reserved", "", NetworkKind.UNKNOWN),
    ("198.18.0.1", "reserved", "", NetworkKind.UNKNOWN),
    ("2001:db8::1", "reserved", "", NetworkKind.UNKNOWN),
    ("10.0.0.1", "reserved", "", NetworkKind.UNKNOWN),
]


@pytest.mark.parametrize(("ip", "said", "provider", "kind"), PUBLISHED)
def test_published_ranges(ip: str, said: str, provider: str, kind: NetworkKind) -> None:
    origin = iporigin.classify(ip)  # type: ignore[no-untyped-call]
    assert (origin.kind, origin.provider) == (said, provider)
    assert PublishedRanges().kind(ip) is kind


def test_what_is_left_out_is_what_the_notice_of_the_package_says() -> None:
    """A release of iporigin that adds another list without a licence has to be looked at before it is used."""
    notice = next(path for path in distribution("iporigin").files or () if path.name == "NOTICE").read_text()
    unlicensed = notice.partition("3. Used with the maintainer's permission")[2].partition("TODO")[0]
    named = re.sub(r"\s+", " ", " ".join(re.findall(r"Used for: (.+?)\n\n", unlicensed, re.DOTALL)))
    known = {name for name in UNLICENSED_PROVIDERS if re.search(rf"\b{name}\b", named)}
    assert known == UNLICENSED_PROVIDERS
    assert len(re.findall(r"https://github\.com/\S+", unlicensed)) == 2
    assert re.sub(rf"additional|ranges|and|,|{'|'.join(UNLICENSED_PROVIDERS)}|\s", "", named) == ""
    ours = NOTICE.read_text("utf-8")
    assert not {name for name in UNLICENSED_PROVIDERS if name not in ours}


def test_the_notice_names_the_licences_of_the_table_of_networks() -> None:
    table = (Path(__file__).parents[3] / "worker/enrich/networks.csv").read_text("utf-8").splitlines()
    head = "\n".join(line for line in table if line.startswith("#"))
    sources = {line.rsplit(",", 1)[1] for line in table if line and not line.startswith("#")}
    told = {line.split()[1]: line for line in head.splitlines() if len(line.split()) > 1 and line.split()[1] in sources}
    assert told.keys() == sources
    licensed = {name: re.search(r"\b(MIT|CC0|CC BY|Apache|BSD|ODbL)\b", line) for name, line in told.items()}
    assert {name for name, licence in licensed.items() if licence} == {"x4b-vpn", "x4b-datacenter", "zscaler"}
    assert all(word in NOTICE.read_text("utf-8") for word in ("X4BNet/lists_vpn", "(c) 2024 X4B", "misp-warninglists"))


def test_published_ranges_say_when_they_were_collected() -> None:
    assert PublishedRanges().built == iporigin.dataset_info()["built_at"] > 1_700_000_000  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("asn", "published", "kind"),
    [
        (14593, NetworkKind.UNKNOWN, NetworkKind.SATELLITE),
        (14593, NetworkKind.TOR, NetworkKind.TOR),  # what a range alone can tell before all
        (14593, NetworkKind.HOSTING, NetworkKind.SATELLITE),
        (62044, NetworkKind.UNKNOWN, NetworkKind.PROXY),
        (9009, NetworkKind.HOSTING, NetworkKind.VPN),  # who rents servers to VPNs
        (24940, NetworkKind.UNKNOWN, NetworkKind.HOSTING),
        (36183, NetworkKind.UNKNOWN, NetworkKind.RELAY),
        (36183, NetworkKind.HOSTING, NetworkKind.RELAY),  # relay before the ranges: Akamai's are a CDN's
        (21928, NetworkKind.HOSTING, NetworkKind.HOSTING),  # ranges before carriers
        (64500, NetworkKind.VPN, NetworkKind.VPN),  # and before all other systems
        (0, NetworkKind.TOR, NetworkKind.TOR),
        (21928, NetworkKind.UNKNOWN, NetworkKind.MOBILE),
        (55836, NetworkKind.UNKNOWN, NetworkKind.MOBILE),
        (64500, NetworkKind.UNKNOWN, NetworkKind.ISP),
        (51167, NetworkKind.UNKNOWN, NetworkKind.HOSTING),  # whose published ranges have no licence
        (60068, NetworkKind.UNKNOWN, NetworkKind.VPN),  # whose published ranges have no licence
        (13335, NetworkKind.UNKNOWN, NetworkKind.ISP),  # Cloudflare's system alone is no relay
        (0, NetworkKind.UNKNOWN, NetworkKind.UNKNOWN),
    ],
)
def test_precedence_of_kinds(asn: int, published: NetworkKind, kind: NetworkKind) -> None:
    assert kind_of(KnownNetworks(), ip_address("203.0.113.7"), System(asn, "", ""), published) is kind


@pytest.mark.parametrize(
    ("organisation", "kind"),
    [
        ("T-MOBILE-AS64500", NetworkKind.MOBILE),
        ("Xfera Moviles S.A.", NetworkKind.MOBILE),
        ("Example Cellular, Inc.", NetworkKind.MOBILE),
        ("ZSCALER, INC.", NetworkKind.PROXY),
        ("Example Satellite Broadband", NetworkKind.SATELLITE),
        ("Example VPN Ltd", NetworkKind.VPN),
        ("Example Data Center LLC", NetworkKind.HOSTING),
        ("Automobile Club", NetworkKind.ISP),  # a word, not a part of one
        ("Example Broadband", NetworkKind.ISP),
    ],
)
def test_words_of_organisations_tell_kinds(organisation: str, kind: NetworkKind) -> None:
    address = ip_address("203.0.113.7")
    assert kind_of(KnownNetworks(), address, System(64500, organisation, ""), NetworkKind.UNKNOWN) is kind


def test_a_given_file_comes_before_the_shipped_one_and_prefixes_before_systems(tmp_path: Path) -> None:
    path = tmp_path / "networks.csv"
    path.write_text("# ours\n203.0.113.0/24,proxy,Example,own\n203.0.113.128/25,isp,Example,own\nAS24940,isp,,own\n")
    known = KnownNetworks(path)
    assert known.of_address(ip_address("203.0.113.7")) is NetworkKind.PROXY
    assert known.of_address(ip_address("203.0.113.200")) is NetworkKind.ISP
    assert known.of_address(ip_address("2001:db8::1")) is NetworkKind.UNKNOWN
    assert known.of_system(24940, "Hetzner Online GmbH") is NetworkKind.ISP
    assert KnownNetworks().of_system(24940, "") is NetworkKind.HOSTING


@pytest.mark.parametrize("line", ["203.0.113.0/33,isp", "AS1,neighbour", "203.0.113.1/24,vpn"])
def test_a_wrong_line_of_a_given_file_is_an_error(tmp_path: Path, line: str) -> None:
    path = tmp_path / "networks.csv"
    path.write_text(line + "\n")
    with pytest.raises(GeoFileError, match=r"networks\.csv"):
        KnownNetworks(path)


def test_anonymisers() -> None:
    told = {kind for kind in NetworkKind if is_anonymiser(kind.value)}
    assert told == {
        NetworkKind.VPN, NetworkKind.TOR, NetworkKind.RELAY, NetworkKind.HOSTING, NetworkKind.SATELLITE,
        NetworkKind.PROXY,
    }  # fmt: skip


def write_mmdb(path: Path, records: dict[str, Any]) -> Path:
    """Write beside the target and rename, as `geoipupdate` does."""
    writer = MMDBWriter(6, "Test", ["en"], "Written by a test", ipv4_compatible=True, float_type="f64")
    for network, record in records.items():
        writer.insert_network(IPSet([network]), record)
    return renamed(path, lambda temporary: writer.to_db_file(str(temporary)))


def renamed(path: Path, write: Any) -> Path:
    temporary = path.with_suffix(".new")
    write(temporary)
    temporary.replace(path)
    return path


def broken(path: Path) -> Path:
    return renamed(path, lambda temporary: temporary.write_bytes(b"no such file format" * 100))


def city(country: str, name: str, latitude: float, longitude: float, **location: Any) -> dict[str, Any]:
    return {
        "country": {"iso_code": country},
        "city": {"names": {"en": name}},
        "location": {"latitude": latitude, "longitude": longitude, **location},
    }


BERLIN = city("DE", "Berlin", 52.52, 13.4, accuracy_radius=20)
TOKYO = city("JP", "Tokyo", 35.69, 139.69, accuracy_radius=10)
IN_BERLIN = Place("DE", "Berlin", 52.52, 13.4, 20.0, "ip")
IN_TOKYO = Place("JP", "Tokyo", 35.69, 139.69, 10.0, "ip")
IN_PARIS = Place("FR", "Paris", 48.85341, 2.3488, 25.0, "location")


GARBAGE = [None, "", " ", "-", "unknown", "N/A", "0,0", "999,999", "x" * 4096, "\ud800"]


def test_records_are_found_for_both_families(tmp_path: Path) -> None:
    file = GeoFile(write_mmdb(tmp_path / "city.mmdb", {"203.0.113.0/24": BERLIN, "2001:db8:1::/48": TOKYO}))
    assert file.find("203.0.113.255") == BERLIN
    assert file.find("2001:db8:1:2::3") == TOKYO
    assert file.find("203.0.114.0") == file.find("2001:db8:2::1") == {}
    assert file.built > 1_700_000_000


@pytest.mark.parametrize("ip", ["", "unknown", "203.0.113.1/24", "203.0.113.256", "fe80::1%eth0"])
def test_what_is_no_address_has_no_record(tmp_path: Path, ip: str) -> None:
    file = GeoFile(write_mmdb(tmp_path / "city.mmdb", {"203.0.113.0/24": BERLIN}))
    assert file.find(ip) == {}


def test_a_nul_is_no_address_either(tmp_path: Path) -> None:
    assert GeoFile(write_mmdb(tmp_path / "city.mmdb", {"203.0.113.0/24": BERLIN})).find("\x00") == {}


def test_a_file_of_ipv4_alone_has_no_record_for_ipv6(tmp_path: Path) -> None:
    writer = MMDBWriter(4, "Test", ["en"], "IPv4 alone")
    writer.insert_network(IPSet(["203.0.113.0/24"]), {"autonomous_system_number": 64500})
    file = GeoFile(renamed(tmp_path / "asn.mmdb", lambda temporary: writer.to_db_file(str(temporary))))
    assert file.find("203.0.113.1") == {"autonomous_system_number": 64500}
    assert file.find("2001:db8::1") == {}


@pytest.mark.parametrize("record", ["text", ["a", "list"], 7])
def test_records_that_are_no_maps_count_as_none(tmp_path: Path, record: Any) -> None:
    assert GeoFile(write_mmdb(tmp_path / "city.mmdb", {"203.0.113.0/24": record})).find("203.0.113.1") == {}


def test_damaged_records_count_as_none(tmp_path: Path) -> None:
    path = write_mmdb(tmp_path / "city.mmdb", {"203.0.113.0/24": BERLIN})
    whole = path.read_bytes()
    begin, end = whole.index(b"\x00" * 16) + 16, whole.rindex(b"\xab\xcd\xefMaxMind.com")
    renamed(path, lambda temporary: temporary.write_bytes(whole[:begin] + b"\xff" * (end - begin) + whole[end:]))
    assert GeoFile(path).find("203.0.113.1") == {}


def make_missing(_path: Path) -> None:
    pass


def make_truncated(path: Path) -> None:
    whole = write_mmdb(path, {"203.0.113.0/24": BERLIN}).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


MADE_WRONG = {
    "missing": make_missing,
    "a directory": Path.mkdir,
    "empty": Path.touch,
    "another format": broken,
    "truncated": make_truncated,
}


@pytest.mark.parametrize("make", MADE_WRONG.values(), ids=MADE_WRONG)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "city.mmdb"
    make(path)
    with pytest.raises(GeoFileError) as caught:
        GeoFile(path)
    assert str(path) in str(caught.value)
    with pytest.raises(GeoFileError, match="city"):
        build_enricher(path, None)
    with pytest.raises(GeoFileError, match="city"):
        build_enricher(None, path)


def test_reload_picks_up_a_file_renamed_into_place(tmp_path: Path) -> None:
    path = write_mmdb(tmp_path / "city.mmdb", {"203.0.113.0/24": BERLIN})
    file = GeoFile(path)
    assert not file.reload()
    write_mmdb(path, {"203.0.113.0/24": TOKYO})
    assert file.find("203.0.113.1") == BERLIN
    assert file.reload()
    assert file.find("203.0.113.1") == TOKYO
    assert not file.reload()


def test_reload_picks_up_a_file_of_the_same_age(tmp_path: Path) -> None:
    path = write_mmdb(tmp_path / "city.mmdb", {"203.0.113.0/24": BERLIN})
    os.utime(path, ns=(0, 0))
    file = GeoFile(path)
    write_mmdb(path, {"203.0.113.0/24": TOKYO})
    os.utime(path, ns=(0, 0))
    assert file.reload()
    assert file.find("203.0.113.1") == TOKYO


@pytest.mark.parametrize("make", [broken, Path.unlink], ids=["broken", "gone"])
def test_reload_of_a_broken_file_keeps_the_old_one_until_it_is_repaired(tmp_path: Path, make: Any) -> None:
    path = write_mmdb(tmp_path / "city.mmdb", {"203.0.113.0/24": BERLIN})
    file = GeoFile(path)
    make(path)
    for _ in range(2):
        with pytest.raises(GeoFileError, match=r"city\.mmdb"):
            file.reload()
        assert file.find("203.0.113.1") == BERLIN
        assert file.built > 1_700_000_000
    write_mmdb(path, {"203.0.113.0/24": TOKYO})
    assert file.reload()
    assert file.find("203.0.113.1") == TOKYO


@pytest.mark.parametrize(
    ("record", "place"),
    [
        (BERLIN, IN_BERLIN),
        ({}, UNKNOWN_PLACE),
        ({"country": {"iso_code": "DE"}}, Place("DE", "", None, None, 0.0, "ip")),
        ({"country": {"iso_code": "DE"}, "city": {"names": {"en": "Berlin"}}}, Place("DE", "", None, None, 0.0, "ip")),
        ({"registered_country": {"iso_code": "DE"}}, UNKNOWN_PLACE),
        # Accuracy: as told, zero too; a guess when it is not.
        (city("DE", "Berlin", 52.52, 13.4), Place("DE", "Berlin", 52.52, 13.4, DEFAULT_RADIUS_KM, "ip")),
        (city("DE", "Berlin", 52.52, 13.4, accuracy_radius=0), Place("DE", "Berlin", 52.52, 13.4, 0.0, "ip")),
        (city("DE", "Berlin", 52.52, 13.4, accuracy_radius=1000), Place("DE", "Berlin", 52.52, 13.4, 1000.0, "ip")),
        (
            city("DE", "Berlin", 52.52, 13.4, accuracy_radius="5"),
            Place("DE", "Berlin", 52.52, 13.4, DEFAULT_RADIUS_KM, "ip"),
        ),
        # Coordinates without country or city.
        ({"location": {"latitude": -10, "longitude": 20}}, Place("", "", -10.0, 20.0, DEFAULT_RADIUS_KM, "ip")),
        (
            {**city("DE", "", 1, 2), "city": {"names": {"de": "Köln"}}},
            Place("DE", "", 1.0, 2.0, DEFAULT_RADIUS_KM, "ip"),
        ),
        # Odd types and values.
        ({"country": "DE", "city": ["Berlin"], "location": "Berlin"}, UNKNOWN_PLACE),
        ({"country": {"iso_code": 49}, "location": {}}, UNKNOWN_PLACE),
        ({"country": {"iso_code": None}, "city": None, "location": None}, UNKNOWN_PLACE),
        (city("DE", "Berlin", "52", 13.4), Place("DE", "", None, None, 0.0, "ip")),  # type: ignore[arg-type]
        (city("DE", "Berlin", True, False), Place("DE", "", None, None, 0.0, "ip")),
        (city("DE", "Berlin", 91, 13.4), Place("DE", "", None, None, 0.0, "ip")),
        (city("DE", "Berlin", 52, -180.5), Place("DE", "", None, None, 0.0, "ip")),
        ({"location": {"latitude": 52.5}}, UNKNOWN_PLACE),
    ],
)  # fmt: skip
def test_places_of_records(record: dict[str, Any], place: Place) -> None:
    assert place_of(record) == place


@pytest.mark.parametrize(
    "record",
    [
        city("DE", "Berlin", math.nan, 13.4),
        city("DE", "Berlin", 52.5, math.nan),
        city("DE", "Berlin", 52.5, 13.4, accuracy_radius=math.nan),
        city("DE", "Berlin", 52.5, 13.4, accuracy_radius=math.inf),
        city("DE", "Berlin", 52.5, 13.4, accuracy_radius=-5),
    ],
)
def test_numbers_that_are_none_are_unknown(record: dict[str, Any]) -> None:
    place = place_of(record)
    assert place.country == "DE"
    assert place.latitude is None or math.isfinite(place.latitude)
    assert place.longitude is None or math.isfinite(place.longitude)
    assert 0 <= place.radius_km < math.inf


@pytest.mark.parametrize(
    ("record", "number", "organisation"),
    [
        ({"autonomous_system_number": 64500, "autonomous_system_organization": "Example"}, 64500, "Example"),
        ({"autonomous_system_number": 4294967295}, 4294967295, ""),
        ({"autonomous_system_organization": "Example"}, 0, "Example"),
        ({"autonomous_system_number": "AS64500", "autonomous_system_organization": 7}, 0, ""),
        ({"autonomous_system_number": 64500.0}, 0, ""),
        ({"autonomous_system_number": None}, 0, ""),
        ({"autonomous_system_number": [64500]}, 0, ""),
        ({}, 0, ""),
    ],
)
def test_systems_of_records(record: dict[str, Any], number: int, organisation: str) -> None:
    system = system_of(record)
    assert (system.number, system.organisation, system.kind) == (number, organisation, "")


@pytest.mark.parametrize("number", [True, -4])
def test_numbers_no_system_can_have_are_unknown(number: int) -> None:
    assert system_of({"autonomous_system_number": number}).number == 0


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        # Our own key, before everything else.
        *[({"network_kind": kind.value}, kind.value) for kind in NetworkKind],
        ({"network_kind": "vpn", "traits": {"is_tor_exit_node": True}}, "vpn"),
        ({"network_kind": "banana"}, ""),
        ({"network_kind": "VPN"}, ""),
        ({"network_kind": ["vpn"]}, ""),
        ({"network_kind": 7, "is_tor_exit_node": True}, "tor"),
        # MaxMind's: Anonymous IP has the flags at the top, Enterprise in `traits`.
        ({"is_tor_exit_node": True}, "tor"),
        ({"traits": {"is_tor_exit_node": True}}, "tor"),
        ({"traits": {"is_anonymous_vpn": True}}, "vpn"),
        ({"is_public_proxy": True}, "vpn"),
        ({"is_hosting_provider": True}, "hosting"),
        ({"traits": {"is_satellite_provider": True}}, "satellite"),
        ({"is_hosting_provider": True, "is_anonymous_vpn": True}, "vpn"),
        ({"is_anonymous_vpn": True, "is_tor_exit_node": True}, "tor"),
        ({"is_residential_proxy": True, "is_anonymous": True}, ""),
        ({"is_tor_exit_node": False}, ""),
        ({"is_tor_exit_node": "true"}, ""),
        ({"is_tor_exit_node": 1}, ""),
        ({"traits": {"user_type": "cellular"}}, "mobile"),
        ({"traits": {"user_type": "hosting"}}, "hosting"),
        ({"traits": {"user_type": "content_delivery_network"}}, "hosting"),
        ({"traits": {"user_type": "search_engine_spider"}}, "hosting"),
        ({"traits": {"user_type": "consumer_privacy_network"}}, "relay"),
        ({"traits": {"user_type": "residential"}}, ""),
        ({"traits": {"user_type": "business", "connection_type": "Cellular"}}, "mobile"),
        ({"connection_type": "Satellite"}, "satellite"),
        ({"connection_type": "Cable/DSL"}, ""),
        ({"traits": {"user_type": 5, "connection_type": None}}, ""),
        ({"traits": "tor"}, ""),
        ({}, ""),
    ],
)
def test_kinds_that_records_tell(record: dict[str, Any], kind: str) -> None:
    assert kind_told(record) == kind


@dataclass
class CountingResolver:
    """The gazetteer, and the texts it was asked for."""

    asked: list[str] = field(default_factory=list)

    def resolve(self, text: str) -> Place:
        self.asked.append(text)
        return gazetteer().resolve(text)


class CountingFile(GeoFile):
    """A geo file, and the addresses it was asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: list[str] = []

    def find(self, ip: str) -> dict[str, Any]:
        self.asked.append(ip)
        return super().find(ip)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    cities = {"203.0.113.0/24": BERLIN, "198.51.100.0/24": {"country": {"iso_code": "FR"}}, "10.0.0.0/8": TOKYO}
    systems = {
        "203.0.113.0/24": {"autonomous_system_number": 64500, "autonomous_system_organization": "Example ISP"},
        "198.51.100.0/24": {"autonomous_system_number": 21928},
        "192.0.2.0/24": {"autonomous_system_number": 14593, "autonomous_system_organization": "Skies"},
        "198.18.0.0/24": {"autonomous_system_number": 64501, "network_kind": "vpn"},
        "198.18.1.0/24": {"network_kind": "tor"},
        "5.9.0.0/16": {"autonomous_system_number": 24940, "autonomous_system_organization": "Hosters"},
        "185.220.101.0/24": {"autonomous_system_number": 64502, "network_kind": "isp"},
        "2001:db8:1::/48": {"autonomous_system_number": 64503, "autonomous_system_organization": "Six"},
        "10.0.0.0/8": {"autonomous_system_number": 64504, "network_kind": "vpn"},
    }
    return write_mmdb(tmp_path / "city.mmdb", cities), write_mmdb(tmp_path / "asn.mmdb", systems)


@pytest.fixture
def enricher(files: tuple[Path, Path]) -> Enricher:
    return build_enricher(*files)


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("203.0.113.7", Network("203.0.113.7", 4, "203.0.113.0/24", 64500, "Example ISP", "isp")),
        ("198.51.100.9", Network("198.51.100.9", 4, "198.51.100.0/24", 21928, "", "mobile")),
        ("192.0.2.1", Network("192.0.2.1", 4, "192.0.2.0/24", 14593, "Skies", "satellite")),
        ("198.18.0.1", Network("198.18.0.1", 4, "198.18.0.0/24", 64501, "", "vpn")),
        ("198.18.1.1", Network("198.18.1.1", 4, "198.18.1.0/24", 0, "", "tor")),
        ("198.18.2.1", Network("198.18.2.1", 4, "198.18.2.0/24", 0, "", "")),
        ("5.9.0.1", Network("5.9.0.1", 4, "5.9.0.0/24", 24940, "Hosters", "hosting")),  # by its published range
        ("185.220.101.1", Network("185.220.101.1", 4, "185.220.101.0/24", 64502, "", "isp")),  # the file knows better
        ("2001:db8:1:2::3", Network("2001:db8:1:2::3", 6, "2001:db8:1:2::/64", 64503, "Six", "isp")),
        ("2001:db8:2::1", Network("2001:db8:2::1", 6, "2001:db8:2::/64", 0, "", "")),
    ],
)
def test_networks_of_addresses(enricher: Enricher, ip: str, network: Network) -> None:
    for _ in range(2):  # made, then remembered
        assert enricher.enrich(ip, None, "")[0] == network


@pytest.mark.parametrize(
    ("ip", "family"),
    [("10.1.2.3", 4), ("127.0.0.1", 4), ("192.168.0.1", 4), ("100.64.0.1", 4),
     ("0.0.0.0", 4), ("::1", 6), ("fd00::1", 6)],
)  # fmt: skip
def test_private_addresses_are_unknown_networks_whatever_files_say(enricher: Enricher, ip: str, family: int) -> None:
    network, place, _ = enricher.enrich(ip, None, "")
    assert network == Network(ip, family, "", 0, "", "private")
    assert place is UNKNOWN_PLACE


def test_a_private_address_has_the_place_its_event_names(enricher: Enricher) -> None:
    network, place, _ = enricher.enrich("10.1.2.3", "Paris, FR", "")
    assert (network.kind, place) == ("private", IN_PARIS)


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("Hamburg, DE", gazetteer().resolve("Hamburg, DE")),
        ("hamburg,germany", gazetteer().resolve("Hamburg, DE")),
        ("53.5507,9.993", Place("DE", gazetteer().at(53.5507, 9.993).city, 53.5507, 9.993, 5.0, "location")),
        ("Germany", Place("DE", "", None, None, 0.0, "location")),
        ("30,-40", Place("", "", 30.0, -40.0, 5.0, "location")),
        *[(garbage, IN_BERLIN) for garbage in GARBAGE],
    ],
)  # fmt: skip
def test_a_location_beats_the_address_and_garbage_does_not(
    enricher: Enricher, location: str | None, place: Place
) -> None:
    for _ in range(2):
        assert enricher.enrich("203.0.113.7", location, "")[1] == place


@pytest.mark.parametrize("location", ["Paris, FR", "48.8566,2.3522", "France"])
def test_a_location_that_contradicts_the_addresss_country_is_kept_beside_it(enricher: Enricher, location: str) -> None:
    assert enricher.enrich("203.0.113.7", location, "")[1] == replace(IN_BERLIN, stated_country="FR")


def test_an_address_known_by_country_alone(enricher: Enricher) -> None:
    assert enricher.enrich("198.51.100.9", None, "")[1] == Place("FR", "", None, None, 0.0, "ip")
    assert enricher.enrich("198.51.101.9", None, "")[1] is UNKNOWN_PLACE


def test_devices(enricher: Enricher) -> None:
    chrome = Device("Chrome", 141, "Linux", "", "desktop", False)
    assert enricher.enrich("203.0.113.7", None, CHROME)[2] == chrome
    assert enricher.enrich("203.0.113.7", "Paris, FR", "curl/8.7.1")[2].scripted
    assert enricher.enrich("203.0.113.7", None, "")[2] is UNKNOWN_DEVICE
    assert enricher.enrich("10.0.0.1", "garbage", CHROME)[2] == chrome


def test_without_files_only_ranges_locations_and_devices_are_known() -> None:
    enricher = build_enricher(None, None)
    enricher.warm()
    ordinary = Network("203.0.113.7", 4, "203.0.113.0/24", 0, "", "")
    assert enricher.enrich("203.0.113.7", None, "") == (ordinary, UNKNOWN_PLACE, UNKNOWN_DEVICE)
    assert enricher.enrich("203.0.113.7", "unknown", "-") == (ordinary, UNKNOWN_PLACE, UNKNOWN_DEVICE)
    assert enricher.enrich("185.220.101.1", None, "")[0].kind == "tor"
    assert enricher.enrich("203.0.113.7", "Paris, FR", "")[1] == IN_PARIS
    assert not enricher.reload()


def test_each_file_alone(files: tuple[Path, Path]) -> None:
    network, place, _ = build_enricher(files[0], None).enrich("203.0.113.7", None, "")
    assert (network.asn, network.kind, place) == (0, "", IN_BERLIN)
    network, place, _ = build_enricher(None, files[1]).enrich("203.0.113.7", None, "")
    assert (network.asn, network.kind, place) == (64500, "isp", UNKNOWN_PLACE)


def test_sources_are_the_files_given_and_the_ranges(files: tuple[Path, Path], enricher: Enricher) -> None:
    known = enricher.sources()
    assert [(each.name, each.origin) for each in known] == [
        ("geo.city_db", str(files[0])),
        ("geo.asn_db", str(files[1])),
        ("networks", "iporigin"),
    ]
    assert all(each.built > 1_700_000_000 for each in known)
    assert [each.name for each in build_enricher(None, files[1]).sources()] == ["geo.asn_db", "networks"]


def test_what_is_asked_again_is_remembered(files: tuple[Path, Path]) -> None:
    resolver, file = CountingResolver(), CountingFile(files[0])
    enricher = Enricher(file, None, resolver, KnownNetworks(), cache_size=1000)
    for _ in range(3):
        for number in range(100):
            enricher.enrich(f"203.0.113.{number}", f"Nowhere {number}", "")
    assert resolver.asked == [f"Nowhere {number}" for number in range(100)]
    assert file.asked == [f"203.0.113.{number}" for number in range(100)]


@pytest.mark.parametrize("size", [2, 10, 64])
def test_no_more_is_remembered_than_the_bound(files: tuple[Path, Path], size: int) -> None:
    resolver, file = CountingResolver(), CountingFile(files[0])
    enricher = Enricher(file, None, resolver, KnownNetworks(), cache_size=size)
    events = [(f"203.0.113.{number}", f"Nowhere {number}") for number in range(200)]
    for event in events:
        enricher.enrich(*event, "")
    for event in reversed(events):
        enricher.enrich(*event, "")
    # Of what was asked a second time, the newest first, no more than the bound had stayed.
    assert 400 - size <= len(resolver.asked) < 400
    assert 400 - size <= len(file.asked) < 400


def test_what_is_asked_all_the_time_stays_while_others_come_and_go(files: tuple[Path, Path]) -> None:
    resolver, file = CountingResolver(), CountingFile(files[0])
    enricher = Enricher(file, None, resolver, KnownNetworks(), cache_size=64)
    for turn in range(200):
        for number in range(20):
            enricher.enrich(f"203.0.113.{number}", f"Often {number}", "")
        enricher.enrich(f"198.51.100.{turn}", f"Once {turn}", "")
    assert len(resolver.asked) == len(set(resolver.asked)) == 220
    assert len(file.asked) == len(set(file.asked)) == 220


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 8))
def test_what_is_remembered_is_what_would_be_made(asked: list[int], size: int) -> None:
    texts = ["Paris, FR", "London", "unknown", "48.85,2.35", "0,0", "JP", "Berlin, DE", "x", "Springfield", "30,-40"]
    enricher = Enricher(None, None, gazetteer(), KnownNetworks(), cache_size=size)
    for number in asked:
        network, place, device = enricher.enrich(f"203.0.113.{number}", texts[number], f"curl/{number}")
        assert network == Network(f"203.0.113.{number}", 4, "203.0.113.0/24", 0, "", "")
        assert place == gazetteer().resolve(texts[number])
        assert device.browser_major == number


def test_a_reload_forgets_what_the_old_files_said(files: tuple[Path, Path], enricher: Enricher) -> None:
    assert enricher.enrich("203.0.113.7", None, "")[1] == IN_BERLIN
    assert not enricher.reload()
    write_mmdb(files[0], {"203.0.113.0/24": TOKYO})
    assert enricher.enrich("203.0.113.7", None, "")[1] == IN_BERLIN
    assert enricher.reload()
    assert enricher.enrich("203.0.113.7", None, "")[1] == IN_TOKYO
    write_mmdb(files[1], {"203.0.113.0/24": {"autonomous_system_number": 64999}})
    assert enricher.reload()
    assert enricher.enrich("203.0.113.7", None, "")[0].asn == 64999
    assert not enricher.reload()


def test_a_reload_without_news_keeps_what_is_remembered(files: tuple[Path, Path]) -> None:
    file = CountingFile(files[0])
    enricher = Enricher(file, None, gazetteer(), KnownNetworks())
    enricher.enrich("203.0.113.7", None, "")
    assert not enricher.reload()
    enricher.enrich("203.0.113.7", None, "")
    assert file.asked == ["203.0.113.7"]


def test_a_reload_of_a_broken_file_keeps_the_old_one_in_force(files: tuple[Path, Path], enricher: Enricher) -> None:
    enricher.enrich("203.0.113.7", None, "")
    broken(files[0])
    with pytest.raises(GeoFileError, match=r"city\.mmdb"):
        enricher.reload()
    assert [enricher.enrich(ip, None, "")[1] for ip in ("203.0.113.7", "203.0.113.8")] == [IN_BERLIN] * 2


def test_a_reload_with_one_new_and_one_broken_file_takes_up_the_new_one(
    files: tuple[Path, Path], enricher: Enricher
) -> None:
    enricher.enrich("203.0.113.7", None, "")
    write_mmdb(files[0], {"203.0.113.0/24": TOKYO})
    broken(files[1])
    with pytest.raises(GeoFileError, match=r"asn\.mmdb"):
        enricher.reload()
    assert [enricher.enrich(ip, None, "")[1] for ip in ("203.0.113.8", "203.0.113.7")] == [IN_TOKYO] * 2


def test_the_simulated_internet_is_what_its_files_say(tmp_path: Path) -> None:
    enricher, rng = build_enricher(*write_geo(tmp_path)), Random(3)
    nets = list(internet().networks())
    assert len(nets) > 400
    for net in nets:
        network, place, _ = enricher.enrich(net.address(rng), None, "")
        assert (network.asn, network.as_org, network.kind) == (net.asn, net.org, net.kind)
        assert place == Place(
            net.city.country, net.city.name, pytest.approx(net.latitude, abs=1e-3),  # type: ignore[arg-type]
            pytest.approx(net.longitude, abs=1e-3), float(net.radius_km), "ip",  # type: ignore[arg-type]
        )  # fmt: skip


# WGS 84 geodesics by Vincenty's formulae, km.
DISTANCES = [
    ("Paris–London", (48.8566, 2.3522), (51.5074, -0.1278), 343.9),
    ("New York–Los Angeles", (40.7128, -74.0060), (34.0522, -118.2437), 3944.4),
    ("Sydney–Auckland", (-33.8688, 151.2093), (-36.8485, 174.7633), 2160.5),
    ("Tokyo–San Francisco", (35.6762, 139.6503), (37.7749, -122.4194), 8293.4),
    ("Cape Town–Cairo", (-33.9249, 18.4241), (30.0444, 31.2357), 7207.5),
    ("Suva–Apia, over the antimeridian", (-18.1416, 178.4419), (-13.8507, -171.7514), 1151.7),
    ("Berlin–Potsdam", (52.52, 13.405), (52.3906, 13.0645), 27.3),
    ("Reykjavík–Tromsø", (64.1466, -21.9426), (69.6492, 18.9553), 1851.9),
    ("the quarter meridian", (90.0, 0.0), (0.0, 0.0), 10002.0),
]


@pytest.mark.parametrize(("here", "there", "km"), [each[1:] for each in DISTANCES], ids=[each[0] for each in DISTANCES])
def test_known_distances(here: tuple[float, float], there: tuple[float, float], km: float) -> None:
    assert great_circle_km(*here, *there) == pytest.approx(km, rel=0.005)
    assert great_circle_km(*there, *here) == pytest.approx(km, rel=0.005)


POINTS = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
HALF_ROUND = math.pi * 6371.0088


@settings(max_examples=300)
@given(POINTS, POINTS, POINTS)
def test_distances_are_a_metric(
    here: tuple[float, float], there: tuple[float, float], via: tuple[float, float]
) -> None:
    direct = great_circle_km(*here, *there)
    assert direct == pytest.approx(great_circle_km(*there, *here), abs=1e-6)
    assert 0 <= direct <= HALF_ROUND + 1e-6
    assert great_circle_km(*here, *here) == 0
    # Near antipodes the haversine formula is exact to about a metre.
    assert direct <= great_circle_km(*here, *via) + great_circle_km(*via, *there) + 0.01


@pytest.mark.parametrize(
    ("here", "there"),
    [((0, 0), (0, 180)), ((90, 0), (-90, 0)), ((48.85, 2.35), (-48.85, -177.65)), ((90, 10), (-90, -120))],
)
def test_antipodes_are_half_way_round(here: tuple[float, float], there: tuple[float, float]) -> None:
    assert great_circle_km(*here, *there) == pytest.approx(HALF_ROUND, abs=0.01)


def test_all_longitudes_meet_at_the_poles_and_at_the_antimeridian() -> None:
    assert great_circle_km(90, 0, 90, 137) == pytest.approx(0, abs=1e-6)
    assert great_circle_km(10, 180, 10, -180) == pytest.approx(0, abs=1e-6)
    assert great_circle_km(0, 179.5, 0, -179.5) == pytest.approx(111.19, abs=0.05)


def test_distances_of_places() -> None:
    country = Place("FR", "", None, None, 0.0, "location")
    assert distance_km(IN_BERLIN, IN_TOKYO) == pytest.approx(8935, rel=0.005)
    assert distance_km(IN_TOKYO, IN_BERLIN) == distance_km(IN_BERLIN, IN_TOKYO)
    assert distance_km(IN_BERLIN, IN_BERLIN) == 0
    assert [distance_km(IN_BERLIN, other) for other in (country, UNKNOWN_PLACE)] == [None, None]
    assert [distance_km(other, IN_BERLIN) for other in (country, UNKNOWN_PLACE)] == [None, None]
