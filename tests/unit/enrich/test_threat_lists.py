"""Threat lists: what their lines may be, and how they are read anew."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from worker.enrich.enricher import build_enricher
from worker.enrich.geoip import GeoFileError
from worker.enrich.threat_lists import ThreatList, ThreatLists

if TYPE_CHECKING:
    from pathlib import Path

LINES = """# FireHOL
; Spamhaus DROP List
203.0.113.0/24 ; SBL000000
198.51.100.7
2001:db8:bad::/48
AS64510
"192.0.2.128/25","a CSV line",12

"""


def written(path: Path, text: str, age: int = 0) -> Path:
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(10**18 + age, 10**18 + age))
    return path


@pytest.mark.parametrize(
    ("ip", "asn", "listed"),
    [
        ("203.0.113.99", 0, True),
        ("198.51.100.7", 0, True),
        ("198.51.100.8", 0, False),
        ("2001:db8:bad::1", 0, True),
        ("2001:db8:900d::1", 0, False),
        ("192.0.2.200", 0, True),
        ("192.0.2.1", 64510, True),
        ("192.0.2.1", 64511, False),
        ("p-5a73b4da2b3546ee949f0b62d709fdd0", 0, False),
    ],
)
def test_lines_of_a_list(tmp_path: Path, ip: str, asn: int, listed: bool) -> None:  # noqa: FBT001  a table's column
    assert ThreatList(written(tmp_path / "drop.txt", LINES)).holds(ip, asn) is listed


def test_names_of_all_lists_that_hold_an_address(tmp_path: Path) -> None:
    lists = ThreatLists((written(tmp_path / "a.txt", "192.0.2.0/24"), written(tmp_path / "b.netset", "192.0.2.7")))
    assert (lists.find("192.0.2.7", 0), lists.find("192.0.2.8", 0), lists.find("", 0)) == ("a b", "a", "")


def test_a_line_that_is_no_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(GeoFileError, match="line 2: 'nonsense' is no network"):
        ThreatList(written(tmp_path / "a.txt", "192.0.2.0/24\nnonsense here"))
    with pytest.raises(GeoFileError, match="missing"):
        ThreatList(tmp_path / "missing.txt")


def test_a_replaced_list_is_taken_up_and_a_broken_one_is_not(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "192.0.2.0/24")
    other = written(tmp_path / "b.txt", "198.51.100.0/24")
    enricher = build_enricher(None, None, threat_lists=(path, other))

    def lists(ip: str) -> str:
        return enricher.enrich(ip, None, "").network.threat_list

    assert (lists("192.0.2.7"), lists("203.0.113.7")) == ("a", "")
    assert not enricher.reload()
    written(path, "203.0.113.0/24", age=1)
    assert enricher.reload()
    assert (lists("192.0.2.7"), lists("203.0.113.7")) == ("", "a")
    written(path, "nonsense", age=2)
    written(other, "192.0.2.0/24", age=2)
    with pytest.raises(GeoFileError):
        enricher.reload()
    assert (lists("203.0.113.7"), lists("192.0.2.7")) == ("a", "b")
