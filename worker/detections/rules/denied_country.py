"""`denied-country`: a session comes from a country that the tenant's policy denies."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import place_name


class DeniedCountry(Parameters):
    """`denied-country` has no parameters; what is denied is in the tenant's policy."""


def detect(view: View, _parameters: DeniedCountry) -> Signal | None:
    """Hold the event against the tenant's lists."""
    place = view.context.place
    if not view.policy.denies_country(place.country):
        return None
    return Signal(
        subject=place.country,
        summary=f"session comes from {place_name(place)}, which the tenant denies",
        observed={"country": place.country},
        expected={"denied": "by the tenant's policy"},
        before=view.before,
    )


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
    attacks=(Attack("T1078", "Valid Accounts"), Attack("T1090", "Proxy")),
    false_positives=("A traveller, or an address whose geo data is wrong.",),
    runbook=(
        "Check who uses the session: the tenant's policy says nobody should from there.",
        "Look at the user's other sessions of the last 24 hours, and at others from the same place.",
        "Revoke the session; if it was legitimate, correct the tenant's lists.",
    ),
    sources=(
        "Okta network zones and Microsoft Entra conditional access: blocked locations.",
        "Panther: sign-in from a forbidden place.",
    ),
    triggers=Trigger.START | Trigger.PLACE,
    parameters=DeniedCountry(),
    detect=detect,
    needs=("place",),
    invariant=True,
)
