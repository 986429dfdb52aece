from __future__ import annotations

from ipaddress import ip_address, ip_network
from random import Random
from typing import TYPE_CHECKING, Any

import maxminddb
import pytest

from worker.simulator.geo import UNLISTED_V4, SimulatedNetwork, internet, world_version, write_geo
from worker.simulator.world import CITIES, COUNTRIES, great_circle_km

if TYPE_CHECKING:
    from pathlib import Path

ALLOWED = [
    ip_network(text) for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "2001:db8::/32")
]
NETWORKS = list(internet().networks())


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    city, asn = write_geo(tmp_path_factory.mktemp("geo"))
    return maxminddb.open_database(city), maxminddb.open_database(asn)


def addresses(net: SimulatedNetwork) -> list[str]:
    rng = Random(1)  # any draw will do
    v4 = [net.address(rng) for _ in range(3)] if net.v4 else []
    return v4 + ([net.address6(77, rng)] if net.v6 else [])


def test_the_world_is_wide_enough() -> None:
    assert len(CITIES) >= 40
    assert len(COUNTRIES) == len({city.country for city in CITIES}) >= 20
    kinds = {net.kind for net in NETWORKS}
    assert kinds == {"isp", "mobile", "hosting", "vpn", "tor", "relay", "satellite"}
    for city in CITIES:
        assert 2 <= len(internet().isps[city]) <= 3
        assert len({net.asn for net in internet().carriers[city]}) == 1


def test_only_documentation_and_benchmark_ranges_and_private_as_numbers() -> None:
    for net in NETWORKS:
        assert 64512 <= net.asn <= 65534 or 4_200_000_000 <= net.asn <= 4_294_967_294
        for text in addresses(net):
            assert any(ip_address(text) in block for block in ALLOWED)


def test_no_prefix_is_announced_twice() -> None:
    prefixes = [p for net in NETWORKS for p in (*net.v4, net.v6) if p]
    assert len(prefixes) == len(set(prefixes))


@pytest.mark.parametrize("which", range(0, len(NETWORKS), 17))
def test_both_families_are_found_in_both_files(databases: tuple[Any, Any], which: int) -> None:
    city, asn = databases
    net = NETWORKS[which]
    for text in addresses(net):
        place, owner = city.get(text), asn.get(text)
        assert place["country"]["iso_code"] == net.city.country
        assert place["city"]["names"]["en"] == net.city.name
        assert place["location"] == {
            "latitude": net.latitude,
            "longitude": net.longitude,
            "accuracy_radius": net.radius_km,
        }
        assert owner == {
            "autonomous_system_number": net.asn,
            "autonomous_system_organization": net.org,
            "network_kind": net.kind,
        }


def test_unlisted_and_foreign_addresses_are_unknown(databases: tuple[Any, Any]) -> None:
    for text in (
        *(prefix + "9" for prefix in UNLISTED_V4),
        "10.1.2.3",
        "8.8.8.8",
        "2001:db8:ffff::1",
        "2001:4860::1",
    ):
        assert databases[0].get(text) is None
        assert databases[1].get(text) is None


def test_carriers_are_imprecise_within_their_radius() -> None:
    for city, pools in internet().carriers.items():
        for pool in pools:
            km = great_circle_km(city.latitude, city.longitude, pool.latitude, pool.longitude)
            assert km < 45 < pool.radius_km


def test_files_are_reproducible_and_written_once(tmp_path: Path) -> None:
    first, again = write_geo(tmp_path / "a"), write_geo(tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert world_version() in first[0].name
    stamps = [path.stat().st_mtime_ns for path in first]
    assert write_geo(tmp_path / "a") == first
    assert [path.stat().st_mtime_ns for path in first] == stamps
