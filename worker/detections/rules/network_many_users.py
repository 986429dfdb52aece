"""`network-many-users`: many users appear at once on a network that is new to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger
from worker.sessions.limits import MINUTE

if TYPE_CHECKING:
    from worker.sessions.announcements import CrowdView


class NetworkManyUsers(Parameters):
    """Parameters of `network-many-users`."""

    users: int = 5
    """Least number of users past their learning period to whom the network is new; they must be the majority."""
    minutes: Annotated[float, Field(gt=0, le=60)] = 15.0
    """Window of their arrivals."""
    regulars: int = 5
    """Number of regular users from which a network is shared egress, unless more new users than that arrive at once."""


def detect(view: CrowdView, parameters: NetworkManyUsers) -> Signal | None:
    """Look for a window that begins in this hour and in which enough users arrive for the first time."""
    crowd = _crowd(view, parameters)
    if not crowd or (regulars := view.regulars()) >= max(parameters.regulars, len(crowd)):
        return None
    return Signal(
        subject=view.network,
        summary=f"{len(crowd)} users appeared on {view.network} within {parameters.minutes:g} min, none known there",
        observed={"users": crowd[:20], "count": len(crowd), "network": view.network},
        expected={"new_users_below": parameters.users, "regulars": regulars},
    )


def _crowd(view: CrowdView, parameters: NetworkManyUsers) -> list[str]:
    """Return the new users of the first window with enough of them; an empty list when there is none."""
    for start, end, new in view.windows(int(parameters.minutes * MINUTE)):
        if len(new) >= parameters.users and len(new) > _others(view, new, start, end):
            return sorted(new)
    return []


def _others(view: CrowdView, new: set[str], since: int, until: int) -> int:
    """Count the users in a window who are not new to the network."""
    bits = 0
    for cell in range(since // view.cell, -(-until // view.cell)):
        bits |= view.known.get(cell, 0)
    for user in new:
        bits &= ~view.bit_of(user)
    return bits.bit_count()


DETECTION = Detection(
    id="network-many-users",
    title="Many users on a network new to them",
    description=(
        "Within a quarter of an hour, five or more users of a tenant start sessions from one /24 or /64 that is new to "
        "all of them, and they are the majority of the users there. Successful password spraying or credential "
        "stuffing looks like this. Networks with regular users are learned as shared egress and cause no finding."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.USER,
    attacks=(
        Attack("T1110.003", "Brute Force: Password Spraying"),
        Attack("T1110.004", "Brute Force: Credential Stuffing"),
    ),
    false_positives=(
        "The first morning in a new office, or a conference network.",
        "A new corporate proxy or VPN exit; add it to `allowed_networks` in the tenant's policy.",
    ),
    runbook=(
        "Look up the network; if it is an office or proxy of the tenant, add it to the tenant's policy.",
        "Compare devices and methods of the sessions; a single client for all of them is a tool.",
        "Revoke the sessions of the last hour from this network and reset the credentials of the users named.",
    ),
    sources=(
        "Microsoft Entra ID Protection: password spray; Auth0: suspicious IP throttling.",
        "Splunk: multiple users from one source within minutes.",
    ),
    triggers=Trigger.ARRIVAL,
    parameters=NetworkManyUsers(),
    detect=detect,
)
