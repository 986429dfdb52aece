"""One step of the fold: an observation, in event-time order, changes what is known of the user.

Nothing here depends on the order of arrival, on a clock or on batches: `Fold` is a function of the ordered events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schemas.finding import Severity, finding_uid
from worker.enrich.model import is_anonymiser
from worker.sessions.history import admit, count_start, network_key, release
from worker.sessions.limits import DAY
from worker.sessions.risk import CRITICAL, decayed, raised
from worker.sessions.state import CHANGED, DELETED, KINDS, Context, Contexts, Fold, Group, Observation, Session
from worker.sessions.strength import UNKNOWN, strength
from worker.sessions.view import Trigger, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.enrich.model import Network, Place
    from worker.sessions.limits import Limits
    from worker.sessions.view import Judge, Verdict

# Plain integers: flag arithmetic on IntFlag members costs a microsecond an operation.
START, NETWORK, PLACE, DEVICE, GRANT, EXPIRED, ENDED, TRAVEL, CLOCK, RISK, *_ = (int(trigger) for trigger in Trigger)


NEWS = START | NETWORK | PLACE | DEVICE
"""What is worth learning; that, and the first event of a session on a day."""


class Owner(NamedTuple):
    """Whose fold it is, and what it is folded with."""

    tenant_id: str
    user_id: str
    contexts: Contexts
    judge: Judge
    limits: Limits


class Step(NamedTuple):
    """What one step touched: finding uids, and sessions put out for want of room."""

    groups: Sequence[str]
    evicted: Sequence[tuple[str, Session]]


NOTHING = Step((), ())


def step(fold: Fold, observation: Observation, owner: Owner) -> Step:
    """Fold one observation in place; it must not be earlier than `fold.time`."""
    context = owner.contexts[observation.context]
    session = fold.sessions.get(context.uid)
    fold.time = observation.time
    trigger = _trigger(fold, session, observation, context, owner)
    verdicts: Sequence[Verdict] = ()
    if trigger & owner.judge.triggers:
        view = _view(fold, session, observation, context, trigger, owner)
        verdicts = owner.judge(view)
    evicted: Sequence[tuple[str, Session]] = ()
    if session is None:
        evicted = _make_room(fold, owner.limits)
        session = _start(fold, observation, context, owner.limits)
        fold.sessions[context.uid] = session
    if observation.kind == DELETED:
        session.ended = session.ended or observation.time
    else:
        _advance(fold, session, observation, context, trigger, owner)
    is_news = bool(trigger & NEWS) or observation.time // DAY != session.seen // DAY
    session.seen = observation.time
    session.events += 1
    groups = _judged(fold, session, observation, view, verdicts, owner) if verdicts else ()
    if is_news and observation.kind != DELETED and (observation.activity or trigger & START):
        admit(fold, session, observation.context, owner.contexts, owner.limits)
    if fold.waiting:
        release(fold, owner.contexts, owner.limits)
    return Step(groups, evicted) if groups or evicted else NOTHING


def _trigger(fold: Fold, session: Session | None, observation: Observation, context: Context, owner: Owner) -> int:
    if observation.kind == DELETED:
        return CLOCK if observation.future_by else 0
    found = CLOCK if observation.future_by or _used_before_created(observation, context, owner.limits) else 0
    if session is None:
        found |= START
    else:
        if session.context != observation.context:
            found |= _changes(owner.contexts[session.context], context)
        if session.expires and observation.activity > session.expires + owner.limits.skew:
            found |= EXPIRED
        if session.ended:
            found |= ENDED
    travelled = fold.place[0] and _travelled(fold, session, observation, context)
    if travelled or is_country_alone(fold, context.place, context.network):
        found |= TRAVEL
    return found


def _used_before_created(observation: Observation, context: Context, limits: Limits) -> bool:
    return 0 < observation.activity < context.created_at - limits.skew


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


def is_trusted_place(context: Context) -> bool:
    """Tell whether the coordinates are known and are the user's own, not an anonymiser's."""
    return context.place.latitude is not None and not is_anonymiser(context.network.kind)


def is_country_alone(fold: Fold, place: Place, network: Network) -> bool:
    """Tell whether no more than the user's own country is known, and that there are other sessions to hold against it.

    Coordinates that differ tell when to look at other sessions; without them every event has to be looked at.
    """
    alone = place.latitude is None and bool(place.country) and len(fold.sessions) > 1
    return alone and not is_anonymiser(network.kind)


def _travelled(fold: Fold, session: Session | None, observation: Observation, context: Context) -> bool:
    # Several uses within the resolution of the clock are uses all the same; a back-office change is none.
    least = 0 if session is None else session.activity + (observation.kind == CHANGED)
    acted = observation.activity >= max(least, 1)
    place = context.place
    return acted and is_trusted_place(context) and fold.place[2:] != (place.latitude, place.longitude)


def _view(
    fold: Fold,
    session: Session | None,
    observation: Observation,
    context: Context,
    trigger: int,
    owner: Owner,
) -> View:
    contexts = owner.contexts
    before = contexts[session.context] if session and session.context else None
    reference = (session.v4 if context.network.family == 4 else session.v6) if session else 0
    return View(
        owner.tenant_id,
        owner.user_id,
        Trigger(trigger),
        KINDS[observation.kind],
        observation.time,
        observation.activity,
        observation,
        context,
        session,
        before,
        contexts[reference] if reference else None,
        fold,
        contexts,
        owner.limits,
        owner.judge.policy,
    )


def _start(fold: Fold, observation: Observation, context: Context, limits: Limits) -> Session:
    history = fold.history
    history.first = history.first or observation.time
    if observation.kind != DELETED:
        history.sessions += 1
        history.last_session = observation.time
        history.starts = [*history.starts[-63:], observation.time]
        count_start(history, observation.time, limits.rate_half_life)
        _mark_peak(fold, observation.time)
    return Session(
        observation.context, 0, 0, observation.time, observation.time, 0, 0, 0, None, None,
        UNKNOWN, context.created_at, 0, 0, 0.0, 0, 0, [(observation.time, observation.context)],
    )  # fmt: skip


def is_live(session: Session, now: int) -> bool:
    """Tell whether a session is neither deleted nor past its sliding expiry at `now`."""
    return not session.ended and (not session.expires or now <= session.expires)


def live_sessions(fold: Fold, now: int) -> int:
    """Count the sessions that are live at `now`."""
    # Every start asks, of up to 64 sessions: `is_live` is written out here and in `_make_room`.
    return len([1 for each in fold.sessions.values() if not each.ended and (not each.expires or now <= each.expires)])


def _mark_peak(fold: Fold, now: int) -> None:
    live = 1 + live_sessions(fold, now)
    peaks, day = fold.history.peaks, now // DAY
    if peaks and peaks[-1][0] == day:
        peaks[-1] = (day, max(peaks[-1][1], live))
    else:
        fold.history.peaks = [*peaks[-13:], (day, live)]


def _make_room(fold: Fold, limits: Limits) -> Sequence[tuple[str, Session]]:
    """Forget sessions long over, then, if still too many, the one least alive; return the live ones put out."""
    now, horizon = fold.time, fold.time - limits.ended_memory
    over = [uid for uid, each in fold.sessions.items() if (each.ended or each.expires or now) < horizon]
    for uid in over:
        del fold.sessions[uid]
    if len(fold.sessions) < limits.sessions:
        return ()
    live, _, uid = min([
        (not each.ended and (not each.expires or now <= each.expires), each.seen, uid)
        for uid, each in fold.sessions.items()
    ])  # fmt: skip
    session = fold.sessions.pop(uid)
    fold.opened().dropped += 1
    return ((uid, session),) if live else ()


def _advance(
    fold: Fold, session: Session, observation: Observation, context: Context, trigger: int, owner: Owner
) -> None:
    if trigger & GRANT and context.aud is None:
        session.aud = owner.contexts[session.context].aud or session.aud
    if trigger & (NETWORK | DEVICE) and _moved(owner.contexts[session.context], context):
        session.trail = [*session.trail[1 - owner.limits.trail :], (observation.time, observation.context)]
    session.context = observation.context
    if not context.network.prefix:
        pass  # an unknown network between two known ones does not hide that they differ
    elif context.network.family == 4:
        session.v4 = observation.context
    else:
        session.v6 = observation.context
    if trigger & (START | GRANT):
        _grant_to(session, context)
    session.activity = max(session.activity, observation.activity)
    if session.max_age_minutes is not None:
        session.expires = session.activity + int(session.max_age_minutes * 60_000)
    place = context.place
    if is_trusted_place(context) and observation.activity >= fold.place[1]:
        fold.place = (observation.context, observation.activity, place.latitude or 0.0, place.longitude or 0.0)


def _moved(before: Context, after: Context) -> bool:
    return network_key(before.network) != network_key(after.network) or before.device != after.device


def _grant_to(session: Session, context: Context) -> None:
    if context.scopes is not None:
        session.scopes = tuple(sorted({*(session.scopes or ()), *context.scopes}))
    if context.max_age_minutes is not None:
        session.max_age_minutes = context.max_age_minutes
    session.strength = max(session.strength, strength(context.amr))
    session.created = max(session.created, context.created_at)


def _judged(
    fold: Fold, session: Session, observation: Observation, view: View, verdicts: Sequence[Verdict], owner: Owner
) -> list[str]:
    """Group the verdicts on an event; when they take the session's risk over a threshold, judge that as well."""
    half_life, now, threshold = owner.limits.risk_half_life, observation.time, owner.judge.policy.risk_threshold
    before = decayed(session.risk, now - session.risk_at, half_life)
    groups = [_group(fold, session, observation, verdict, owner) for verdict in verdicts]
    after = decayed(session.risk, now - session.risk_at, half_life)
    crossed = after >= threshold and (before < threshold or before < CRITICAL <= after)
    if crossed and RISK & owner.judge.triggers:
        view.trigger, view.verdicts, view.risk = Trigger.RISK, verdicts, after
        groups += [_group(fold, session, observation, verdict, owner, sums_up=True) for verdict in owner.judge(view)]
    return groups


def _group(
    fold: Fold, session: Session, observation: Observation, verdict: Verdict, owner: Owner, *, sums_up: bool = False
) -> str:
    """Put a verdict to its like; what only sums up others adds nothing to the risk."""
    limits, now = owner.limits, observation.time
    bucket = now - now % limits.grouping
    holder = verdict.owner or f"user:{owner.user_id}"
    uid = finding_uid(owner.tenant_id, verdict.detection, holder, verdict.subject, bucket)
    group = fold.groups.get(uid)
    if group is None:
        session.findings += 1
        if not sums_up:
            _alarm(fold, session, verdict, now, limits)
        fold.groups[uid] = _new_group(verdict, observation, bucket, owner.contexts)
        _bound_groups(fold, limits)
    else:
        group.last = now
        group.count += 1
        if verdict.severity > group.severity:
            group.news = group.count
        if group.suppressed_by and not verdict.suppressed_by:
            _unsuppress(group, verdict, observation, owner.contexts)
            _alarm(fold, session, verdict, now, limits)
        group.severity = max(group.severity, verdict.severity)
        group.score = max(group.score, verdict.score)
    return uid


def _unsuppress(group: Group, verdict: Verdict, observation: Observation, contexts: Contexts) -> None:
    """Let the first occurrence that nothing excuses speak for the group."""
    group.suppressed_by, group.news = (), group.count
    group.summary, group.evidence = verdict.summary, verdict.evidence
    group.context, group.before = observation.context, contexts.number(verdict.before)


def _new_group(verdict: Verdict, observation: Observation, bucket: int, contexts: Contexts) -> Group:
    before = contexts.number(verdict.before)
    return Group(
        verdict.detection, verdict.owner, verdict.subject, bucket, observation.time, observation.time, 1,
        verdict.severity, verdict.score, verdict.summary, verdict.evidence, verdict.suppressed_by,
        observation.context, before,
    )  # fmt: skip


def _bound_groups(fold: Fold, limits: Limits) -> None:
    if len(fold.groups) > limits.groups:
        oldest = min(fold.groups, key=lambda uid: (fold.groups[uid].last, uid))
        del fold.groups[oldest]
        fold.opened().dropped += 1


def _alarm(fold: Fold, session: Session, verdict: Verdict, now: int, limits: Limits) -> None:
    if verdict.suppressed_by:
        return
    session.risk = raised(decayed(session.risk, now - session.risk_at, limits.risk_half_life), verdict.score)
    session.risk_at = now
    fold.risk = raised(decayed(fold.risk, now - fold.risk_at, limits.risk_half_life), verdict.score)
    fold.risk_at = now
    if verdict.severity >= Severity.MEDIUM:
        session.alarmed = now
