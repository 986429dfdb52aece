"""What no single user's events can tell: who else claims a session's uid, and who else appears on a network.

Every start of a session is announced under its uid and under its tenant's network. What is kept under such a key is a
set, and what is found is a function of that set: neither the order of announcements nor a repeated one matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from schemas.finding import Activity, finding_uid
from schemas.policy import TenantPolicy
from worker.sessions.limits import DAY
from worker.sessions.state import Group, UnknownFormatError
from worker.sessions.user import Change, is_news

if TYPE_CHECKING:
    from worker.sessions.limits import Limits
    from worker.sessions.view import Verdict

FORMAT = 2
"""Version of the encoded state: its first byte. Users' states begin with another."""
OWNERS = 16
"""Most owners of one uid remembered: the earliest."""
ARRIVALS, REGULARS = 128, 32
"""Most arrivals on a network remembered, and most users known to come from there: the newest."""
REGULAR_AFTER, REGULAR_FOR = DAY, 30 * DAY
"""A user who came back to a network after a day or more is a regular of it, until a month after the last arrival.

Once is not enough: the victims of a spray would make its network shared egress for the next one.
"""
OWNER_MEMORY = 8 * DAY
"""A day longer than ended sessions are remembered."""
UID, NETWORK = "uid", "net"


class Start(msgspec.Struct, frozen=True, array_like=True):
    """The announcement of a session's start.

    Attributes:
        time: event time, milliseconds.
        seen: address, network, place and device it began with, for people.
        has_history, is_learned, is_new: see `worker.sessions.user.Started`.
        source, record_time: the record it came with, and that record's timestamp.
    """

    tenant_id: str
    user_id: str
    session_uid: str
    time: int
    seen: tuple[str, ...]
    has_history: bool
    is_learned: bool
    is_new: bool
    source: tuple[str, int, int]
    record_time: int


class Owner(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A user who claims a session's uid, as of the earliest start."""

    time: int
    tenant_id: str
    user_id: str
    seen: tuple[str, ...]


class Arrival(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A new session on a network, of a user whose networks are known."""

    time: int
    session_uid: str
    user_id: str
    is_new: bool


class Shared(msgspec.Struct, array_like=True):
    """What is kept under one key.

    Attributes:
        applied: announcements applied. `offset`: of the last of them. `newest`: its latest time.
        owners: of a uid, in order of time.
        arrivals: on a network, in order of time. `regulars`: user -> first and last arrival there.
    """

    applied: int = 0
    offset: int = -1
    newest: int = 0
    owners: list[Owner] = msgspec.field(default_factory=list)
    arrivals: list[Arrival] = msgspec.field(default_factory=list)
    regulars: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)


class ClaimView(msgspec.Struct):
    """A claim on a uid that somebody else claimed before, as a detection sees it."""

    tenant_id: str
    session_uid: str
    first: Owner
    claim: Owner
    owners: int
    policy: TenantPolicy


class CrowdView(msgspec.Struct):
    """The new sessions of users with a history on one network, and how many regulars it has, as a detection sees it."""

    tenant_id: str
    network: str
    arrivals: Sequence[Arrival]
    regulars: int
    policy: TenantPolicy


class CrossJudge(Protocol):
    """Whoever knows the detections and a tenant's policy."""

    def judge_claim(self, view: ClaimView) -> Sequence[Verdict]:
        """Return the verdicts on a claim."""

    def judge_crowd(self, view: CrowdView) -> Sequence[Verdict]:
        """Return the verdicts on a network."""

    @property
    def policy(self) -> TenantPolicy:
        """The tenant's policy."""


class Found(msgspec.Struct, frozen=True):
    """A finding that came, grew or went, and whom it names."""

    tenant_id: str
    user_id: str
    change: Change


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Shared).decode
_decode_start = msgspec.msgpack.Decoder(Start).decode


def encode_start(start: Start) -> bytes:
    """Encode an announcement."""
    return _encode(start)


def decode_start(value: bytes) -> Start:
    """Decode what `encode_start` made.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _decode_start(value)


def encode_shared(state: Shared) -> bytes:
    """Encode a state: format version, the time to forget it (milliseconds), MessagePack."""
    wake = state.newest + (OWNER_MEMORY if state.owners else REGULAR_FOR)
    return bytes((FORMAT,)) + wake.to_bytes(8, "big") + _encode(state)


def is_shared(state: bytes) -> bool:
    """Tell whether a state is one of this module."""
    return state[0] == FORMAT


def decode_shared(state: bytes) -> Shared:
    """Decode what `encode_shared` made.

    Raises:
        UnknownFormatError: the state was written by a version this one does not know.
    """
    if state[0] != FORMAT:
        raise UnknownFormatError(state[0])
    return _decode(memoryview(state)[9:])


def claim(state: Shared, start: Start, judge: CrossJudge, limits: Limits) -> list[Found]:
    """Add a claim on a uid; return the findings that came or went."""
    state.applied += 1
    state.newest = max(state.newest, start.time)
    before = _claims(state.owners, start.session_uid, judge, limits)
    known = {(owner.tenant_id, owner.user_id): owner for owner in state.owners}
    new = Owner(start.time, start.tenant_id, start.user_id, start.seen)
    own = known.get((new.tenant_id, new.user_id))
    if own is None or new < own:
        known[new.tenant_id, new.user_id] = new
    state.owners = sorted(known.values())[:OWNERS]
    return _difference(before, _claims(state.owners, start.session_uid, judge, limits))


Standing = dict[str, tuple[str, str, Group]]
"""Findings by uid: tenant, user, group."""


def _claims(owners: Sequence[Owner], uid: str, judge: CrossJudge, limits: Limits) -> Standing:
    found: Standing = {}
    for owner in owners[1:]:
        view = ClaimView(owner.tenant_id, uid, owners[0], owner, len(owners), judge.policy)
        for verdict in judge.judge_claim(view):
            group = _group(verdict, uid, owner.time, owner.time, 1, limits)
            found[_uid(owner.tenant_id, f"{uid} {owner.user_id}", group)] = (owner.tenant_id, owner.user_id, group)
    return found


def arrive(state: Shared, start: Start, network: str, judge: CrossJudge, limits: Limits) -> list[Found]:
    """Add an arrival on a network; return the findings that came, grew or went."""
    state.applied += 1
    state.newest = max(state.newest, start.time)
    # What is forgotten closes nothing, so it goes before the first look.
    _forget(state, limits)
    before = _crowds(state, start.tenant_id, network, judge, limits)
    first, last = state.regulars.get(start.user_id, (start.time, start.time))
    state.regulars[start.user_id] = (min(first, start.time), max(last, start.time))
    if start.is_learned:
        arrivals = {arrival.session_uid: arrival for arrival in state.arrivals}
        arrival = Arrival(start.time, start.session_uid, start.user_id, start.is_new)
        arrivals[start.session_uid] = min(arrival, arrivals.get(start.session_uid, arrival))
        state.arrivals = sorted(arrivals.values())
    return _difference(before, _crowds(state, start.tenant_id, network, judge, limits))


def _forget(state: Shared, limits: Limits) -> None:
    """Let go of arrivals that no admissible one can come close to, and of users who have stayed away."""
    horizon = state.newest - limits.lateness - limits.grouping
    state.arrivals = [arrival for arrival in state.arrivals[1 - ARRIVALS :] if arrival.time >= horizon]
    known = sorted(state.regulars.items(), key=lambda item: (item[1][1], item[0]))[1 - REGULARS :]
    state.regulars = {user: span for user, span in known if state.newest - span[1] < REGULAR_FOR}


def _crowds(state: Shared, tenant_id: str, network: str, judge: CrossJudge, limits: Limits) -> Standing:
    found: Standing = {}
    if not state.arrivals:
        return found
    since = state.arrivals[0].time - REGULAR_AFTER
    regulars = sum(first <= since and last - first >= REGULAR_AFTER for first, last in state.regulars.values())
    for verdict in judge.judge_crowd(CrowdView(tenant_id, network, state.arrivals, regulars, judge.policy)):
        new = [arrival for arrival in state.arrivals if arrival.is_new]
        group = _group(verdict, "", new[0].time, new[-1].time, len({arrival.user_id for arrival in new}), limits)
        found[_uid(tenant_id, f"network:{network}", group)] = (tenant_id, "", group)
    return found


def _group(verdict: Verdict, session: str, first: int, last: int, count: int, limits: Limits) -> Group:
    return Group(
        verdict.detection, session, verdict.subject, first - first % limits.grouping, first, last, count,
        verdict.severity, verdict.score, verdict.summary, verdict.evidence, verdict.suppressed_by, 0, 0,
    )  # fmt: skip


def _uid(tenant_id: str, holder: str, group: Group) -> str:
    return finding_uid(tenant_id, group.detection, holder, group.subject, group.bucket)


def _changed(uid: str, old: tuple[str, str, Group] | None, group: Group) -> Change:
    if old is None:
        return Change(uid, Activity.CREATE, group)
    return Change(uid, Activity.UPDATE, group, is_news(old[2], group))


def _difference(old: Standing, new: Standing) -> list[Found]:
    found = [
        Found(tenant, user, _changed(uid, old.get(uid), group))
        for uid, (tenant, user, group) in new.items()
        if uid not in old or old[uid][2] != group
    ]
    found += [
        Found(tenant, user, Change(uid, Activity.CLOSE, group))
        for uid, (tenant, user, group) in old.items()
        if uid not in new
    ]
    return found
