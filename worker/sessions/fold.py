"""Fold of a user's observations, in event-time order, into the profile.

The result depends neither on the order of arrival nor on a clock or on batches: `Profile` is a function of the ordered
events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schemas.finding import Severity, finding_uid
from schemas.vocabulary import UNKNOWN
from worker.enrich.model import is_anonymiser, is_own_place
from worker.sessions.baseline import (
    admit,
    count_start,
    device_key,
    is_learned,
    network_key,
    note_report,
    release,
    retract,
)
from worker.sessions.contracts import COVERED_BY, TOLD_BEFORE, Trigger, View, is_allowed
from worker.sessions.limits import DAY, MINUTE, UNKNOWN_LIFETIME
from worker.sessions.risk import CONTRIBUTION, CRITICAL, decayed, raised
from worker.sessions.state import (
    CHANGED,
    DELETED,
    KINDS,
    Context,
    Contexts,
    Observation,
    OpenFinding,
    Profile,
    Session,
    StartHistory,
    revocation_key,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.policy import TenantPolicy
    from schemas.vocabulary import Vocabulary
    from worker.enrich.model import Network, Place
    from worker.sessions.contracts import RuleEngine, Verdict
    from worker.sessions.limits import Limits

# Plain integers: flag arithmetic on IntFlag members costs a microsecond an operation.
START, NETWORK, PLACE, DEVICE, GRANT, EXPIRED, ENDED, TRAVEL, CLOCK, RISK, *_ = (int(trigger) for trigger in Trigger)
USER_RISK = int(Trigger.USER_RISK)


NEWS = START | NETWORK | PLACE | DEVICE
"""Triggers of events that the baseline learns from, besides the first event of a session on each day."""


class FoldContext(NamedTuple):
    """The user whose events are folded, and what a step needs besides the profile."""

    tenant_id: str
    user_id: str
    contexts: Contexts
    engine: RuleEngine
    limits: Limits


class Step(NamedTuple):
    """Result of one step: uids of findings that occurred, and live sessions evicted because the state was full."""

    findings: Sequence[str]
    evicted: Sequence[tuple[str, Session]]


NOTHING = Step((), ())


def step(profile: Profile, observation: Observation, fold_context: FoldContext) -> Step:
    """Apply one observation to the profile, in place. It must not be earlier than `profile.time`."""
    context = fold_context.contexts[observation.context]
    session = profile.sessions.get(context.uid)
    profile.time = observation.time
    trigger = _trigger(profile, session, observation, context, fold_context)
    verdicts: Sequence[Verdict] = ()
    if trigger & fold_context.engine.triggers:
        view = _view(profile, session, observation, context, trigger, fold_context)
        verdicts = fold_context.engine(view)
    evicted: Sequence[tuple[str, Session]] = ()
    if session is None:
        ended = _revoked_at(profile, context.uid, fold_context.limits)
        evicted = _evict(profile, fold_context.limits)
        history = 0 if observation.kind == DELETED else _history(profile, context, observation.time)
        session = _start(profile, observation, context, fold_context.limits)
        session.history = history
        session.ended = ended
        profile.sessions[context.uid] = session
    if observation.kind == DELETED:
        session.ended = session.ended or observation.time
    else:
        _advance(profile, session, observation, context, trigger, fold_context)
    is_news = bool(trigger & NEWS) or observation.time // DAY != session.seen // DAY
    session.seen = observation.time
    session.events += 1
    findings = _record_verdicts(profile, session, observation, view, verdicts, fold_context) if verdicts else ()
    if is_news and observation.kind != DELETED and (observation.activity or trigger & START):
        admit(profile, session, observation.context, fold_context.contexts, fold_context.limits)
    if profile.waiting:
        release(profile, fold_context.contexts, fold_context.limits)
    return Step(findings, evicted) if findings or evicted else NOTHING


def _trigger(
    profile: Profile, session: Session | None, observation: Observation, context: Context, fold_context: FoldContext
) -> int:
    if observation.kind == DELETED:
        used = session is not None and session.ended and observation.activity > session.ended
        return (CLOCK if observation.future_by else 0) | (ENDED if used else 0)
    found = CLOCK if observation.future_by or _used_before_created(observation, context, fold_context.limits) else 0
    if session is None:
        found |= START | (ENDED if _revoked_at(profile, context.uid, fold_context.limits) else 0)
    else:
        if session.context != observation.context:
            found |= _changes(fold_context.contexts[session.context], context)
        if session.expires and observation.activity > session.expires + fold_context.limits.clock_skew:
            found |= EXPIRED
        if session.ended:
            found |= ENDED
    travelled = profile.place[0] and _travelled(profile, session, observation, context)
    moved = found & (START | NETWORK | PLACE) and _is_elsewhere(profile, observation, context)
    if travelled or moved or is_country_alone(profile, context.place, context.network):
        found |= TRAVEL
    return found


def _revoked_at(profile: Profile, uid: str, limits: Limits) -> int:
    ended = profile.revoked_at(uid)
    return ended if ended > profile.time - limits.ended_ttl else 0


def _used_before_created(observation: Observation, context: Context, limits: Limits) -> bool:
    return 0 < observation.activity < context.created_at - limits.clock_skew


def _changes(before: Context, after: Context) -> int:
    found = 0
    if before.network != after.network:
        found = NETWORK
    if before.place != after.place:
        found |= PLACE
    if before.device != after.device:
        found |= DEVICE
    if _grant(before) != _grant(after):
        found |= GRANT
    return found


def _grant(context: Context) -> tuple[object, ...]:
    return (
        context.scopes,
        context.amr,
        context.aud,
        context.max_age_minutes,
        context.session_type,
        context.created_at,
    )


def _is_elsewhere(profile: Profile, observation: Observation, context: Context) -> bool:
    """Return whether the user acted at a place of which at most the country is known to be the user's own.

    False when no other session is known to compare with. The coordinates of a mobile carrier are those of its gateway,
    so they cannot show a move: such an event is compared only when network or place changed.
    """
    known = bool(context.place.country) and not is_anonymiser(context.network.kind)
    return (
        bool(observation.activity and profile.sessions) and known and not is_own_place(context.network, context.place)
    )


def is_gateway(context: Context, policy: TenantPolicy) -> bool:
    """Return whether a network is on the tenant's lists of trusted ones: its place is that of a gateway."""
    return bool(policy.allowed_networks or policy.allowed_asns) and is_allowed(context, policy)


def is_country_alone(profile: Profile, place: Place, network: Network) -> bool:
    """Return whether only the country of the user is known, and there are other sessions to compare with.

    With coordinates, an event is compared with other sessions only when they differ. Without coordinates, every event
    is compared.
    """
    alone = place.latitude is None and bool(place.country) and len(profile.sessions) > 1
    return alone and not is_anonymiser(network.kind)


def _travelled(profile: Profile, session: Session | None, observation: Observation, context: Context) -> bool:
    # Uses within the resolution of the clock may have equal times. A change by the back office must be later to count.
    least = 0 if session is None else session.activity + (observation.kind == CHANGED)
    acted = observation.activity >= max(least, 1)
    place = context.place
    return acted and is_own_place(context.network, place) and profile.place[2:] != (place.latitude, place.longitude)


def _view(
    profile: Profile,
    session: Session | None,
    observation: Observation,
    context: Context,
    trigger: int,
    fold_context: FoldContext,
) -> View:
    contexts = fold_context.contexts
    before = contexts[session.context] if session and session.context else None
    reference = (session.v4 if context.network.family == 4 else session.v6) if session else 0
    return View(
        fold_context.tenant_id,
        fold_context.user_id,
        Trigger(trigger),
        KINDS[observation.kind],
        observation.time,
        observation.activity,
        observation,
        context,
        session,
        before,
        contexts[reference] if reference else None,
        profile,
        contexts,
        fold_context.limits,
        fold_context.engine.policy,
    )


def _history(profile: Profile, context: Context, now: int) -> int:
    """Return the packed `StartHistory` of a session that starts with a context."""
    baseline = profile.baseline
    network, client = context.network, device_key(context.device)
    is_new = bool(network.asn) and network_key(network) not in baseline.networks
    is_new_client = bool(client) and client not in baseline.devices
    return StartHistory(baseline.sessions > 0, is_learned(baseline, now), is_new, is_new_client).packed()


def _start(profile: Profile, observation: Observation, context: Context, limits: Limits) -> Session:
    history = profile.baseline
    history.first = history.first or observation.time
    if observation.kind != DELETED:
        history.last_session = observation.time
        history.starts = [*history.starts[-63:], observation.time]
        count_start(history, observation.time, limits.rate_half_life)
        _record_peak(profile, observation.time)
    return Session(
        observation.context, 0, 0, observation.time, observation.time, 0, 0, 0, None, None,
        UNKNOWN, context.created_at, 0, 0, 0.0, 0, 0, [(observation.time, observation.context)],
    )  # fmt: skip


def is_live(session: Session, now: int) -> bool:
    """Return whether a session is neither deleted nor past its deadline at `now`."""
    return not session.ended and now <= deadline(session)


def deadline(session: Session) -> int:
    """Return when a session ends if it is not used again: at its expiry, or a day after its last use if it has none.

    A session without a known lifetime may be refreshed without end, but one that is not used for a day is over.
    """
    return session.expires or max(session.activity, session.started) + UNKNOWN_LIFETIME


def live_sessions(profile: Profile, now: int) -> int:
    """Count the sessions that are live at `now`."""
    return sum(is_live(each, now) for each in profile.sessions.values())


def _record_peak(profile: Profile, now: int) -> None:
    live = 1 + live_sessions(profile, now)
    peaks, day = profile.baseline.peaks, now // DAY
    if peaks and peaks[-1][0] == day:
        peaks[-1] = (day, max(peaks[-1][1], live))
    else:
        profile.baseline.peaks = [*peaks[-13:], (day, live)]


def _evict(profile: Profile, limits: Limits) -> Sequence[tuple[str, Session]]:
    """Remove sessions that ended or expired longer than `ended_ttl` ago. If too many are left, evict one more.

    Ended and expired sessions are evicted before live ones, and among equals the least recently seen.

    Returns:
        The evicted session if it was live.
    """
    now, horizon = profile.time, profile.time - limits.ended_ttl
    over = [uid for uid, each in profile.sessions.items() if (each.ended or deadline(each)) < horizon]
    for uid in over:
        forget_session(profile, uid, limits)
    if len(profile.sessions) < limits.sessions:
        return ()
    live, _, uid = min([
        (is_live(each, now), each.seen, uid)
        for uid, each in profile.sessions.items()
    ])  # fmt: skip
    session = forget_session(profile, uid, limits)
    profile.opened().dropped += 1
    return ((uid, session),) if live else ()


def forget_session(profile: Profile, uid: str, limits: Limits) -> Session:
    """Remove a session. If it was revoked within `ended_ttl`, keep the revocation."""
    session = profile.sessions.pop(uid)
    if session.ended > profile.time - limits.ended_ttl:
        cold = profile.opened()
        cold.revoked[revocation_key(uid)] = session.ended
        if len(cold.revoked) > limits.revoked:
            _bound_revocations(cold.revoked, profile.time - limits.ended_ttl)
    return session


def _bound_revocations(revoked: dict[int, int], horizon: int) -> None:
    """Drop the revocations older than `horizon`; if there are none, drop the oldest one."""
    for key in [key for key, ended in revoked.items() if ended <= horizon] or [
        min(revoked, key=lambda key: (revoked[key], key))
    ]:
        del revoked[key]


def _advance(
    profile: Profile,
    session: Session,
    observation: Observation,
    context: Context,
    trigger: int,
    fold_context: FoldContext,
) -> None:
    if trigger & GRANT and context.aud is None:
        session.aud = fold_context.contexts[session.context].aud or session.aud
    if trigger & (NETWORK | DEVICE) and _moved(fold_context.contexts[session.context], context):
        session.trail = [*session.trail[1 - fold_context.limits.trail :], (observation.time, observation.context)]
    session.context = observation.context
    if not context.network.prefix:
        pass  # keep the last known network, so that a change is still seen after an event without one
    elif context.network.family == 4:
        session.v4 = observation.context
    else:
        session.v6 = observation.context
    if trigger & (START | GRANT):
        _grant_to(session, context, fold_context)
    session.activity = max(session.activity, observation.activity)
    session.expires = expiry(session, fold_context.engine.policy.expiry)
    place = context.place
    if (
        is_own_place(context.network, place)
        and observation.activity >= profile.place[1]
        and not is_gateway(context, fold_context.engine.policy)
    ):
        profile.place = (observation.context, observation.activity, place.latitude or 0.0, place.longitude or 0.0)


def _moved(before: Context, after: Context) -> bool:
    return network_key(before.network) != network_key(after.network) or before.device != after.device


def expiry(session: Session, kind: str) -> int:
    """Return when a session expires: `sliding` counts from its last use, `absolute` from its creation; 0 for never."""
    if not session.max_age_minutes or kind == "none":
        return 0
    since = session.activity if kind == "sliding" else session.created or session.started
    return since + int(session.max_age_minutes * MINUTE)


def _grant_to(session: Session, context: Context, fold_context: FoldContext) -> None:
    if context.scopes is not None:
        session.scopes = _widest(session.scopes or (), context.scopes, fold_context.limits.scopes)
    if context.max_age_minutes is not None:
        session.max_age_minutes = context.max_age_minutes
    _authenticated(session, context, fold_context.engine.policy.vocabulary)


def _authenticated(session: Session, context: Context, vocabulary: Vocabulary) -> None:
    """Apply the authentication methods. With a later creation time it is a sign-in: the session's strength is reset."""
    level = vocabulary.strength(context.amr)
    if context.created_at > session.created > 0 and level >= 0:
        session.strength = session.base = level
    elif session.base == UNKNOWN:
        session.base = level
    session.strength = max(session.strength, level)
    session.created = max(session.created, context.created_at)


def _widest(known: tuple[str, ...], scopes: tuple[str, ...], most: int) -> tuple[str, ...]:
    """Return all scopes of a session so far. Of more than `most`, those of its newest event are kept first."""
    found = {*known, *scopes}
    if len(found) > most:
        new = set(scopes)
        found = set(sorted(found, key=lambda scope: (scope not in new, len(scope), scope))[:most])
    return tuple(sorted(found))


def _record_verdicts(
    profile: Profile,
    session: Session,
    observation: Observation,
    view: View,
    verdicts: Sequence[Verdict],
    fold_context: FoldContext,
) -> list[str]:
    """Record the verdicts on an event; if they raise a risk over a threshold, evaluate that risk, too."""
    half_life, now = fold_context.limits.risk_half_life, observation.time
    threshold = fold_context.engine.policy.risk_threshold
    before, user_before = _risks(profile, session, now, half_life)
    found = [_record_verdict(profile, session, observation, verdict, fold_context) for verdict in verdicts]
    after, user_after = _risks(profile, session, now, half_life)
    if _is_crossed(before, after, threshold):
        found += _summarise(profile, session, observation, view, verdicts, fold_context, Trigger.RISK, after)
    is_another = before < CONTRIBUTION <= after and user_after >= threshold
    if is_another or _is_crossed(user_before, user_after, threshold):
        found += _summarise(profile, session, observation, view, verdicts, fold_context, Trigger.USER_RISK, user_after)
    return found


def _risks(profile: Profile, session: Session, now: int, half_life: int) -> tuple[float, float]:
    """Return the risk of a session and of its user."""
    return decayed(session.risk, now - session.risk_at, half_life), decayed(
        profile.risk, now - profile.risk_at, half_life
    )


def _is_crossed(before: float, after: float, threshold: float) -> bool:
    return after >= threshold and (before < threshold or before < CRITICAL <= after)


def _summarise(
    profile: Profile,
    session: Session,
    observation: Observation,
    view: View,
    verdicts: Sequence[Verdict],
    fold_context: FoldContext,
    trigger: Trigger,
    risk: float,
) -> list[str]:
    """Evaluate the detections that summarise the findings of an event, and record their verdicts."""
    if not int(trigger) & fold_context.engine.triggers:
        return []
    view.trigger, view.verdicts, view.risk = trigger, verdicts, risk
    return [
        _record_verdict(profile, session, observation, verdict, fold_context, sums_up=True)
        for verdict in fold_context.engine(view)
    ]


def _record_verdict(
    profile: Profile,
    session: Session,
    observation: Observation,
    verdict: Verdict,
    fold_context: FoldContext,
    *,
    sums_up: bool = False,
) -> str:
    """Add a verdict to its finding. A verdict that only summarises others (`sums_up`) does not raise the risk."""
    limits, now = fold_context.limits, observation.time
    bucket = now - now % limits.grouping
    uid = finding_uid(
        fold_context.tenant_id, verdict.detection, fold_context.user_id, verdict.session_uid, verdict.subject, bucket
    )
    finding = profile.open_findings.get(uid)
    if verdict.once:
        _report_once(profile, session, verdict, now, limits)
    if finding is None:
        session.findings += 1
        if not sums_up:
            _raise_risk(profile, session, verdict, now, fold_context)
        profile.open_findings[uid] = _open_finding(verdict, observation, bucket, fold_context.contexts)
        _bound_findings(profile, limits)
    else:
        finding.last = now
        finding.count += 1
        if verdict.severity > finding.severity:
            finding.changed_at_count = finding.count
        if finding.suppressed_by and not verdict.suppressed_by:
            _unsuppress(finding, verdict, observation, fold_context.contexts)
            _raise_risk(profile, session, verdict, now, fold_context)
        finding.severity = max(finding.severity, verdict.severity)
        finding.score = max(finding.score, verdict.score)
    return uid


def _report_once(profile: Profile, session: Session, verdict: Verdict, now: int, limits: Limits) -> None:
    """Record a finding that is raised once. A repeat within the quarantine after it keeps its session in quarantine."""
    if all(reason.startswith(COVERED_BY) for reason in verdict.suppressed_by):
        note_report(profile.baseline, verdict.once, verdict.severity, now, limits)
    elif verdict.suppressed_by == (TOLD_BEFORE,) and (known := profile.baseline.reported.get(verdict.once)):
        known.last = now
        if verdict.casts_doubt and verdict.severity >= Severity.MEDIUM and now - known.first < limits.quarantine:
            session.alarmed = max(session.alarmed, known.first)


def _unsuppress(finding: OpenFinding, verdict: Verdict, observation: Observation, contexts: Contexts) -> None:
    """Make the first occurrence that is not suppressed the one that the finding reports."""
    finding.suppressed_by, finding.changed_at_count = (), finding.count
    finding.summary, finding.evidence = verdict.summary, verdict.evidence
    finding.context, finding.before = observation.context, contexts.number(verdict.before)


def _open_finding(verdict: Verdict, observation: Observation, bucket: int, contexts: Contexts) -> OpenFinding:
    before = contexts.number(verdict.before)
    return OpenFinding(
        verdict.detection, verdict.session_uid, verdict.subject, bucket, observation.time, observation.time, 1,
        verdict.severity, verdict.score, verdict.summary, verdict.evidence, verdict.suppressed_by,
        observation.context, before, verdict.casts_doubt, verdict.joins,
    )  # fmt: skip


def _bound_findings(profile: Profile, limits: Limits) -> None:
    if len(profile.open_findings) > limits.open_findings:
        oldest = min(profile.open_findings, key=lambda uid: (profile.open_findings[uid].last, uid))
        del profile.open_findings[oldest]
        profile.opened().dropped += 1


def _raise_risk(profile: Profile, session: Session, verdict: Verdict, now: int, fold_context: FoldContext) -> None:
    if verdict.suppressed_by:
        return
    limits = fold_context.limits
    session.risk = raised(decayed(session.risk, now - session.risk_at, limits.risk_half_life), verdict.score)
    session.risk_at = now
    profile.risk = raised(decayed(profile.risk, now - profile.risk_at, limits.risk_half_life), verdict.score)
    profile.risk_at = now
    if verdict.casts_doubt and verdict.severity >= Severity.MEDIUM:
        session.alarmed = now
        if verdict.severity == Severity.CRITICAL:
            profile.baseline.doubted = now
        retract(profile, session, fold_context.contexts, limits)
