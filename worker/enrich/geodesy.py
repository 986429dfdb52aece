"""Distances on the globe."""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.enrich.model import Place

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth, IUGG (Moritz, Geodetic Reference System 1980)."""


def great_circle_km(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Return the great-circle distance of two points given in degrees, by the haversine formula.

    >>> round(great_circle_km(48.8566, 2.3522, 51.5074, -0.1278))
    344
    """
    here, there = radians(latitude), radians(other_latitude)
    half_chord = (
        sin((there - here) / 2) ** 2 + cos(here) * cos(there) * sin(radians(other_longitude - longitude) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(half_chord)))


def distance_km(here: Place, there: Place) -> float | None:
    """Return the distance of two places, None when the coordinates of either are unknown."""
    if here.latitude is None or here.longitude is None or there.latitude is None or there.longitude is None:
        return None
    return great_circle_km(here.latitude, here.longitude, there.latitude, there.longitude)
