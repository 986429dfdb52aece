"""Applies a user's events in event-time order, whatever their order of arrival.

An event that is newer than all others is applied to the current profile. A late event is inserted at its place, and
the events after it are folded again, from the midpoint or the checkpoint.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from schemas.finding import Activity
from worker.enrich.model import is_own_place
from worker.sessions.codec import NEVER
from worker.sessions.fold import (
    FoldContext,
    deadline,
    expiry,
    forget_session,
    is_country_alone,
    is_gateway,
    is_live,
    step,
)
from worker.sessions.limits import DAY
from worker.sessions.risk import decayed
from worker.sessions.state import (
    DELETED,
    KIND_INDEX,
    Contexts,
    Observation,
    decode_profile,
    encode_context,
    encode_profile,
    unpacked,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schemas.event import SessionEvent
    from schemas.policy import TenantPolicy
    from worker.enrich.model import Enrichment
    from worker.sessions.contracts import RuleEngine
    from worker.sessions.limits import Limits
    from worker.sessions.state import Context, OpenFinding, Profile, Session, StartHistory, User


class FindingChange(NamedTuple):
    """A finding that was created, updated or closed, and the user it is about; `""` when it is about the tenant only.

    Attributes:
        is_material: whether more than its count and its last occurrence changed.
    """

    tenant_id: str
    user_id: str
    uid: str
    activity: Activity
    finding: OpenFinding
    is_material: bool = True


class StartedSession(NamedTuple):
    """The start of a session, to be announced to the correlation stage.

    Attributes:
        time: event time. `replaces`: the start time that was announced before; 0 for none.
        context: context of the first event.
    """

    uid: str
    time: int
    history: StartHistory
    context: Context
    replaces: int


class Applied(NamedTuple):
    """Result of applying one event.

    Attributes:
        late: the event exceeds the allowed lateness and was not judged.
        duplicate: the same event was applied before.
        current: the event is the newest of a live session: the row of the event holds the session's state.
        changes: findings that were created, updated or closed.
        sessions: uids of sessions whose state changed and that need a row of their own.
        evicted: sessions removed because the state was full.
        started: sessions that began, or whose announced start a late event changed.
        truncated: the user's state exceeded its bound in bytes and was shrunk.
    """

    late: bool
    duplicate: bool
    current: bool
    changes: Sequence[FindingChange]
    sessions: Sequence[str]
    evicted: Sequence[tuple[str, Session]]
    started: Sequence[StartedSession] = ()
    truncated: bool = False


LATE = Applied(late=True, duplicate=False, current=False, changes=(), sessions=(), evicted=())
DUPLICATE = LATE._replace(late=False, duplicate=True)
ROUTINE = LATE._replace(late=False, current=True)


def apply(user: User, event: SessionEvent, known: Enrichment, engine: RuleEngine, limits: Limits) -> Applied:
    """Apply one event to a user's state, in place."""
    user.applied += 1
    profile, time, uid = user.current, event.event_time, event.session_uid
    if time < profile.time - limits.allowed_lateness or time <= user.checkpoint_time:
        return LATE
    encoded = _encode_context(event, known)
    activity = event.activity_time or 0
    if time > profile.time and _routine(user, event, known, encoded, engine, limits):
        _touch(user, uid, limits)
        return ROUTINE
    contexts = user.next_context
    context = intern(user, uid, encoded)
    observation = Observation(time, activity, KIND_INDEX[event.kind], context, event.future_by)
    fold_context = FoldContext(user.tenant_id, user.user_id, Contexts(user.contexts), engine, limits)
    applied = (
        _in_order(user, observation, uid, fold_context)
        if time > profile.time
        else _out_of_order(user, observation, fold_context)
    )
    if user.next_context != contexts and _is_oversized(user, limits):
        applied = _truncated(user, applied, limits)
    return applied


def _is_oversized(user: User, limits: Limits) -> bool:
    return sum(map(len, user.contexts.values())) > limits.context_bytes


def _truncated(user: User, applied: Applied, limits: Limits) -> Applied:
    """Shrink a state that exceeds its bound: drop the window first, then half of the findings and sessions at a time.

    Only contexts can be made large by producers; everything else is small and bounded in number. An event that is older
    than the new checkpoint is late: it is stored and not judged. A live session that is removed is reported as evicted.
    """
    evicted, profile = list(applied.evicted), user.current
    while True:
        user.checkpoint, user.checkpoint_time = encode_profile(profile), profile.time
        user.keep([])
        user.midpoint, user.rotate_at = b"", NEVER
        _collect(user, _reported(evicted, applied.changes))
        if not _is_oversized(user, limits) or len(profile.sessions) <= 1:
            return applied._replace(evicted=evicted, truncated=True)
        evicted += _halve(profile, limits)


def _halve(profile: Profile, limits: Limits) -> list[tuple[str, Session]]:
    """Remove half of the sessions, findings and pending observations, the oldest first; return the live sessions.

    Ended and expired sessions are removed before live ones.
    """
    sessions, now = profile.sessions, profile.time
    order = sorted(sessions, key=lambda uid: (is_live(sessions[uid], now), sessions[uid].seen, uid))
    gone = [(uid, forget_session(profile, uid, limits)) for uid in order[: (len(order) + 1) // 2]]
    findings = profile.open_findings
    for uid in sorted(findings, key=lambda uid: (findings[uid].last, uid))[: (len(findings) + 1) // 2]:
        del findings[uid]
    profile.waiting = profile.waiting[(len(profile.waiting) + 1) // 2 :]
    profile.opened().dropped += len(gone)
    return [(uid, session) for uid, session in gone if is_live(session, now)]


def _touch(user: User, uid: str, limits: Limits) -> None:
    """Record that a session changed. Its row in `sessions` depends only on this, not on when the row is written.

    If the session's expiry was reported, it will be reported again, because the row has changed.
    """
    user.touched[uid] = (user.applied, user_risk(user, user.current.sessions[uid].seen, limits))
    if user.timed_out:
        user.timed_out.pop(uid, None)


def user_risk(user: User, now: int, limits: Limits) -> float:
    """Return the user's risk at `now`, in milliseconds."""
    profile = user.current
    return decayed(profile.risk, now - profile.risk_at, limits.risk_half_life) if profile.risk else 0.0


def _started(user: User, observation: Observation, uid: str, contexts: Contexts) -> StartedSession:
    history = unpacked(user.current.sessions[uid].history)
    return StartedSession(uid, observation.time, history, contexts[observation.context], 0)


def _changed_starts(
    old: Profile, new: Profile, window: Sequence[Observation], contexts: Contexts
) -> Iterator[StartedSession]:
    """Yield the sessions whose start, or its history, differs from the one announced because of a late event."""
    for uid, session in new.sessions.items():
        known = old.sessions.get(uid)
        if not session.history or (known and (known.started, known.history) == (session.started, session.history)):
            continue
        first = next((each for each in window if contexts[each.context].uid == uid), None)
        if first is not None:
            replaces = known.started if known and known.history else 0
            history, context = unpacked(session.history), contexts[first.context]
            yield StartedSession(uid, session.started, history, context, replaces)


def _encode_context(event: SessionEvent, known: Enrichment) -> bytes:
    network, place, device = known
    return encode_context(
        (
            event.session_uid, network, place, device, event.scopes, event.amr, event.aud,
            event.session_type, event.max_age_minutes, event.created_at or 0, event.listed,
        )
    )  # fmt: skip


def _routine(
    user: User, event: SessionEvent, known: Enrichment, encoded: bytes, engine: RuleEngine, limits: Limits
) -> bool:
    """Apply an event if it changes nothing but times, as most events do; return whether it was such an event.

    The effect is that of `fold.step`, at a fraction of the cost. A test compares the two.
    """
    profile, time, activity = user.current, event.event_time, event.activity_time or 0
    session = profile.sessions.get(event.session_uid)
    if session is None or user.contexts[session.context] != encoded or session.ended or session.alarmed:
        return False
    place, where = known.place, profile.place
    trusted = is_own_place(known.network, place)
    if (
        event.is_deleted
        or event.future_by
        or profile.waiting
        or time >= user.rotate_at
        or (user.window_size + 1) * (1 if user.midpoint else 2) >= limits.window
        or time // DAY != session.seen // DAY
        or (session.expires and activity > session.expires + limits.clock_skew)
        or 0 < activity < (event.created_at or 0) - limits.clock_skew
        or (trusted and where[0] and (where[2] != place.latitude or where[3] != place.longitude))
        or is_country_alone(profile, place, known.network)
    ):
        return False
    user.append(Observation(time, activity, KIND_INDEX[event.kind], session.context, 0))
    profile.time = session.seen = time
    session.events += 1
    session.activity = max(session.activity, activity)
    if session.max_age_minutes:
        session.expires = expiry(session, engine.policy.expiry)
    if trusted and activity >= where[1] and not _is_gateway(user, session, engine.policy):
        profile.place = (session.context, activity, place.latitude or 0.0, place.longitude or 0.0)
    return True


def _is_gateway(user: User, session: Session, policy: TenantPolicy) -> bool:
    # A fast path before `fold.is_gateway`: most tenants have no such lists.
    if not (policy.allowed_networks or policy.allowed_asns):
        return False
    return is_gateway(Contexts(user.contexts)[session.context], policy)


def intern(user: User, uid: str, encoded: bytes) -> int:
    """Return the number of an encoded context; a new context is added to the state."""
    session = user.current.sessions.get(uid)
    if session is not None and user.contexts[session.context] == encoded:
        return session.context
    for key, known in user.contexts.items():
        if known == encoded:
            return key
    key = user.next_context
    user.next_context += 1
    user.contexts[key] = encoded
    return key


def _in_order(user: User, observation: Observation, uid: str, fold_context: FoldContext) -> Applied:
    user.append(observation)
    is_start = uid not in user.current.sessions and observation.kind != DELETED
    done = step(user.current, observation, fold_context)
    _rotate(user, fold_context, {session.context for _, session in done.evicted})
    changes: Sequence[FindingChange] = ()
    if done.findings:
        found = user.current.open_findings
        changes = [_repeated(user, uid, found[uid]) for uid in dict.fromkeys(done.findings) if uid in found]
    _touch(user, uid, fold_context.limits)
    current = observation.kind != DELETED and not user.current.sessions[uid].ended
    sessions = () if current else (uid,)
    started = (_started(user, observation, uid, fold_context.contexts),) if is_start else ()
    return Applied(False, False, current, changes, sessions, done.evicted, started)


def _out_of_order(user: User, observation: Observation, fold_context: FoldContext) -> Applied:
    window, contexts = user.observations(), fold_context.contexts
    place = bisect_left(window, _order(observation, contexts), key=lambda other: _order(other, contexts))
    if place < len(window) and window[place] == observation:
        return DUPLICATE
    window.insert(place, observation)
    user.keep(window)
    old, user.current = user.current, _fold_again(user, window, observation.time, fold_context)
    _prune(user.current, user.checkpoint_time, fold_context.limits)
    new = user.current.sessions
    changed = [uid for uid, session in new.items() if old.sessions.get(uid) != session]
    for uid in changed:
        _touch(user, uid, fold_context.limits)
    evicted = [(uid, session) for uid, session in old.sessions.items() if uid not in new]
    changes = _difference(user, old.open_findings)
    _rotate(user, fold_context, _reported(evicted, changes))
    started = tuple(_changed_starts(old, user.current, window, contexts))
    return Applied(False, False, False, changes, changed, evicted, started)


def _repeated(user: User, uid: str, finding: OpenFinding) -> FindingChange:
    """Return the change of a finding by one more occurrence."""
    activity = Activity.CREATE if finding.count == 1 else Activity.UPDATE
    return FindingChange(
        user.tenant_id, user.user_id, uid, activity, finding, finding.count == finding.changed_at_count
    )


def is_material(old: OpenFinding | None, new: OpenFinding) -> bool:
    """Return whether more than a finding's count and its last occurrence changed."""
    return old is None or (old.first, old.severity, old.score, old.suppressed_by, old.evidence) != (
        new.first, new.severity, new.score, new.suppressed_by, new.evidence,
    )  # fmt: skip


def _change(user: User, uid: str, activity: Activity, finding: OpenFinding) -> FindingChange:
    return FindingChange(user.tenant_id, user.user_id, uid, activity, finding)


def _order(observation: Observation, contexts: Contexts) -> tuple[int, bytes]:
    """Return the sort key of an observation: event time, then content, so that the order of arrival has no effect."""
    return observation.time, encode_context(
        (observation.kind, observation.activity, observation.future_by, contexts[observation.context])
    )


def _fold_again(user: User, window: Sequence[Observation], since: int, fold_context: FoldContext) -> Profile:
    """Return the profile after the whole window. Observations before `since` have not changed since the last fold."""
    if user.midpoint and since > user.midpoint_time:
        profile = decode_profile(user.midpoint)
        for observation in window:
            if observation.time > user.midpoint_time:
                step(profile, observation, fold_context)
        return profile
    profile = decode_profile(user.checkpoint)
    midpoint = None
    for observation in window:
        if midpoint is None and user.midpoint and observation.time > user.midpoint_time:
            user.midpoint = midpoint = encode_profile(profile)
        step(profile, observation, fold_context)
    if midpoint is None and user.midpoint:
        user.midpoint = encode_profile(profile)
    return profile


def _difference(user: User, old: dict[str, OpenFinding]) -> list[FindingChange]:
    """Return the changes from the open findings `old` to the user's present ones."""
    new = user.current.open_findings
    changes = [
        _change(user, uid, Activity.CREATE if uid not in old else Activity.UPDATE, finding)._replace(
            is_material=is_material(old.get(uid), finding)
        )
        for uid, finding in new.items()
        if old.get(uid) != finding
    ]
    changes += [_change(user, uid, Activity.CLOSE, finding) for uid, finding in old.items() if uid not in new]
    return changes


def _reported(evicted: Sequence[tuple[str, Session]], changes: Sequence[FindingChange]) -> set[int]:
    """Return the contexts of evicted sessions and changed findings, which are still needed to write their rows."""
    pairs = [(change.finding.context, change.finding.before) for change in changes]
    return {number for pair in pairs for number in pair} | {session.context for _, session in evicted}


def _rotate(user: User, fold_context: FoldContext, reported: set[int]) -> None:
    """Move the checkpoint forward when every admissible event is after the midpoint, or when the window is full.

    The midpoint is taken when the window is half full, so that half of the window remains after the checkpoint has
    moved there. Late events fill the half before the midpoint. If less than a quarter would remain, the profile is
    folded up to the middle of the window instead. Contexts in `reported` are kept.
    """
    limits = fold_context.limits
    if not user.midpoint:
        if user.rotate_at == NEVER:
            user.rotate_at = user.observations()[0].time + limits.allowed_lateness
        if user.current.time >= user.rotate_at or user.window_size * 2 >= limits.window:
            _set_midpoint(user, limits)
        return
    if user.current.time < user.rotate_at and user.window_size < limits.window:
        return
    window = user.observations()
    kept = [each for each in window if each.time > user.midpoint_time]
    if user.current.time < user.rotate_at and len(kept) * 4 < limits.window:
        kept = _move_checkpoint(user, window, window[len(window) // 2 - 1].time, fold_context)
    else:
        user.checkpoint, user.checkpoint_time = user.midpoint, user.midpoint_time
    user.keep(kept)
    _prune(user.current, user.checkpoint_time, limits)
    user.midpoint, user.rotate_at = b"", NEVER
    if (
        user.current.time >= user.checkpoint_time + limits.allowed_lateness
        or user.window_size * 2 >= limits.window
        or not kept
    ):
        _set_midpoint(user, limits)
    else:
        user.rotate_at = kept[0].time + limits.allowed_lateness
    _collect(user, reported)


def _set_midpoint(user: User, limits: Limits) -> None:
    user.midpoint, user.midpoint_time = encode_profile(user.current), user.current.time
    user.rotate_at = user.midpoint_time + limits.allowed_lateness + 1


def _move_checkpoint(
    user: User, window: Sequence[Observation], time: int, fold_context: FoldContext
) -> list[Observation]:
    """Move the checkpoint to a time within the window; return the later observations."""
    profile = decode_profile(user.checkpoint)
    for observation in window:
        if observation.time <= time:
            step(profile, observation, fold_context)
    _prune(profile, time, fold_context.limits)
    user.checkpoint, user.checkpoint_time = encode_profile(profile), time
    return [observation for observation in window if observation.time > time]


def _prune(profile: Profile, checkpoint_time: int, limits: Limits) -> None:
    """Remove the findings that no admissible event can change any more."""
    if profile.open_findings:
        old = [
            uid for uid, finding in profile.open_findings.items() if finding.bucket + limits.grouping <= checkpoint_time
        ]
        for uid in old:
            del profile.open_findings[uid]


def _collect(user: User, reported: set[int]) -> None:
    """Remove unreferenced contexts, and what is kept of sessions that are no longer in the state."""
    used = reported | {observation.context for observation in user.observations()}
    for profile in (user.current, decode_profile(user.checkpoint), decode_profile(user.midpoint)):
        used.update(_references(profile))
    user.contexts = {key: context for key, context in user.contexts.items() if key in used}
    user.timed_out = {uid: at for uid, at in user.timed_out.items() if uid in user.current.sessions}
    user.touched = {uid: touched for uid, touched in user.touched.items() if uid in user.current.sessions}


def _references(profile: Profile) -> set[int]:
    used = {profile.place[0], *(waiting.context for waiting in profile.waiting)}
    for session in profile.sessions.values():
        used.update((session.context, session.v4, session.v6), (context for _, context in session.trail))
    for finding in profile.open_findings.values():
        used.update((finding.context, finding.before))
    return used


def expired(user: User, now: int, limits: Limits) -> list[str]:
    """Return the sessions whose deadline has passed at `now` and was not reported yet, and mark them as reported."""
    found = [
        uid
        for uid, session in user.current.sessions.items()
        if not session.ended and user.timed_out.get(uid) != (end := deadline(session)) and end + limits.clock_skew < now
    ]
    for uid in found:
        user.timed_out[uid] = deadline(user.current.sessions[uid])
    return found


def is_forgotten(user: User, now: int, limits: Limits) -> bool:
    """Return whether the user has been idle for longer than `idle_ttl`, so that the state is deleted."""
    return user.current.time + limits.idle_ttl < now


def next_timer(user: User, limits: Limits) -> int:
    """Return the time of the state's next timer, in milliseconds: a session expires or the user is idle."""
    # Called for every user that a batch touches.
    first, timed_out = NEVER, user.timed_out
    for uid, session in user.current.sessions.items():
        expires = session.expires or deadline(session)
        if expires < first and not session.ended and timed_out.get(uid) != expires:
            first = expires
    return min(first + limits.clock_skew, user.current.time + limits.idle_ttl) + 1
