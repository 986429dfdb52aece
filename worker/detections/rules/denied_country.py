"""`denied-country`: a session comes from a country that the tenant's policy denies."""

from __future__ import annotations

from worker.detections.api import Detection, Scope, Severity, Signal, Trigger, View
from worker.detections.denial import ATTACKS, RUNBOOK, SOURCES, NoParameters, denied
from worker.detections.evidence import place_name


def detect(view: View, _parameters: NoParameters) -> Signal | None:
    """Compare the event with the tenant's lists."""
    place = view.context.place
    if not view.policy.denies_country(place.country):
        return None
    return denied(place.country, place_name(place), {"country": place.country}, view)


DETECTION = Detection(
    id="denied-country",
    title="Session from a denied country",
    description=(
        "An event of a session comes from a country that the tenant's own policy denies, or from outside those it "
        "allows, at its start or later. An unknown country is not denied; that of an anonymiser is its exit's, and "
        "denied like any."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=ATTACKS,
    false_positives=("A traveller, or an address whose geo data is wrong.",),
    runbook=RUNBOOK,
    sources=SOURCES,
    triggers=Trigger.START | Trigger.PLACE,
    parameters=NoParameters(),
    detect=detect,
    casts_doubt=False,
    needs=("place",),
    invariant=True,
)
