"""`denied-country`: a session comes from a country that the tenant's policy denies."""

from __future__ import annotations

from worker.detections.api import Detection, Scope, Severity, Signal, Trigger, View
from worker.detections.denial import ATTACKS, RUNBOOK, SOURCES, NoParameters, denied
from worker.detections.evidence import place_name


def detect(view: View, _parameters: NoParameters) -> Signal | None:
    """Compare the event's country with the tenant's lists."""
    place = view.context.place
    if not view.policy.denies_country(place.country):
        return None
    return denied(place.country, place_name(place), {"country": place.country}, view)


DETECTION = Detection(
    id="denied-country",
    title="Session from a denied country",
    description=(
        "A session starts in, or moves to, a country that the tenant's own policy denies, or that is not among those "
        "it allows. An unknown country is not denied. For an anonymiser, the country of its exit counts."
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
