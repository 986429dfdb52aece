"""What users of one tenant do alike: a change of settings, not as many single deeds.

The state of one deed (tenant, detection, subject) is a set of users by the hour, from which follows which hours are
tenant-wide; every finding in those hours, and after them, is suppressed. Nothing here depends on the order of arrival:
of the users of an hour those with the smallest hashes are kept, so that the same stay whoever came first, and as more
are kept than are needed to decide, what is not kept has no say.
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
"""The suppressor of what many users of the tenant did alike."""
HOURLY = 16
"""Users remembered an hour, and so the most that can be asked for."""
MEMBERS = 64
"""Findings kept so that they can be suppressed or raised again: the newest."""
REMEMBERED = 14 * DAY
"""How far events of one tenant may lie apart when a backlog is read from several partitions at once."""


class WideParameters(Protocol):
    """The parameters of `tenant-wide-change` that the state needs."""

    users: int
    hours: int


class Shared(msgspec.Struct, array_like=True):
    """What is kept of one deed.

    Attributes:
        hours: number of the hour since the epoch -> name of a user (a hash) -> time of the first finding in it.
        members: uid -> the newest announcement of a finding that may have to be written again.
        adopted: number of the first hour that was tenant-wide and is no longer kept; 0 for none.
    """

    hours: dict[int, dict[int, int]] = msgspec.field(default_factory=dict)
    members: dict[str, Deed] = msgspec.field(default_factory=dict)
    adopted: int = 0


class Restated(NamedTuple):
    """A finding to be written: the announcement it came with, what happened to it and its state."""

    deed: Deed
    activity: Activity
    finding: OpenFinding


class Decision(NamedTuple):
    """Hours that are tenant-wide, and the first hour from which on a deed is what the tenant does."""

    hours: frozenset[int]
    since: int

    def covers(self, deed: Deed) -> bool:
        """Return whether a finding is part of what the tenant did."""
        return deed.finding.joins and 0 < self.since <= deed.finding.first // HOUR


@lru_cache(maxsize=1 << 14)
def name_of(user_id: str) -> int:
    """Return a short name of a user, evenly distributed."""
    return int.from_bytes(blake2b(user_id.encode(), digest_size=7).digest(), "big")


def apply_deed(state: Shared, deed: Deed, newest: int, engine: RuleEngine) -> list[Restated]:
    """Take in a change to a finding; return the findings to be written.

    Args:
        state: of the deed.
        deed: the change.
        newest: latest event time announced, milliseconds.
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
    """Return which hours are tenant-wide: those of every window in which enough users did the same."""
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
    """Return what a detection is shown of every day with tenant-wide hours, by number of the day."""
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
    """Count the user in the hour of the finding, or no more when no finding of theirs in that hour stands."""
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
    """Keep a finding that may yet be suppressed or raised again: not one in hours that are far beyond the limit."""
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
    """Let go of hours that no announcement can come close to; remember since when the tenant does it."""
    horizon = (newest - REMEMBERED) // HOUR
    if not any(hour < horizon for hour in state.hours):
        return
    state.adopted = decide(state, parameters).since
    state.hours = {hour: users for hour, users in state.hours.items() if hour >= horizon}
    state.members = {uid: each for uid, each in state.members.items() if each.finding.first // HOUR >= horizon}
