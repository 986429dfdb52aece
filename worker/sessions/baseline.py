"""Baseline of a user: decaying counters that learn only from observations of sessions without doubt."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from worker.enrich.geodesy import distance_km
from worker.enrich.model import Place, is_anonymiser
from worker.sessions.limits import DAY, MINUTE
from worker.sessions.risk import decayed
from worker.sessions.state import DecayedCount, PendingObservation, Reported

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.enrich.model import Device, Network
    from worker.sessions.limits import Limits
    from worker.sessions.state import Baseline, Context, Profile, Session, StartRate


FIVE_MINUTES = 5 * MINUTE


def network_key(network: Network) -> str:
    """Return the key of a network: its ASN if known, else its prefix, else `""`."""
    return f"as{network.asn}" if network.asn else network.prefix


def device_key(device: Device) -> str:
    """Return the key of a device: browser, operating system and class; `""` when the device is unknown."""
    return f"{device.browser}/{device.os}/{device.kind}" if device.browser else ""


def is_interactive(key: str) -> bool:
    """Return whether a device key is of a device that people use."""
    return key.rpartition("/")[2] not in ("script", "bot", "app", "")


def count_start(history: Baseline, now: int, half_life: int) -> None:
    """Add a session start to the user's rate. The rate is learned from the days before yesterday."""
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
    """Add the count of the newest five minutes to the sums of their day."""
    day, count = rate.bucket * FIVE_MINUTES // DAY, rate.count
    known, total, squares = 0.0, 0.0, 0.0
    if rate.recent and rate.recent[-1][0] == day:
        _, known, total, squares = rate.recent.pop()
    rate.recent.append((day, known + 1.0, total + count, squares + count * count))


def _settle(rate: StartRate, today: int) -> None:
    """Move the days before yesterday from `recent` into the sums."""
    while rate.recent and rate.recent[0][0] < today - 1:
        _, known, total, squares = rate.recent.pop(0)
        rate.known += known
        rate.total += total
        rate.squares += squares


LEARNED_SESSIONS, LEARNED_AFTER = 10, 14 * DAY
"""Number of sessions, or time in milliseconds, after which the learning period of a user is over."""


def is_learned(history: Baseline, now: int, sessions: int = LEARNED_SESSIONS, after: float = LEARNED_AFTER) -> bool:
    """Return whether the learning period is over at `now`."""
    return bool(history.first) and (history.sessions >= sessions or now - history.first >= after)


def strength_mark(history: Baseline, client: str, level: int, limits: Limits, keep: int = 10) -> None:
    """Record the authentication strength of a new session, for the user and for the client; -1, unknown, is skipped."""
    if level < 0:
        return
    history.strengths = [*history.strengths[1 - keep :], level]
    if not client:
        return
    known = history.clients.pop(client, [])
    history.clients[client] = [*known[1 - keep :], level]
    if len(history.clients) > limits.clients:
        del history.clients[next(iter(history.clients))]


AREA_KM = 100.0
"""Places closer than this are one area: about the radius of a metropolitan area, and the error of geo data."""


DESKTOP = "desktop"
"""Device class of computers, which seldom move and whose access lines have a fixed place."""


def known_places(places: Iterable[str], place: Place, area_km: float = AREA_KM) -> list[str]:
    """Return the keys of the learned places within `area_km` of a place, the nearest first."""
    if place.latitude is None or place.longitude is None:
        return []
    near = [(distance, key) for key in places if (distance := _distance(key, place)) <= area_km]
    return [key for _, key in sorted(near)]


def _distance(key: str, place: Place) -> float:
    _, latitude, longitude = key.split()
    return distance_km(Place("", "", float(latitude), float(longitude), 0.0, ""), place) or 0.0


def _count_place(history: Baseline, context: Context, times: tuple[int, int], limits: Limits) -> None:
    place, network = context.place, network_key(context.network)
    if place.latitude is None or place.longitude is None or not network:
        return
    desktop = context.device.kind == DESKTOP
    for places in (history.places, history.desktop_places) if desktop else (history.places,):
        own = [key for key in places if key.startswith(f"{network} ")]
        known = known_places(own, place, AREA_KM / 2)
        key = known[0] if known else f"{network} {place.latitude:.1f} {place.longitude:.1f}"
        _count_known(places, key, times, limits.history_half_life, limits.places)


def wanders(places: Iterable[str], network: Network) -> bool:
    """Return whether several places of a network are learned, as is usual for mobile carriers."""
    own = f"{network_key(network)} "
    return sum(key.startswith(own) for key in places) > 1


def report_key(detection: str, value: str) -> int:
    """Return the 48-bit key of a finding that is raised once for a user and value."""
    return int.from_bytes(blake2b(f"{detection}|{value}".encode(), digest_size=6).digest(), "big")


def is_reported(history: Baseline, key: int, severity: int, now: int, limits: Limits) -> bool:
    """Return whether a finding was raised before with at least this severity.

    It does not count if it last occurred more than `reported_ttl` ago, or if a critical finding has cast doubt on a
    session of the user since.
    """
    known = history.reported.get(key)
    return (
        known is not None
        and severity <= known.severity
        and now - known.last <= limits.reported_ttl
        and history.doubted <= known.first
    )


def note_report(history: Baseline, key: int, severity: int, now: int, limits: Limits) -> None:
    """Record that a finding was raised."""
    history.reported[key] = Reported(now, now, severity)
    if len(history.reported) > limits.reported:
        del history.reported[min(history.reported, key=lambda each: (history.reported[each].last, each))]


def learn(history: Baseline, context: Context, times: tuple[int, int], limits: Limits) -> None:
    """Count a context's network, country, place, device and session type.

    Args:
        history: the baseline.
        context: the context.
        times: when it was observed, and when it was admitted, in milliseconds.
        limits: bounds and times.
    """
    half_life, most = limits.history_half_life, limits.baseline_entries
    _count_known(history.networks, network_key(context.network), times, half_life, most)
    if not is_anonymiser(context.network.kind):
        # The country of an anonymiser is that of its exit, not the user's.
        _count_known(history.countries, context.place.country, times, half_life, most)
        _count_place(history, context, times, limits)
    _count_known(history.devices, device_key(context.device), times, half_life, most)
    _count(history.types, context.session_type or "", times, half_life, most)


def known_parts(baseline: Baseline, context: Context) -> list[str]:
    """Return which of `network`, `country` and `device` of a context the baseline knows."""
    parts = (
        ("network", network_key(context.network), baseline.networks),
        ("country", context.place.country, baseline.countries),
        ("device", device_key(context.device), baseline.devices),
    )
    return [name for name, key, seen in parts if key in seen]


def _count_known(seen: dict[str, DecayedCount], key: str, times: tuple[int, int], half_life: int, most: int) -> None:
    if key:
        _count(seen, key, times, half_life, most)


def _count(seen: dict[str, DecayedCount], key: str, times: tuple[int, int], half_life: int, most: int) -> None:
    since, now = times
    known = seen.get(key)
    if known is None:
        seen[key] = DecayedCount(since, now, 1.0)
        if len(seen) > most:
            del seen[_weakest(seen, now, half_life)]
        return
    known.weight = decayed(known.weight, now - known.last, half_life) + 1.0
    known.first = min(known.first, since)
    known.last = now


def _weakest(seen: dict[str, DecayedCount], now: int, half_life: int) -> str:
    return min(seen, key=lambda key: (decayed(seen[key].weight, now - seen[key].last, half_life), key))


def is_clean(session: Session, now: int, limits: Limits) -> bool:
    """Return whether no finding has cast doubt on who holds a session within the quarantine before `now`."""
    return not session.alarmed or now - session.alarmed >= limits.quarantine


def admit(profile: Profile, session: Session, reference: int, contexts: Mapping[int, Context], limits: Limits) -> None:
    """Learn the context of an event; while its session is in quarantine, keep it pending instead."""
    if is_clean(session, profile.time, limits):
        _learn(profile, session, profile.time, contexts[reference], limits)
    elif not any(waiting.context == reference for waiting in profile.waiting):
        profile.waiting = [*profile.waiting[1 - limits.pending :], PendingObservation(profile.time, reference)]


def _learn(profile: Profile, session: Session, since: int, context: Context, limits: Limits) -> None:
    """Learn a context observed at `since`. If it is the session's first one, learn the strength of the sign-in, too."""
    learn(profile.baseline, context, (since, profile.time), limits)
    if since == session.started:
        profile.baseline.sessions += 1
        strength_mark(profile.baseline, device_key(context.device), session.base, limits)


def release(profile: Profile, contexts: Mapping[int, Context], limits: Limits) -> None:
    """Learn the pending observations of sessions whose quarantine has passed; drop those of sessions that ended."""
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


def retract(profile: Profile, session: Session, contexts: Mapping[int, Context], limits: Limits) -> None:
    """Unlearn what was learned from a session after its start: its finding casts doubt on who has used it since.

    What is unlearned becomes pending, and is learned again when the quarantine has passed.
    """
    for when, reference in session.trail[1:]:
        if _unlearn(profile.baseline, contexts[reference], session.started):
            known = any(waiting.context == reference for waiting in profile.waiting)
            waiting = [] if known else [PendingObservation(when, reference)]
            profile.waiting = [*profile.waiting, *waiting][-limits.pending :]


def _unlearn(history: Baseline, context: Context, since: int) -> bool:
    """Forget network, country, place and device of a context if first seen after `since`; return whether any was."""
    parts = (
        (history.networks, network_key(context.network)),
        (history.countries, context.place.country),
        (history.devices, device_key(context.device)),
        *((history.places, key) for key in known_places(history.places, context.place, AREA_KM / 2)),
        *((history.desktop_places, key) for key in known_places(history.desktop_places, context.place, AREA_KM / 2)),
    )
    new = [(seen, key) for seen, key in parts if key in seen and seen[key].first > since]
    for seen, key in new:
        del seen[key]
    return bool(new)
