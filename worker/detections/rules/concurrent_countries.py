"""`concurrent-countries`: a user's sessions are used in two countries at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import is_abroad, is_own_country
from worker.detections.evidence import duration_name, place_name
from worker.detections.familiarity import is_usual_spot, pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.sessions.state import Context, Session

MINUTE_MS = 60_000


class ConcurrentCountries(Parameters):
    """Parameters of `concurrent-countries`."""

    minutes: float = 30.0
    """Two last uses count as concurrent if they are at most this many minutes apart."""
    area_km: float = 100.0
    """Two places closer than this are one area, even across a border."""


def detect(view: View, parameters: ConcurrentCountries) -> Signal | None:
    """Compare the event's country with the countries of other sessions that were just used."""
    here = view.context
    if not view.activity or not is_own_country(view, here):
        return None
    for session, there in _others(view, parameters):
        if is_abroad(view, there, here, parameters.area_km):
            return _signal(view, session, there)
    return None


def _others(view: View, parameters: ConcurrentCountries) -> Iterator[tuple[Session, Context]]:
    """Yield the other sessions that were used shortly before or after, including those that have ended since."""
    for uid, session in view.user.sessions.items():
        gap = abs(view.activity - session.activity)
        if uid == view.context.uid or not session.activity or gap > parameters.minutes * MINUTE_MS:
            continue
        yield session, view.contexts[session.context]


def _signal(view: View, session: Session, there: Context) -> Signal:
    here, gap = view.context, abs(view.activity - session.activity)
    usual = is_usual_spot(view, here) and is_usual_spot(view, there)
    return Signal(
        severity=Severity.LOW if usual else Severity.HIGH,
        once=pair(here.place.country, there.place.country),
        subject="-".join(sorted((here.place.country, there.place.country))),
        summary=(
            f"sessions used in {place_name(here.place)} and in {place_name(there.place)} within {duration_name(gap)}"
        ),
        observed={"countries": sorted((here.place.country, there.place.country)), "gap_ms": gap},
        expected={"countries": 1, "other_session": there.uid},
        before=there,
    )


DETECTION = Detection(
    id="concurrent-countries",
    title="Sessions in two countries at once",
    description=(
        "Two sessions of one user were last used within half an hour of each other from two countries. Unlike "
        "`impossible-travel`, this depends on no speed, only on two concurrent users. Anonymisers, unknown places and "
        "places close to each other across a border are ignored. A pair of countries is raised once while it recurs, "
        "and is low if the user is known in both places."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.USER,
    attacks=(
        Attack("T1078", "Valid Accounts"),
        Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),
    ),
    false_positives=(
        "An account shared by people in two countries.",
        "A remote desktop or corporate proxy abroad that no list knows.",
    ),
    runbook=(
        "Compare the two sessions in the evidence; if their devices differ, too, two people are likely.",
        "Ask the user which of the two places is theirs; look at the sessions started in the last 24 hours.",
        "Revoke the other session and reset the credentials it was created with.",
    ),
    sources=(
        "Okta Identity Threat Protection and Elastic: successful sign-ins from several countries at a time.",
        "Splunk: concurrent sessions from different locations.",
    ),
    triggers=Trigger.START | Trigger.PLACE | Trigger.TRAVEL,
    parameters=ConcurrentCountries(),
    detect=detect,
    covers=("new-country", "ip-change", "location-change"),
    needs=("place",),
)
