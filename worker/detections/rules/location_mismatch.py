"""`location-mismatch`: the location stated by a session and its address are in different countries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import network_name, place_name

if TYPE_CHECKING:
    from worker.sessions.state import Context


class LocationMismatch(Parameters):
    """`location-mismatch` has no parameters."""


def detect(view: View, _parameters: LocationMismatch) -> Signal | None:
    """Flag a contradiction at the start of a session, or when it first appears."""
    place, before = view.context.place, view.before
    if not place.stated_country:
        return None
    if before is not None and _countries(before) == _countries(view.context):
        return None
    return Signal(
        subject=f"{place.country}-{place.stated_country}",
        summary=(
            f"the location states {place.stated_country}, and the address is in {place_name(place)}: "
            f"{network_name(view.context.network)}"
        ),
        observed={"stated_country": place.stated_country},
        expected={"country": place.country},
        before=before,
    )


def _countries(context: Context) -> tuple[str, str]:
    return context.place.stated_country, context.place.country


DETECTION = Detection(
    id="location-mismatch",
    title="Stated location contradicts the address",
    description=(
        "The location in a session's record and its address are in different countries. The location may come from the "
        "client, and an attacker can state the victim's own. Therefore every check uses the place of the address."
    ),
    severity=Severity.LOW,
    score=21,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1565.001", "Data Manipulation: Stored Data Manipulation"),
        Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),
    ),
    false_positives=(
        "A geo database that has a wrong place for a provider, or is older than the producer's.",
        "A corporate egress abroad, if the location comes from the device.",
    ),
    runbook=(
        "Find out where the producer gets the location from; a header or a value from the client can be forged.",
        "Compare the address with the user's networks; on a known network the geo data is probably wrong.",
        "If the session has other findings in the same hour, treat the stated location as forged.",
    ),
    sources=(
        "OWASP Application Threat Modeling: values from the client are not trusted.",
        "Security review of this project: a session stolen from Bucharest that stated New York.",
    ),
    triggers=Trigger.START | Trigger.PLACE,
    parameters=LocationMismatch(),
    detect=detect,
    needs=("place",),
)
