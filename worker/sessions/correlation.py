"""What no single user's events can tell: who else claims a session's uid, and who else appears on a network.

Every start of a session is announced under its uid and under its tenant's network. What is kept under such a key is a
set, and what is found is a function of that set: neither the order of announcements nor a repeated one matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from schemas.finding import Activity, finding_uid
from worker.sessions.announcements import Arrival, Claimant, ClaimView, CrowdView
from worker.sessions.codec import CORRELATION, framed, has_format, unframed
from worker.sessions.limits import DAY
from worker.sessions.reorder import FindingChange, is_material
from worker.sessions.state import OpenFinding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.sessions.announcements import SessionStart
    from worker.sessions.contracts import RuleEngine, Verdict
    from worker.sessions.limits import Limits

MAX_CLAIMANTS = 16
"""Most claimants of one uid remembered: the earliest."""
ARRIVALS, REGULARS = 128, 32
"""Most arrivals on a network remembered, and most users known to come from there: the newest."""
REGULAR_AFTER, REGULAR_FOR = DAY, 30 * DAY
"""A user who came back to a network after a day or more is a regular of it, until a month after the last arrival.

Once is not enough: the victims of a spray would make its network shared egress for the next one.
"""
CLAIMANT_TTL = 8 * DAY
"""A day longer than ended sessions are remembered."""
UID, NETWORK, EVERYWHERE = "uid", "net", "all"
"""What state is kept by: tenant and uid; network and tenant; a uid alone, over all tenants, for operators."""


class CorrelationState(msgspec.Struct, array_like=True):
    """What is kept under one key.

    Attributes:
        applied: announcements applied. `offset`: of the last of them. `newest`: its latest time.
        claimants: of a uid, in order of time.
        arrivals: on a network, in order of time. `regulars`: user -> first and last arrival there.
    """

    applied: int = 0
    offset: int = -1
    newest: int = 0
    claimants: list[Claimant] = msgspec.field(default_factory=list)
    arrivals: list[Arrival] = msgspec.field(default_factory=list)
    regulars: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CorrelationState).decode


def encode_correlation(state: CorrelationState) -> bytes:
    """Encode a state: format version, the time to forget it (milliseconds), MessagePack."""
    wake = state.newest + (CLAIMANT_TTL if state.claimants else REGULAR_FOR)
    return framed(CORRELATION, wake, _encode(state))


def is_correlation(state: bytes) -> bool:
    """Tell whether a state is one of this module."""
    return has_format(CORRELATION, state)


def decode_correlation(state: bytes) -> CorrelationState:
    """Decode what `encode_correlation` made.

    Raises:
        UnknownFormatError: the state was written by a version this one does not know.
    """
    return _decode(unframed(CORRELATION, state))


def claim(
    state: CorrelationState, start: SessionStart, engine: RuleEngine, limits: Limits, operator: str = ""
) -> list[FindingChange]:
    """Add a claim on a uid; return the findings that were created, updated or closed.

    Args:
        state: of the uid in the tenant of the start; with `operator`, of the uid in all tenants.
        start: the claim.
        engine: rule engine of the tenant that owns these findings.
        limits: bounds and times.
        operator: tenant of the operator, who then owns these findings. Of each tenant only the earliest claim is kept,
            so that no tenant's claims take the place of another's.
    """
    state.applied += 1
    state.newest = max(state.newest, start.time)
    before = _claims(state.claimants, start.session_uid, engine, limits, operator)
    known = {claimant.tenant_id if operator else claimant.user_id: claimant for claimant in state.claimants}
    new = Claimant(start.time, start.tenant_id, start.user_id, start.names, start.is_temporary)
    holder = new.tenant_id if operator else new.user_id
    known[holder] = min(new, known.get(holder, new))
    state.claimants = sorted(known.values())[:MAX_CLAIMANTS]
    return _difference(before, _claims(state.claimants, start.session_uid, engine, limits, operator))


Standing = dict[str, tuple[str, str, OpenFinding]]
"""Findings by uid: tenant, user, finding."""


def _claims(claimants: Sequence[Claimant], uid: str, engine: RuleEngine, limits: Limits, operator: str) -> Standing:
    found: Standing = {}
    for place, claimant in enumerate(claimants[1:], 1):
        first = next((each for each in claimants[:place] if not each.is_temporary), claimants[0])
        # The operator's finding names no user: it belongs to neither tenant.
        tenant_id, user_id = (operator, "") if operator else (claimant.tenant_id, claimant.user_id)
        view = ClaimView(tenant_id, uid, first, claimant, len(claimants), engine.policy)
        for verdict in engine.evaluate_claim(view):
            finding = _open_finding(verdict, uid, claimant.time, claimant.time, 1, limits)
            found[_uid(tenant_id, user_id, uid, finding)] = (tenant_id, user_id, finding)
    return found


def arrive(
    state: CorrelationState, start: SessionStart, network: str, engine: RuleEngine, limits: Limits
) -> list[FindingChange]:
    """Add an arrival on a network; return the findings that came, grew or went."""
    state.applied += 1
    state.newest = max(state.newest, start.time)
    # What is forgotten closes nothing, so it goes before the first look.
    _forget(state, limits)
    before = _crowds(state, start.tenant_id, network, engine, limits)
    first, last = state.regulars.get(start.user_id, (start.time, start.time))
    state.regulars[start.user_id] = (min(first, start.time), max(last, start.time))
    if start.is_learned:
        arrivals = {arrival.session_uid: arrival for arrival in state.arrivals}
        arrival = Arrival(start.time, start.session_uid, start.user_id, start.is_new)
        arrivals[start.session_uid] = min(arrival, arrivals.get(start.session_uid, arrival))
        state.arrivals = sorted(arrivals.values())
    return _difference(before, _crowds(state, start.tenant_id, network, engine, limits))


def _forget(state: CorrelationState, limits: Limits) -> None:
    """Let go of arrivals that no admissible one can come close to, and of users who have stayed away."""
    horizon = state.newest - limits.allowed_lateness - limits.grouping
    state.arrivals = [arrival for arrival in state.arrivals[1 - ARRIVALS :] if arrival.time >= horizon]
    known = sorted(state.regulars.items(), key=lambda item: (item[1][1], item[0]))[1 - REGULARS :]
    state.regulars = {user: span for user, span in known if state.newest - span[1] < REGULAR_FOR}


def _crowds(state: CorrelationState, tenant_id: str, network: str, engine: RuleEngine, limits: Limits) -> Standing:
    found: Standing = {}
    if not state.arrivals:
        return found
    since = state.arrivals[0].time - REGULAR_AFTER
    regulars = sum(first <= since and last - first >= REGULAR_AFTER for first, last in state.regulars.values())
    for verdict in engine.evaluate_crowd(CrowdView(tenant_id, network, state.arrivals, regulars, engine.policy)):
        new = [arrival for arrival in state.arrivals if arrival.is_new]
        finding = _open_finding(
            verdict, "", new[0].time, new[-1].time, len({arrival.user_id for arrival in new}), limits
        )
        found[_uid(tenant_id, "", f"network:{network}", finding)] = (tenant_id, "", finding)
    return found


def _open_finding(verdict: Verdict, session: str, first: int, last: int, count: int, limits: Limits) -> OpenFinding:
    return OpenFinding(
        verdict.detection, session, verdict.subject, first - first % limits.grouping, first, last, count,
        verdict.severity, verdict.score, verdict.summary, verdict.evidence, verdict.suppressed_by, 0, 0,
    )  # fmt: skip


def _uid(tenant_id: str, user_id: str, holder: str, finding: OpenFinding) -> str:
    return finding_uid(tenant_id, finding.detection, user_id, holder, finding.subject, finding.bucket)


def _difference(old: Standing, new: Standing) -> list[FindingChange]:
    found = [
        FindingChange(
            tenant,
            user,
            uid,
            Activity.CREATE if uid not in old else Activity.UPDATE,
            finding,
            is_material(old[uid][2] if uid in old else None, finding),
        )
        for uid, (tenant, user, finding) in new.items()
        if uid not in old or old[uid][2] != finding
    ]
    found += [
        FindingChange(tenant, user, uid, Activity.CLOSE, finding)
        for uid, (tenant, user, finding) in old.items()
        if uid not in new
    ]
    return found
