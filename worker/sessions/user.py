"""A user's events in their place: in-order events step the head on, late ones fold it anew from the base."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from schemas.finding import Activity
from worker.enrich.model import is_anonymiser
from worker.sessions.fold import Owner, is_country_alone, step
from worker.sessions.history import is_learned, network_key
from worker.sessions.limits import DAY
from worker.sessions.risk import decayed
from worker.sessions.state import (
    DELETED,
    KIND_INDEX,
    NEVER,
    Contexts,
    Observation,
    decode_fold,
    encode_context,
    encode_fold,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.event import SessionEvent
    from worker.enrich.model import Device, Network, Place
    from worker.sessions.limits import Limits
    from worker.sessions.state import Fold, Group, Session, User
    from worker.sessions.view import Judge


class Change(NamedTuple):
    """A finding that came, grew or went.

    Attributes:
        is_news: more than its count and its last occurrence changed.
    """

    uid: str
    activity: Activity
    group: Group
    is_news: bool = True


class Applied(NamedTuple):
    """What applying one event did.

    Attributes:
        late: it came later than the allowed lateness and was not judged.
        duplicate: the same event was applied before.
        current: the event is the newest of its session, which lives: its own row tells the session's state.
        sessions: uids of other sessions whose state changed. `evicted`: sessions put out for want of room.
        started: what is to be announced of a session that began, None when none did.
    """

    late: bool
    duplicate: bool
    current: bool
    changes: Sequence[Change]
    sessions: Sequence[str]
    evicted: Sequence[tuple[str, Session]]
    started: Started | None = None


class Started(NamedTuple):
    """What the user's history says of the start of a session, as of the newest event applied.

    Attributes:
        has_history: there were sessions before. `is_learned`: so many that the user's networks are known.
        is_new: none of them from this autonomous system.
    """

    has_history: bool
    is_learned: bool
    is_new: bool


LATE = Applied(late=True, duplicate=False, current=False, changes=(), sessions=(), evicted=())
DUPLICATE = LATE._replace(late=False, duplicate=True)
ROUTINE = LATE._replace(late=False, current=True)


def apply(
    user: User, event: SessionEvent, seen: tuple[Network, Place, Device], judge: Judge, limits: Limits
) -> Applied:
    """Apply one event to a user's state, in place."""
    user.applied += 1
    head, time, uid = user.head, event.event_time, event.session_uid
    if time < head.time - limits.lateness or time <= user.base_time:
        return LATE
    encoded = _encode_context(event, seen)
    activity = event.activity_time or 0
    if time > head.time and _routine(user, event, seen, encoded, limits):
        _touch(user, uid, limits)
        return ROUTINE
    started = None if uid in head.sessions or event.is_deleted else _started(user, seen[0], time)
    context = intern(user, uid, encoded)
    observation = Observation(time, activity, KIND_INDEX[event.kind], context, event.future_by)
    owner = Owner(user.tenant_id, user.user_id, Contexts(user.contexts), judge, limits)
    applied = _in_order(user, observation, uid, owner) if time > head.time else _out_of_order(user, observation, owner)
    return applied if started is None else applied._replace(started=started)


def _touch(user: User, uid: str, limits: Limits) -> None:
    """Note that a session changed: by this alone, not by when somebody looks, is its row in `sessions` determined.

    If its expiry was reported it will be again, for its row has changed.
    """
    user.touched[uid] = (user.applied, user_risk(user, user.head.sessions[uid].seen, limits))
    if user.timed_out:
        user.timed_out.pop(uid, None)


def user_risk(user: User, now: int, limits: Limits) -> float:
    """Return a user's risk at `now`, milliseconds."""
    head = user.head
    return decayed(head.risk, now - head.risk_at, limits.risk_half_life) if head.risk else 0.0


def _started(user: User, network: Network, now: int) -> Started:
    history = user.head.history
    is_new = bool(network.asn) and network_key(network) not in history.networks
    return Started(history.sessions > 0, is_learned(history, now), is_new)


def _encode_context(event: SessionEvent, seen: tuple[Network, Place, Device]) -> bytes:
    network, place, device = seen
    return encode_context(
        (
            event.session_uid, network, place, device, event.scopes, event.amr, event.aud,
            event.session_type, event.max_age_minutes, event.created_at or 0, event.listed,
        )
    )  # fmt: skip


def _routine(
    user: User, event: SessionEvent, seen: tuple[Network, Place, Device], encoded: bytes, limits: Limits
) -> bool:
    """Take in an event that changes nothing but times, the bulk of all traffic; tell whether it was one.

    What it does is what `fold.step` would do, at a fraction of the cost; a test holds the two together.
    """
    head, time, activity = user.head, event.event_time, event.activity_time or 0
    session = head.sessions.get(event.session_uid)
    if session is None or user.contexts[session.context] != encoded or session.ended or session.alarmed:
        return False
    place, where = seen[1], head.place
    trusted = place.latitude is not None and not is_anonymiser(seen[0].kind)
    if (
        event.is_deleted
        or event.future_by
        or head.waiting
        or time >= user.rotate_at
        or (user.window_size + 1) * (1 if user.middle else 2) >= limits.window
        or time // DAY != session.seen // DAY
        or (session.expires and activity > session.expires + limits.skew)
        or 0 < activity < (event.created_at or 0) - limits.skew
        or (trusted and where[0] and (where[2] != place.latitude or where[3] != place.longitude))
        or is_country_alone(head, place, seen[0])
    ):
        return False
    user.append(Observation(time, activity, KIND_INDEX[event.kind], session.context, 0))
    head.time = session.seen = time
    session.events += 1
    session.activity = max(session.activity, activity)
    if session.max_age_minutes is not None:
        session.expires = session.activity + int(session.max_age_minutes * 60_000)
    if trusted and activity >= where[1]:
        head.place = (session.context, activity, place.latitude or 0.0, place.longitude or 0.0)
    return True


def intern(user: User, uid: str, encoded: bytes) -> int:
    """Return the number of an encoded context, remembering it if it is new."""
    session = user.head.sessions.get(uid)
    if session is not None and user.contexts[session.context] == encoded:
        return session.context
    for key, known in user.contexts.items():
        if known == encoded:
            return key
    key = user.next_context
    user.next_context += 1
    user.contexts[key] = encoded
    return key


def _in_order(user: User, observation: Observation, uid: str, owner: Owner) -> Applied:
    user.append(observation)
    done = step(user.head, observation, owner)
    _rotate(user, owner, {session.context for _, session in done.evicted})
    changes: Sequence[Change] = ()
    if done.groups:
        groups = user.head.groups
        changes = [_grown(key, groups[key]) for key in dict.fromkeys(done.groups) if key in groups]
    _touch(user, uid, owner.limits)
    current = observation.kind != DELETED and not user.head.sessions[uid].ended
    sessions = () if current else (uid,)
    return Applied(False, False, current, changes, sessions, done.evicted)


def _grown(uid: str, group: Group) -> Change:
    activity = Activity.CREATE if group.count == 1 else Activity.UPDATE
    return Change(uid, activity, group, group.count == group.news)


def _out_of_order(user: User, observation: Observation, owner: Owner) -> Applied:
    window, contexts = user.observations(), owner.contexts
    place = bisect_left(window, _order(observation, contexts), key=lambda other: _order(other, contexts))
    if place < len(window) and window[place] == observation:
        return DUPLICATE
    window.insert(place, observation)
    user.keep(window)
    old, user.head = user.head, _refold(user, window, observation.time, owner)
    _prune(user.head, user.base_time, owner.limits)
    new = user.head.sessions
    changed = [uid for uid, session in new.items() if old.sessions.get(uid) != session]
    for uid in changed:
        _touch(user, uid, owner.limits)
    evicted = [(uid, session) for uid, session in old.sessions.items() if uid not in new]
    changes = _difference(old.groups, user.head.groups)
    _rotate(user, owner, _told(evicted, changes))
    return Applied(False, False, False, changes, changed, evicted)


def _order(observation: Observation, contexts: Contexts) -> tuple[int, bytes]:
    """Order by event time; among equals by content, so that the order of arrival has no say."""
    return observation.time, encode_context(
        (observation.kind, observation.activity, observation.future_by, contexts[observation.context])
    )


def _refold(user: User, window: Sequence[Observation], since: int, owner: Owner) -> Fold:
    """Return the fold of everything, of which what is before `since` is as it was."""
    if user.middle and since > user.middle_time:
        fold = decode_fold(user.middle)
        for observation in window:
            if observation.time > user.middle_time:
                step(fold, observation, owner)
        return fold
    fold = decode_fold(user.base)
    middle = None
    for observation in window:
        if middle is None and user.middle and observation.time > user.middle_time:
            user.middle = middle = encode_fold(fold)
        step(fold, observation, owner)
    if middle is None and user.middle:
        user.middle = encode_fold(fold)
    return fold


def is_news(old: Group | None, new: Group) -> bool:
    """Tell whether more than a finding's count and its last occurrence changed."""
    return old is None or (old.first, old.severity, old.score, old.suppressed_by, old.evidence) != (
        new.first, new.severity, new.score, new.suppressed_by, new.evidence,
    )  # fmt: skip


def _difference(old: dict[str, Group], new: dict[str, Group]) -> list[Change]:
    changes = [
        Change(uid, Activity.CREATE if uid not in old else Activity.UPDATE, group, is_news(old.get(uid), group))
        for uid, group in new.items()
        if old.get(uid) != group
    ]
    changes += [Change(uid, Activity.CLOSE, group) for uid, group in old.items() if uid not in new]
    return changes


def _told(evicted: Sequence[tuple[str, Session]], changes: Sequence[Change]) -> set[int]:
    """Return the contexts of what has left the state and is still to be told of."""
    groups = [(change.group.context, change.group.before) for change in changes]
    return {number for pair in groups for number in pair} | {session.context for _, session in evicted}


def _rotate(user: User, owner: Owner, told: set[int]) -> None:
    """Move the base on when nothing admissible can come before the middle, or the window is full; keep contexts told.

    The middle is taken when the window is half full, so that half of it stays when the base moves there. Late events
    fill the half before it; when less than a quarter would stay, the base is folded anew up to the half.
    """
    limits = owner.limits
    if not user.middle:
        if user.rotate_at == NEVER:
            user.rotate_at = user.observations()[0].time + limits.lateness
        if user.head.time >= user.rotate_at or user.window_size * 2 >= limits.window:
            _set_middle(user, limits)
        return
    if user.head.time < user.rotate_at and user.window_size < limits.window:
        return
    window = user.observations()
    kept = [each for each in window if each.time > user.middle_time]
    if user.head.time < user.rotate_at and len(kept) * 4 < limits.window:
        kept = _move_base(user, window, window[len(window) // 2 - 1].time, owner)
    else:
        user.base, user.base_time = user.middle, user.middle_time
    user.keep(kept)
    _prune(user.head, user.base_time, limits)
    user.middle, user.rotate_at = b"", NEVER
    if user.head.time >= user.base_time + limits.lateness or user.window_size * 2 >= limits.window or not kept:
        _set_middle(user, limits)
    else:
        user.rotate_at = kept[0].time + limits.lateness
    _collect(user, told)


def _set_middle(user: User, limits: Limits) -> None:
    user.middle, user.middle_time = encode_fold(user.head), user.head.time
    user.rotate_at = user.middle_time + limits.lateness + 1


def _move_base(user: User, window: Sequence[Observation], time: int, owner: Owner) -> list[Observation]:
    """Move the base to a time within the window; return what is later."""
    fold = decode_fold(user.base)
    for observation in window:
        if observation.time <= time:
            step(fold, observation, owner)
    _prune(fold, time, owner.limits)
    user.base, user.base_time = encode_fold(fold), time
    return [observation for observation in window if observation.time > time]


def _prune(fold: Fold, base_time: int, limits: Limits) -> None:
    """Let go of findings that no admissible event can change any more."""
    if fold.groups:
        old = [uid for uid, group in fold.groups.items() if group.bucket + limits.grouping <= base_time]
        for uid in old:
            del fold.groups[uid]


def _collect(user: User, told: set[int]) -> None:
    """Forget contexts nobody refers to."""
    used = told | {observation.context for observation in user.observations()}
    for fold in (user.head, decode_fold(user.base), decode_fold(user.middle)):
        used.update(_references(fold))
    user.contexts = {key: context for key, context in user.contexts.items() if key in used}
    user.timed_out = {uid: at for uid, at in user.timed_out.items() if uid in user.head.sessions}
    user.touched = {uid: touched for uid, touched in user.touched.items() if uid in user.head.sessions}


def _references(fold: Fold) -> set[int]:
    used = {fold.place[0], *(waiting.context for waiting in fold.waiting)}
    for session in fold.sessions.values():
        used.update((session.context, session.v4, session.v6), (context for _, context in session.trail))
    for group in fold.groups.values():
        used.update((group.context, group.before))
    return used


def expired(user: User, now: int, limits: Limits) -> list[str]:
    """Return the sessions whose expiry passed by `now` and was not reported yet; they count as reported."""
    found = [
        uid
        for uid, session in user.head.sessions.items()
        if _pending_expiry(user, uid, session) and session.expires + limits.skew < now
    ]
    for uid in found:
        user.timed_out[uid] = user.head.sessions[uid].expires
    return found


def _pending_expiry(user: User, uid: str, session: Session) -> bool:
    return bool(session.expires) and not session.ended and user.timed_out.get(uid) != session.expires


def is_forgotten(user: User, now: int, limits: Limits) -> bool:
    """Tell whether the user was idle for so long that nothing need be remembered."""
    return user.head.time + limits.idle_memory < now


def wake_time(user: User, limits: Limits) -> int:
    """Return when the user's state next needs a look although no event may come, in milliseconds."""
    # `_pending_expiry` written out: this is asked of every user a batch touches.
    first, timed_out = NEVER, user.timed_out
    for uid, session in user.head.sessions.items():
        expires = session.expires
        if expires and expires < first and not session.ended and timed_out.get(uid) != expires:
            first = expires
    return min(first + limits.skew, user.head.time + limits.idle_memory) + 1
