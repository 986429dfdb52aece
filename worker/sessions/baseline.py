"""What is usual for a user: counters with decay, fed only by observations nobody has reason to doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.enrich.model import is_anonymiser
from worker.sessions.limits import DAY, MINUTE
from worker.sessions.risk import decayed
from worker.sessions.state import DecayedCount, PendingObservation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.enrich.model import Device, Network
    from worker.sessions.limits import Limits
    from worker.sessions.state import Baseline, Context, Profile, Session, StartRate


FIVE_MINUTES = 5 * MINUTE


def network_key(network: Network) -> str:
    """Return the name of a network: its ASN where known, else its prefix, else `""`."""
    return f"as{network.asn}" if network.asn else network.prefix


def device_key(device: Device) -> str:
    """Return the name of a device: browser, operating system and class; `""` when it is unknown."""
    return f"{device.browser}/{device.os}/{device.kind}" if device.browser else ""


def is_interactive(key: str) -> bool:
    """Tell whether a device, by its key, is one that people use."""
    return key.rpartition("/")[2] not in ("script", "bot", "app", "")


def count_start(history: Baseline, now: int, half_life: int) -> None:
    """Count the start of a session into the user's rate, which is learned from the days before yesterday."""
    rate, bucket = history.rate, now // FIVE_MINUTES
    if bucket <= rate.bucket:
        rate.count += 1
        return
    if rate.count:
        _count_bucket(rate)
    fade = 0.5 ** ((bucket - rate.bucket) * FIVE_MINUTES / half_life)
    rate.known, rate.total, rate.squares = rate.known * fade, rate.total * fade, rate.squares * fade
    rate.recent = [(day, known * fade, total * fade, squares * fade) for day, known, total, squares in rate.recent]
    _settle(rate, bucket * FIVE_MINUTES // DAY)
    rate.bucket, rate.count = bucket, 1


def _count_bucket(rate: StartRate) -> None:
    """Add the newest five minutes to their day."""
    day, count = rate.bucket * FIVE_MINUTES // DAY, rate.count
    known, total, squares = 0.0, 0.0, 0.0
    if rate.recent and rate.recent[-1][0] == day:
        _, known, total, squares = rate.recent.pop()
    rate.recent.append((day, known + 1.0, total + count, squares + count * count))


def _settle(rate: StartRate, today: int) -> None:
    """Learn the days before yesterday."""
    while rate.recent and rate.recent[0][0] < today - 1:
        _, known, total, squares = rate.recent.pop(0)
        rate.known += known
        rate.total += total
        rate.squares += squares


LEARNED_SESSIONS, LEARNED_AFTER = 10, 14 * DAY
"""Sessions or time after which what is usual for a user is known well enough for anything to be new."""


def is_learned(history: Baseline, now: int, sessions: int = LEARNED_SESSIONS, after: float = LEARNED_AFTER) -> bool:
    """Tell whether the learning period is over at `now`."""
    return bool(history.first) and (history.sessions >= sessions or now - history.first >= after)


def strength_mark(history: Baseline, level: int, keep: int = 10) -> None:
    """Remember the authentication strength of a new session (-1, unknown, is not remembered)."""
    if level >= 0:
        history.strengths = [*history.strengths[1 - keep :], level]


def learn(history: Baseline, context: Context, now: int, limits: Limits) -> None:
    """Count a context's network, country, device and session type."""
    _see(history.networks, network_key(context.network), now, limits)
    if not is_anonymiser(context.network.kind):
        # An anonymiser's country is its exit's.
        _see(history.countries, context.place.country, now, limits)
    _see(history.devices, device_key(context.device), now, limits)
    _count(history.types, context.session_type or "", now, limits)


def known_parts(baseline: Baseline, context: Context) -> list[str]:
    """Return which of `network`, `country` and `device` of a context the baseline knows."""
    parts = (
        ("network", network_key(context.network), baseline.networks),
        ("country", context.place.country, baseline.countries),
        ("device", device_key(context.device), baseline.devices),
    )
    return [name for name, key, seen in parts if key in seen]


def _see(seen: dict[str, DecayedCount], key: str, now: int, limits: Limits) -> None:
    if key:
        _count(seen, key, now, limits)


def _count(seen: dict[str, DecayedCount], key: str, now: int, limits: Limits) -> None:
    known = seen.get(key)
    if known is None:
        seen[key] = DecayedCount(now, now, 1.0)
        if len(seen) > limits.baseline_entries:
            del seen[_weakest(seen, now, limits.history_half_life)]
        return
    known.weight = decayed(known.weight, now - known.last, limits.history_half_life) + 1.0
    known.last = now


def _weakest(seen: dict[str, DecayedCount], now: int, half_life: int) -> str:
    return min(seen, key=lambda key: (decayed(seen[key].weight, now - seen[key].last, half_life), key))


def is_clean(session: Session, now: int, limits: Limits) -> bool:
    """Tell whether a session had no finding of medium or above within the quarantine before `now`."""
    return not session.alarmed or now - session.alarmed >= limits.quarantine


def admit(profile: Profile, session: Session, reference: int, contexts: Mapping[int, Context], limits: Limits) -> None:
    """Learn the context of an event of a session, or let it wait while the session is under suspicion."""
    if is_clean(session, profile.time, limits):
        _learn(profile, session, profile.time, contexts[reference], limits)
    elif not any(waiting.context == reference for waiting in profile.waiting):
        profile.waiting = [*profile.waiting[1 - limits.pending :], PendingObservation(profile.time, reference)]


def _learn(profile: Profile, session: Session, since: int, context: Context, limits: Limits) -> None:
    """Learn a context observed at `since`; of the session's first one the strength of the sign-in as well."""
    learn(profile.baseline, context, profile.time, limits)
    if since == session.started:
        strength_mark(profile.baseline, session.base)


def release(profile: Profile, contexts: Mapping[int, Context], limits: Limits) -> None:
    """Learn what waited for the quarantine to pass; forget what belongs to sessions that were ended."""
    keep = []
    for waiting in profile.waiting:
        session = profile.sessions.get(contexts[waiting.context].uid)
        if session is None or session.ended:
            continue
        if is_clean(session, profile.time, limits):
            _learn(profile, session, waiting.since, contexts[waiting.context], limits)
        else:
            keep.append(waiting)
    profile.waiting = keep
