"""Cities are compiled once and then read from a file; a file that is damaged or cannot be written does no harm."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from worker.enrich.gazetteer import Cities, Gazetteer, cache_file, compiled_cities

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ("Paris, FR", "Springfield, IL, US", "48.2,16.37", "Central, Hong Kong SAR, China", "Łódź", "nowhere at all")


@pytest.fixture(scope="module")
def cities(tmp_path_factory: pytest.TempPathFactory) -> Cities:
    return compiled_cities(tmp_path_factory.mktemp("cache") / "cities.bin")


def test_what_is_read_is_what_was_compiled(cities: Cities) -> None:
    read = Cities.unpack(cities.pack())
    first, second = Gazetteer(lambda: cities), Gazetteer(lambda: read)
    assert len(read) == len(cities) > 30_000
    assert [first.resolve(text) for text in TEXTS] == [second.resolve(text) for text in TEXTS]
    assert second.resolve("Paris, FR").city == "Paris"


def test_the_second_start_reads_the_file(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "cities.bin"
    compiled_cities(file)
    begun = time.process_time()
    assert len(compiled_cities(file)) > 30_000
    assert time.process_time() - begun < 1
    assert [path.name for path in file.parent.iterdir()] == ["cities.bin"]


@pytest.mark.parametrize("damage", ["", "cut", "flipped", "other"])
def test_a_damaged_file_is_replaced(cities: Cities, damage: str, tmp_path: Path) -> None:
    file = tmp_path / "cities.bin"
    compiled_cities(file)
    whole = file.read_bytes()
    broken = {"": b"", "cut": whole[: len(whole) // 2], "flipped": whole[:-1] + b"\x00\x01", "other": b"x" * 500}
    file.write_bytes(broken[damage])
    assert len(compiled_cities(file)) == len(cities)
    assert file.read_bytes() == whole


def test_without_a_place_to_keep_it_the_cities_are_there(
    cities: Cities, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(compiled_cities(cache_file())) == len(cities)
