"""`new-country`: a session begins in a country the user was never seen in."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import place_name
from worker.detections.familiarity import is_known_device, is_traveller
from worker.detections.novelty import Learning, is_learned, is_new_country, is_own_sign_in


class NewCountry(Learning):
    """Parameters of `new-country`."""


def detect(view: View, parameters: NewCountry) -> Signal | None:
    """Hold the country against those the user is known by."""
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
    """Return whether somebody who is known to travel signs in with a device of before."""
    return is_traveller(view) and is_known_device(view, view.context.device)


DETECTION = Detection(
    id="new-country",
    title="Sign-in from a new country",
    description=(
        "A user starts a session from a country none of the user's sessions came from before, after ten sessions or "
        "two weeks of learning. It is raised once for a country. With a device of before it is low when the sign-in "
        "shows two factors, or the user is known to travel. Anonymised and unknown places say nothing of where the "
        "user is and do not count."
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
        "Look for new network and new device in the same session: alone, a new country is most often a journey.",
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
