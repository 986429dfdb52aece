"""`sign-in-surge`: many more users than usual sign in from one network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger

if TYPE_CHECKING:
    from worker.sessions.announcements import SurgeView

DAY_HOURS = 24


class SignInSurge(Parameters):
    """Parameters of `sign-in-surge`."""

    users: Annotated[int, Field(ge=2)] = 30
    """Least number of users within one hour."""
    factor: Annotated[float, Field(gt=1)] = 4.0
    """Least multiple of the users in the busiest hour of the week before."""
    days: Annotated[int, Field(ge=1, le=7)] = 3
    """Least number of days with sign-ins in that week; with fewer, the usual number is unknown."""


def detect(view: SurgeView, parameters: SignInSurge) -> Signal | None:
    """Compare the hour with the busiest hour of the week before."""
    known = {hour // DAY_HOURS for hour in view.before} - {view.hour // DAY_HOURS}
    if view.users < parameters.users or len(known) < parameters.days:
        return None
    usual = max(view.before.values())
    if view.users < parameters.factor * usual:
        return None
    return Signal(
        subject=view.network,
        summary=f"about {view.users:.0f} users signed in from {view.network} within an hour, usual are {usual:.0f}",
        observed={"users": round(view.users), "network": view.network},
        expected={"users_below": round(parameters.factor * usual), "busiest_hour_of_the_week": round(usual)},
    )


DETECTION = Detection(
    id="sign-in-surge",
    title="Many more sign-ins from a network than usual",
    description=(
        "Within one hour, at least four times as many users of a tenant sign in from one /24 or /64 as in its busiest "
        "hour of the week before. Bought or sprayed credentials look like this if they are tried through a network "
        "that some users are known on. Counts of 16 users an hour and above are estimates."
    ),
    severity=Severity.LOW,
    score=21,
    scope=Scope.USER,
    attacks=(Attack("T1110.003", "Brute Force: Password Spraying"), Attack("T1078", "Valid Accounts")),
    false_positives=(
        "Everybody signs in again after an outage, a password reset or the end of all sessions.",
        "An event at a site, or a branch office whose traffic begins to leave through this network.",
    ),
    runbook=(
        "Look for `network-many-users` and `shared-agent` of the same tenant within the same 2 hours.",
        "Ask whether all sessions were ended in the hour before, by an outage or on purpose.",
        "Otherwise list that hour's users to whom the network was new, and revoke the sessions that are not theirs.",
    ),
    sources=(
        "MITRE ATT&CK T1110.003: password spraying shows as many accounts from one source.",
        "Elastic detection rules: spike in successful logon events, by machine learning against the usual.",
    ),
    triggers=Trigger.RATE,
    parameters=SignInSurge(),
    detect=detect,
)
