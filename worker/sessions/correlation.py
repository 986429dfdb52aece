"""Correlation over users: which users claim the same session uid, and which users appear on the same network.

Every start of a session is announced under the session's uid and under the network in its tenant. The state under such
a key is a set of announcements, and the findings are a function of this set. So neither the order of announcements nor
a repeated announcement matters.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from schemas.finding import Activity, finding_uid
from worker.sessions import crowds, tenant_wide
from worker.sessions.announcements import Claimant, ClaimView, CrowdView, SurgeView
from worker.sessions.codec import CORRELATION, StateFormat
from worker.sessions.limits import DAY, HOUR
from worker.sessions.reorder import FindingChange, is_material
from worker.sessions.state import OpenFinding

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from worker.sessions.announcements import Deed, SessionStart
    from worker.sessions.contracts import RuleEngine, Verdict
    from worker.sessions.limits import Limits

    Evaluate = Callable[[CrowdView], Sequence[Verdict]]

MAX_CLAIMANTS = 16
"""Maximum number of claimants kept per uid: the earliest ones."""
SURGE = "sign-in-surge"
CLAIMANT_TTL = 8 * DAY
"""How long claims are kept, in milliseconds: one day longer than `Limits.ended_ttl`."""
UID, NETWORK, EVERYWHERE, DEED, CLIENT = "uid", "net", "all", "deed", "client"
DEED = "deed"
"""Kinds of keys: tenant and uid; tenant and network; uid over all tenants, for operators; deed; tenant and client."""


class CorrelationState(msgspec.Struct, array_like=True):
    """State under one key.

    Attributes:
        applied: number of announcements applied. `offset`: offset of the last one. `newest`: latest time announced.
        claimants: for a uid, the users who claim it, in order of time.
        crowd: for a network or client, the users who appeared.
        shared: for a deed, the users who did it.
    """

    applied: int = 0
    offset: int = -1
    newest: int = 0
    claimants: list[Claimant] = msgspec.field(default_factory=list)
    crowd: crowds.Crowd | None = None
    shared: tenant_wide.Shared | None = None


_FORMAT = StateFormat(CORRELATION, CorrelationState)
is_correlation, decode_correlation = _FORMAT.matches, _FORMAT.decode


def encode_correlation(state: CorrelationState) -> bytes:
    """Return an encoded state; its timer deletes it when its announcements no longer count."""
    return _FORMAT.encode(state, state.newest + (CLAIMANT_TTL if state.claimants else crowds.REGULAR_FOR))


def claim(
    state: CorrelationState, start: SessionStart, engine: RuleEngine, limits: Limits, operator: str = ""
) -> list[FindingChange]:
    """Add a claim on a uid; return the findings that were created, updated or closed.

    Args:
        state: state of the uid in the tenant of the start; with `operator`, of the uid over all tenants.
        start: the claim.
        engine: rule engine of the tenant that owns the findings.
        limits: bounds and times.
        operator: tenant of the operator; if given, the findings belong to it. Only the earliest claim of each tenant is
            kept then, so that the claims of one tenant cannot displace those of another.
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
    """Add an arrival on a network; return the findings that were created, updated or closed."""
    least = getattr(engine.parameters_of(SURGE), "users", 0)
    newest, known = max(state.newest, start.time), state.crowd or crowds.Crowd()
    hours = crowds.surge_hours(known, start, newest, least) if least else []
    before = _surges(known, start.tenant_id, network, hours, engine, limits)
    found = _arrive(state, start, f"network:{network}", engine.evaluate_crowd, engine, limits)
    after = _surges(state.crowd or known, start.tenant_id, network, hours, engine, limits)
    return [*found, *_difference(before, after)]


def _surges(
    crowd: crowds.Crowd, tenant_id: str, network: str, hours: Collection[int], engine: RuleEngine, limits: Limits
) -> Standing:
    """Return the findings of those hours in which more users signed in than usual."""
    found: Standing = {}
    for hour in hours:
        users = crowds.estimate(crowd.rates.get(hour, ()))
        usual = crowds.users_by_hour(crowd, hour - crowds.USUAL_HOURS, hour)
        for verdict in engine.evaluate_rate(SurgeView(tenant_id, network, hour, users, usual, engine.policy)):
            finding = _open_finding(verdict, "", hour * HOUR, hour * HOUR, round(users), limits)
            found[_uid(tenant_id, "", f"surge:{network}", finding)] = (tenant_id, "", finding)
    return found


def appear(
    state: CorrelationState, start: SessionStart, client: str, engine: RuleEngine, limits: Limits
) -> list[FindingChange]:
    """Add a session start with a client new to its user; return the findings that were created, updated or closed."""
    return _arrive(state, start, f"client:{client}", engine.evaluate_client, engine, limits)


def _arrive(
    state: CorrelationState, start: SessionStart, holder: str, evaluate: Evaluate, engine: RuleEngine, limits: Limits
) -> list[FindingChange]:
    state.applied += 1
    state.newest = max(state.newest, start.time)
    crowd = state.crowd = state.crowd or crowds.Crowd()
    hours = crowds.hours_of(crowd, start)
    before = _crowds(crowd, start.tenant_id, holder, hours, evaluate, engine, limits)
    crowds.add(crowd, start, state.newest)
    return _difference(before, _crowds(crowd, start.tenant_id, holder, hours, evaluate, engine, limits))


def _crowds(
    crowd: crowds.Crowd,
    tenant_id: str,
    holder: str,
    hours: Collection[int],
    evaluate: Evaluate,
    engine: RuleEngine,
    limits: Limits,
) -> Standing:
    """Return the findings of some hours."""
    found: Standing = {}
    for hour in hours:
        since, until = hour * HOUR, (hour + 1) * HOUR
        arrivals = crowds.arrivals(crowd, since, until + HOUR)
        own = [each for each in arrivals if each.time < until]
        if not own:
            continue
        view = CrowdView(
            tenant_id, holder.partition(":")[2], since, until, arrivals, crowd.known, crowds.CELL, crowds.bit_of,
            partial(crowds.regulars, crowd, until), partial(crowds.earlier, crowd, since), engine.policy,
        )  # fmt: skip
        for verdict in evaluate(view):
            finding = _open_finding(verdict, "", own[0].time, own[-1].time, len({each.user_id for each in own}), limits)
            found[_uid(tenant_id, "", holder, finding)] = (tenant_id, "", finding)
    return found


def share(
    state: CorrelationState, deed: Deed, engine: RuleEngine, limits: Limits
) -> tuple[list[tenant_wide.Restated], list[FindingChange]]:
    """Apply a change of a finding that many users of a tenant may have.

    Returns:
        The users' findings to write, and the tenant's own findings that were created, updated or closed.
    """
    state.applied += 1
    state.newest = max(state.newest, deed.finding.first)
    shared = state.shared = state.shared or tenant_wide.Shared()
    old = _tenant_findings(shared, deed, engine, limits)
    restated = tenant_wide.apply_deed(shared, deed, state.newest, engine)
    return restated, _difference(old, _tenant_findings(shared, deed, engine, limits))


def _tenant_findings(shared: tenant_wide.Shared, deed: Deed, engine: RuleEngine, limits: Limits) -> Standing:
    found: Standing = {}
    for day, view in tenant_wide.tenant_views(shared, deed, engine).items():
        times = [at for hour in view.hours for at in shared.hours[hour].values()]
        users = {name for names in view.hours.values() for name in names}
        for verdict in engine.evaluate_deed(view):
            finding = _open_finding(verdict, "", min(times), max(times), len(users), limits)
            finding.bucket = day * DAY
            holder = f"deed:{view.detection}"
            found[_uid(deed.tenant_id, "", holder, finding)] = (deed.tenant_id, "", finding)
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
