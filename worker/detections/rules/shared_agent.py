"""`shared-agent`: one rare client signs in for many users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger
from worker.sessions.limits import MINUTE

if TYPE_CHECKING:
    from worker.sessions.announcements import CrowdView


class SharedAgent(Parameters):
    """Parameters of `shared-agent`."""

    users: Annotated[int, Field(ge=2, le=100)] = 5
    """Least number of users past their learning period to whom both client and network are new."""
    minutes: Annotated[float, Field(gt=0, le=60)] = 60.0
    """Window of their sign-ins."""


def detect(view: CrowdView, parameters: SharedAgent) -> Signal | None:
    """Look for a window in which a client is new to more users than appeared with it before."""
    users = _users(view, parameters)
    if not users or len(users) <= (earlier := view.earlier()):
        return None
    return Signal(
        subject=view.network,
        summary=(
            f"{len(users)} users signed in with {view.network} within {parameters.minutes:g} min, from networks "
            "new to them, none with that client before"
        ),
        observed={"users": users[:20], "count": len(users), "client": view.network},
        expected={"users_below": parameters.users, "earlier_users": earlier},
    )


def _users(view: CrowdView, parameters: SharedAgent) -> list[str]:
    """Return the users of the first window in this hour with enough of them; an empty list when there is none."""
    for _start, _end, users in view.windows(int(parameters.minutes * MINUTE)):
        if len(users) >= parameters.users:
            return sorted(users)
    return []


DETECTION = Detection(
    id="shared-agent",
    title="One rare client over many users",
    description=(
        "Within an hour, five or more users of a tenant sign in with one browser and operating system, or one program, "
        "that is new to all of them, each from a network that is new to them, and fewer users began to use this client "
        "in the month before. A kit that replays phished or bought credentials keeps its own user agent while its "
        "addresses change. Clients that users often begin to use, such as common browsers, cause no finding."
    ),
    severity=Severity.MEDIUM,
    score=47,
    scope=Scope.USER,
    attacks=(Attack("T1110.004", "Brute Force: Credential Stuffing"), Attack("T1078", "Valid Accounts")),
    false_positives=(
        "A roll-out of the tenant's own application on a day on which many users are at an event or a new site.",
    ),
    runbook=(
        "List the sessions of the users in the evidence with this client in that hour, and their networks.",
        "If these are hosting networks, or far from their users, revoke the sessions and reset the credentials.",
        "Ask whether the tenant rolled out the client; if so, add it to `first_party_clients`.",
    ),
    sources=(
        "MITRE ATT&CK T1110.004: credential stuffing shows as one client over many accounts.",
        "Auth0 attack protection: signals shared by many accounts, such as a user agent, across addresses.",
    ),
    triggers=Trigger.CLIENT,
    parameters=SharedAgent(),
    detect=detect,
)
