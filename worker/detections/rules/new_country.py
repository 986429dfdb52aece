"""`new-country`: a session begins in a country the user was never seen in."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import place_name
from worker.detections.familiarity import is_known_device, is_traveller
from worker.detections.novelty import Learning, is_learned, is_new_country, is_own_sign_in


class NewCountry(Learning):
    """Parameters of `new-country`."""


def detect(view: View, parameters: NewCountry) -> Signal | None:
    """Compare the country with the known countries of the user."""
    if not is_new_country(view) or not is_learned(view, parameters):
        return None
    return Signal(
        severity=Severity.LOW if is_own_sign_in(view) or _is_next_of_many(view) else Severity.MEDIUM,
        subject=view.context.place.country,
        summary=f"first session from {place_name(view.context.place)}",
        observed={"country": view.context.place.country},
        expected={"countries": sorted(view.user.baseline.countries)},
        once=view.context.place.country,
    )


def _is_next_of_many(view: View) -> bool:
    """Return whether a user who is known to travel signs in with a known device."""
    return is_traveller(view) and is_known_device(view, view.context.device)


DETECTION = Detection(
    id="new-country",
    title="Sign-in from a new country",
    description=(
        "After a learning period of ten sessions or two weeks, a user starts a session in a country that is new to the "
        "user. It is raised once for each country. With a known device the severity is low if the sign-in used two "
        "factors, or if the user is known to travel. Anonymisers and unknown places are ignored, because they do not "
        "show where the user is."
    ),
    severity=Severity.MEDIUM,
    score=47,
    scope=Scope.USER,
    attacks=(Attack("T1078", "Valid Accounts"),),
    false_positives=(
        "The first day of a journey, or of a move abroad.",
        "Geo data that has just been corrected.",
    ),
    runbook=(
        "Look for a new network and a new device in the same session; a new country alone is most often a journey.",
        "Ask the user, or look for travel in the calendar of the last 24 hours.",
        "If the user is not there, revoke the session and reset the credentials it was created with.",
    ),
    sources=(
        "Microsoft Entra ID Protection: unfamiliar sign-in properties, learned for 5 to 14 days.",
        "Auth0 adaptive MFA and Elastic: first time seen country for a user.",
    ),
    triggers=Trigger.START,
    parameters=NewCountry(),
    detect=detect,
    casts_doubt=False,
    needs=("place",),
)
