"""The simulated world's cities, and distances between them.

Coordinates and names are those of GeoNames (CC BY 4.0), rounded to four decimals, so that a `location` such as
"Munich, DE" resolves, through any gazetteer, to the place the simulator means.
"""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt
from typing import Final, NamedTuple

EARTH_RADIUS_KM: Final = 6371.0


class City(NamedTuple):
    """A city: degrees, and the offset of its standard time from UTC in minutes."""

    name: str
    country: str
    latitude: float
    longitude: float
    utc_offset: int


COUNTRIES: Final[dict[str, str]] = {
    "AE": "United Arab Emirates",
    "AR": "Argentina",
    "AT": "Austria",
    "AU": "Australia",
    "BE": "Belgium",
    "BR": "Brazil",
    "CA": "Canada",
    "CH": "Switzerland",
    "CO": "Colombia",
    "CZ": "Czechia",
    "DE": "Germany",
    "DK": "Denmark",
    "ES": "Spain",
    "FR": "France",
    "GB": "United Kingdom",
    "IN": "India",
    "IR": "Iran",
    "IT": "Italy",
    "JP": "Japan",
    "KE": "Kenya",
    "KP": "North Korea",
    "KR": "South Korea",
    "MX": "Mexico",
    "NG": "Nigeria",
    "NL": "Netherlands",
    "PL": "Poland",
    "SE": "Sweden",
    "SG": "Singapore",
    "SK": "Slovakia",
    "TR": "Turkey",
    "US": "United States",
    "ZA": "South Africa",
}
"""Country code -> English name."""

CITIES: Final[tuple[City, ...]] = (
    City("Berlin", "DE", 52.5244, 13.4105, 60),
    City("Munich", "DE", 48.1374, 11.5755, 60),
    City("Hamburg", "DE", 53.5507, 9.993, 60),
    City("Paris", "FR", 48.8534, 2.3488, 60),
    City("Lyon", "FR", 45.7491, 4.8479, 60),
    City("London", "GB", 51.5085, -0.1257, 0),
    City("Manchester", "GB", 53.481, -2.2374, 0),
    City("Madrid", "ES", 40.4165, -3.7026, 60),
    City("Barcelona", "ES", 41.3888, 2.159, 60),
    City("Rome", "IT", 41.8919, 12.5113, 60),
    City("Milan", "IT", 45.4643, 9.1895, 60),
    City("Amsterdam", "NL", 52.374, 4.8897, 60),
    City("Brussels", "BE", 50.8505, 4.3488, 60),
    City("Vienna", "AT", 48.2085, 16.3721, 60),
    City("Bratislava", "SK", 48.1482, 17.1067, 60),
    City("Prague", "CZ", 50.088, 14.4208, 60),
    City("Zürich", "CH", 47.3667, 8.55, 60),
    City("Warsaw", "PL", 52.2298, 21.0118, 60),
    City("Kraków", "PL", 50.0614, 19.9366, 60),
    City("Copenhagen", "DK", 55.6759, 12.5655, 60),
    City("Stockholm", "SE", 59.3294, 18.0687, 60),
    City("Gothenburg", "SE", 57.7072, 11.9668, 60),
    City("Istanbul", "TR", 41.0138, 28.9497, 180),
    City("Ankara", "TR", 39.9199, 32.8543, 180),
    City("New York City", "US", 40.7143, -74.006, -300),
    City("Chicago", "US", 41.85, -87.6501, -360),
    City("Seattle", "US", 47.6062, -122.3321, -480),
    City("Los Angeles", "US", 34.0522, -118.2437, -480),
    City("Dallas", "US", 32.7831, -96.8067, -360),
    City("Toronto", "CA", 43.7064, -79.3986, -300),
    City("Vancouver", "CA", 49.2497, -123.1193, -480),
    City("Mexico City", "MX", 19.4285, -99.1277, -360),
    City("Monterrey", "MX", 25.6844, -100.3172, -360),
    City("Bogotá", "CO", 4.6097, -74.0818, -300),
    City("São Paulo", "BR", -23.5475, -46.6361, -180),
    City("Rio de Janeiro", "BR", -22.9064, -43.1822, -180),
    City("Buenos Aires", "AR", -34.6132, -58.3772, -180),
    City("Tokyo", "JP", 35.6895, 139.6917, 540),
    City("Osaka", "JP", 34.6938, 135.5011, 540),
    City("Seoul", "KR", 37.566, 126.9784, 540),
    City("Busan", "KR", 35.1017, 129.03, 540),
    City("Singapore", "SG", 1.2897, 103.8501, 480),
    City("Mumbai", "IN", 19.0728, 72.8826, 330),
    City("Bengaluru", "IN", 12.9719, 77.5937, 330),
    City("Sydney", "AU", -33.8679, 151.2073, 600),
    City("Melbourne", "AU", -37.814, 144.9633, 600),
    City("Johannesburg", "ZA", -26.2023, 28.0436, 120),
    City("Cape Town", "ZA", -33.9258, 18.4232, 120),
    City("Nairobi", "KE", -1.2833, 36.8167, 180),
    City("Lagos", "NG", 6.4541, 3.3947, 60),
    City("Dubai", "AE", 25.0773, 55.3093, 240),
    City("Tehran", "IR", 35.6944, 51.4215, 210),
    City("Pyongyang", "KP", 39.0339, 125.7543, 540),
)

EMBARGOED: Final = ("IR", "KP")
"""Countries no simulated tenant works from, and the strict ones deny."""


def distance_km(a: City, b: City) -> float:
    """Great-circle distance in kilometres (haversine)."""
    return great_circle_km(a.latitude, a.longitude, b.latitude, b.longitude)


def great_circle_km(lat_a: float, lon_a: float, lat_b: float, lon_b: float) -> float:
    """Great-circle distance in kilometres between two points in degrees (haversine)."""
    phi_a, phi_b = radians(lat_a), radians(lat_b)
    d_phi, d_lambda = phi_b - phi_a, radians(lon_b - lon_a)
    h = sin(d_phi / 2) ** 2 + cos(phi_a) * cos(phi_b) * sin(d_lambda / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(h)))
