"""Changes that many users of one tenant make at the same time: one change of the tenant, not many of single users.

The state of one deed (tenant, detection, subject) is the set of users of each hour. It determines which hours are
tenant-wide. All findings of the deed in these hours and after them are suppressed. The result does not depend on the
order of arrival: of each hour the users with the smallest hashes are kept, whoever arrived first. The state keeps at
least as many users as a decision needs, so the users that are not kept do not affect it.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import msgspec

from schemas.finding import Activity
from worker.sessions.announcements import Deed, DeedView
from worker.sessions.limits import DAY, HOUR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.sessions.contracts import RuleEngine
    from worker.sessions.state import OpenFinding

RULE = "tenant-wide-change"
TENANT_WIDE = "tenant-wide"
"""Suppressor of a finding that many users of the tenant share."""
HOURLY = 16
"""Maximum number of users kept per hour, and so the largest useful value of `WideParameters.users`."""
MEMBERS = 64
"""Maximum number of findings kept, to be suppressed or raised again: the newest ones."""
REMEMBERED = 14 * DAY
"""How far the event times of one tenant's announcements may differ, in milliseconds: a worker that reads a backlog
from several partitions is not at the same time in all of them."""


class WideParameters(Protocol):
    """The parameters of `tenant-wide-change` that the state needs."""

    users: int
    hours: int


class Shared(msgspec.Struct, array_like=True):
    """State of one deed.

    Attributes:
        hours: number of the hour since the epoch -> hash of a user -> time of the user's first finding in that hour.
        members: finding uid -> its newest announcement, for findings that may have to be written again.
        adopted: number of the first tenant-wide hour that was known when hours were last dropped; 0 for none.
    """

    hours: dict[int, dict[int, int]] = msgspec.field(default_factory=dict)
    members: dict[str, Deed] = msgspec.field(default_factory=dict)
    adopted: int = 0


class Restated(NamedTuple):
    """A finding to write: its announcement, the activity (created, updated or closed) and its new state."""

    deed: Deed
    activity: Activity
    finding: OpenFinding


class Decision(NamedTuple):
    """The tenant-wide hours, and the first of them: from then on the deed counts as the tenant's. 0 for none."""

    hours: frozenset[int]
    since: int

    def covers(self, deed: Deed) -> bool:
        """Return whether a finding belongs to the tenant-wide change."""
        return deed.finding.joins and 0 < self.since <= deed.finding.first // HOUR


@lru_cache(maxsize=1 << 14)
def name_of(user_id: str) -> int:
    """Return a 56-bit hash of a user id."""
    return int.from_bytes(blake2b(user_id.encode(), digest_size=7).digest(), "big")


def apply_deed(state: Shared, deed: Deed, newest: int, engine: RuleEngine) -> list[Restated]:
    """Apply a change of a finding; return the findings to write.

    Args:
        state: state of the deed.
        deed: the change.
        newest: latest event time announced so far, milliseconds.
        engine: rule engine of the tenant.
    """
    parameters = cast("WideParameters | None", engine.parameters_of(RULE))
    _forget(state, newest, parameters)
    before = decide(state, parameters)
    _count(state, deed)
    state.members.pop(deed.uid, None)
    after = decide(state, parameters)
    restated = [_restated(deed, Activity(deed.activity), after)]
    changed = (each for each in state.members.values() if before.covers(each) != after.covers(each))
    restated += [_restated(each, Activity.UPDATE, after) for each in changed]
    _keep(state, deed, parameters)
    return restated


def decide(state: Shared, parameters: WideParameters | None) -> Decision:
    """Return the tenant-wide hours: all hours of each window in which enough users did the same."""
    if parameters is None:
        return Decision(frozenset(), 0)
    hours, wide = sorted(state.hours), set[int]()
    for position, first in enumerate(hours):
        window = [hour for hour in hours[position : position + parameters.hours] if hour < first + parameters.hours]
        if len({name for hour in window for name in state.hours[hour]}) >= parameters.users:
            wide.update(window)
    known = [hour for hour in (state.adopted, min(wide, default=0)) if hour]
    return Decision(frozenset(wide), min(known, default=0))


def tenant_views(state: Shared, deed: Deed, engine: RuleEngine) -> Mapping[int, DeedView]:
    """Return the views for detections, one for each day with tenant-wide hours, by number of the day."""
    days: dict[int, dict[int, list[int]]] = {}
    for hour in sorted(decide(state, cast("WideParameters | None", engine.parameters_of(RULE))).hours):
        days.setdefault(hour * HOUR // DAY, {})[hour] = sorted(state.hours[hour])
    return {
        day: DeedView(
            deed.tenant_id, deed.finding.detection, deed.finding.subject, deed.finding.summary, hours, engine.policy
        )
        for day, hours in days.items()
    }


def _count(state: Shared, deed: Deed) -> None:
    """Add the user to the hour of the finding; remove the user when none of their findings in that hour remains."""
    hour, name = deed.finding.first // HOUR, name_of(deed.user_id)
    users = state.hours.pop(hour, {})
    others = (each for uid, each in state.members.items() if uid != deed.uid and each.user_id == deed.user_id)
    if deed.finding.joins and deed.activity != Activity.CLOSE:
        users[name] = min(users.get(name, deed.finding.first), deed.finding.first)
    elif not any(each.finding.first // HOUR == hour for each in others):
        users.pop(name, None)
    if users:
        state.hours[hour] = {each: users[each] for each in sorted(users)[:HOURLY]}


def _keep(state: Shared, deed: Deed, parameters: WideParameters | None) -> None:
    """Keep a finding that may have to be suppressed or raised again. In an hour with `HOURLY` users this is decided."""
    if deed.activity == Activity.CLOSE or not deed.finding.joins or parameters is None:
        return
    if len(state.hours.get(deed.finding.first // HOUR, ())) >= HOURLY:
        return
    state.members[deed.uid] = deed
    if len(state.members) > MEMBERS:
        del state.members[min(state.members, key=lambda uid: (state.members[uid].finding.first, uid))]


def _restated(deed: Deed, activity: Activity, decision: Decision) -> Restated:
    finding = deed.finding
    if decision.covers(deed):
        finding = msgspec.structs.replace(finding, suppressed_by=(*finding.suppressed_by, TENANT_WIDE))
    return Restated(deed, activity, finding)


def _forget(state: Shared, newest: int, parameters: WideParameters | None) -> None:
    """Drop the hours that no further announcement can affect; keep the first tenant-wide hour in `adopted`."""
    horizon = (newest - REMEMBERED) // HOUR
    if not any(hour < horizon for hour in state.hours):
        return
    state.adopted = decide(state, parameters).since
    state.hours = {hour: users for hour, users in state.hours.items() if hour >= horizon}
    state.members = {uid: each for uid, each in state.members.items() if each.finding.first // HOUR >= horizon}
