"""Personas: how kinds of people, and machines, use an account."""

from __future__ import annotations

from typing import Final, NamedTuple

MONTH: Final = 43_200
"""Minutes of thirty days: the lifetime of a session that is to last."""


class Persona(NamedTuple):
    """A kind of user.

    Attributes:
        name: as reports show it.
        share: of the people; each persona has at least two.
        tenant: kind of tenant the user belongs to.
        clients: kinds of client, in the order of preference.
        workday, weekend: chance to be active on such a day.
        hours: local time of the first use, from and to; past 24 it is the next morning.
        visits, uses: how many visits on an active day, and uses in each.
        gap: mean minutes between two uses of a visit.
        lifetime: minutes of sliding expiry.
        signs_out: chance that a visit ends with signing out.
        habits: what every such user does; see `habits`.
    """

    name: str
    share: float
    tenant: str
    clients: tuple[str, ...]
    workday: float
    weekend: float
    hours: tuple[float, float]
    visits: tuple[int, int]
    uses: tuple[int, int]
    gap: float
    lifetime: int
    signs_out: float = 0.0
    habits: tuple[str, ...] = ()


_OFFICE: Final = ("laptop", "phone")
PERSONAS: Final[tuple[Persona, ...]] = (
    Persona("office-signs-out", 0.10, "office", ("laptop",), 0.92, 0.04, (7.5, 9.5), (1, 2), (3, 5), 75, 600, 0.9),
    Persona("office-stays", 0.10, "office", _OFFICE, 0.92, 0.10, (7.5, 10), (1, 3), (2, 4), 80, 7 * 1_440),
    Persona("consumer", 0.14, "shop", ("phone", "laptop"), 0.55, 0.75, (8, 20), (1, 2), (1, 3), 9, MONTH),
    Persona("bank-customer", 0.11, "bank", ("phone", "laptop"), 0.40, 0.35, (7, 20), (1, 1), (1, 4), 3, 15, 0.6,
            ("method-by-client",)),
    Persona("weekly-visitor", 0.16, "shop", ("phone", "laptop"), 0.14, 0.18, (9, 21), (1, 1), (1, 3), 6, 1_440),
    Persona("monthly-visitor", 0.14, "shop", ("phone", "laptop"), 0.04, 0.03, (9, 21), (1, 1), (1, 3), 5, 60),
    Persona("student", 0.05, "university", ("laptop", "phone"), 0.8, 0.6, (9, 13), (1, 3), (1, 3), 50, 3 * 1_440,
            0.05, ("weekends-with-parents",)),
    Persona("kiosk", 0.04, "office", ("laptop",), 1.0, 0.6, (8, 9), (4, 8), (1, 2), 4, 1_440, 0.0, ("incognito",)),
    Persona("family", 0.03, "shop", ("phone", "tablet", "phone", "laptop"), 0.95, 1.0, (8, 19), (2, 5), (1, 3), 20,
            MONTH),
    Persona("address-as-initiated", 0.03, "university", ("laptop", "phone"), 0.8, 0.4, (8, 11), (1, 3), (1, 3), 60,
            2 * 1_440, 0.0, ("keeps-first-address",)),
    Persona("night-shift", 0.025, "office", ("laptop",), 0.75, 0.5, (21, 22), (1, 2), (2, 4), 90, 720, 0.5),
    Persona("service", 0.025, "machines", ("server",), 1.0, 1.0, (0, 1), (3, 5), (1, 2), 120, 1_440),
    Persona("developer", 0.025, "developers", ("laptop", "terminal"), 0.9, 0.3, (9, 11), (1, 3), (1, 3), 60, 720),
    Persona("server-side-refresh", 0.015, "shop", ("laptop", "phone"), 0.6, 0.5, (8, 20), (1, 1), (2, 4), 40, 1_440,
            0.1, ("refreshed-by-server",)),
    Persona("portal", 0.01, "office", ("laptop",), 0.95, 0.05, (7.5, 9), (1, 2), (1, 2), 60, 480, 0.3,
            ("many-applications",)),
)  # fmt: skip
CALL_CENTRE: Final = Persona(
    "call-centre", 0.0, "office", ("laptop",), 0.9, 0.0, (8, 8.4), (1, 1), (2, 3), 120, 600, 0.9
)
"""Agents of a site that opens during the simulation: they begin within minutes of each other behind one address."""
TENANTS: Final = ("office", "shop", "bank", "university", "machines", "developers")
