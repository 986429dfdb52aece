"""What is usual for a user: counters with decay, fed only by observations nobody has reason to doubt."""

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


def strength_mark(history: Baseline, client: str, level: int, limits: Limits, keep: int = 10) -> None:
    """Remember the authentication strength of a new session, for the user and the client (-1, unknown, is not)."""
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
"""Places closer than this are one area: the radius of a metropolitan area, and what geo data is wrong by."""


DESKTOP = "desktop"
"""The class of device of computers that seldom move, and whose lines stay where they are."""


def known_places(places: Iterable[str], place: Place, area_km: float = AREA_KM) -> list[str]:
    """Return the learned places, each of a network, within `area_km` of coordinates; the nearest first."""
    if place.latitude is None or place.longitude is None:
        return []
    near = [(distance, key) for key in places if (distance := _distance(key, place)) <= area_km]
    return [key for _, key in sorted(near)]


def _distance(key: str, place: Place) -> float:
    _, latitude, longitude = key.split()
    return distance_km(Place("", "", float(latitude), float(longitude), 0.0, ""), place) or 0.0


def _see_place(history: Baseline, context: Context, times: tuple[int, int], limits: Limits) -> None:
    place, network = context.place, network_key(context.network)
    if place.latitude is None or place.longitude is None or not network:
        return
    desktop = context.device.kind == DESKTOP
    for places in (history.places, history.desktop_places) if desktop else (history.places,):
        own = [key for key in places if key.startswith(f"{network} ")]
        known = known_places(own, place, AREA_KM / 2)
        key = known[0] if known else f"{network} {place.latitude:.1f} {place.longitude:.1f}"
        _see(places, key, times, limits.history_half_life, limits.places)


def wanders(places: Iterable[str], network: Network) -> bool:
    """Tell whether the learned places of a network are several, as those of mobile carriers are."""
    own = f"{network_key(network)} "
    return sum(key.startswith(own) for key in places) > 1


def report_key(detection: str, value: str) -> int:
    """Return the key of a finding that is raised once for a user and value."""
    return int.from_bytes(blake2b(f"{detection}|{value}".encode(), digest_size=6).digest(), "big")


def is_reported(history: Baseline, key: int, severity: int, now: int, limits: Limits) -> bool:
    """Tell whether a finding was raised before, as severe at least, and nothing critical was found in between."""
    known = history.reported.get(key)
    return (
        known is not None
        and severity <= known.severity
        and now - known.last <= limits.reported_ttl
        and history.doubted <= known.first
    )


def note_report(history: Baseline, key: int, severity: int, now: int, limits: Limits) -> None:
    """Remember that a finding was raised."""
    history.reported[key] = Reported(now, now, severity)
    if len(history.reported) > limits.reported:
        del history.reported[min(history.reported, key=lambda each: (history.reported[each].last, each))]


def learn(history: Baseline, context: Context, times: tuple[int, int], limits: Limits) -> None:
    """Count a context's network, place, device and session type, seen at the first time and admitted at the second."""
    half_life, most = limits.history_half_life, limits.baseline_entries
    _see(history.networks, network_key(context.network), times, half_life, most)
    if not is_anonymiser(context.network.kind):
        # An anonymiser's country is its exit's.
        _see(history.countries, context.place.country, times, half_life, most)
        _see_place(history, context, times, limits)
    _see(history.devices, device_key(context.device), times, half_life, most)
    _count(history.types, context.session_type or "", times, half_life, most)


def known_parts(baseline: Baseline, context: Context) -> list[str]:
    """Return which of `network`, `country` and `device` of a context the baseline knows."""
    parts = (
        ("network", network_key(context.network), baseline.networks),
        ("country", context.place.country, baseline.countries),
        ("device", device_key(context.device), baseline.devices),
    )
    return [name for name, key, seen in parts if key in seen]


def _see(seen: dict[str, DecayedCount], key: str, times: tuple[int, int], half_life: int, most: int) -> None:
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
    """Tell whether nothing cast doubt on who holds a session within the quarantine before `now`."""
    return not session.alarmed or now - session.alarmed >= limits.quarantine


def admit(profile: Profile, session: Session, reference: int, contexts: Mapping[int, Context], limits: Limits) -> None:
    """Learn the context of an event of a session, or let it wait while the session is under suspicion."""
    if is_clean(session, profile.time, limits):
        _learn(profile, session, profile.time, contexts[reference], limits)
    elif not any(waiting.context == reference for waiting in profile.waiting):
        profile.waiting = [*profile.waiting[1 - limits.pending :], PendingObservation(profile.time, reference)]


def _learn(profile: Profile, session: Session, since: int, context: Context, limits: Limits) -> None:
    """Learn a context observed at `since`; of the session's first one the strength of the sign-in as well."""
    learn(profile.baseline, context, (since, profile.time), limits)
    if since == session.started:
        profile.baseline.sessions += 1
        strength_mark(profile.baseline, device_key(context.device), session.base, limits)


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


def retract(profile: Profile, session: Session, contexts: Mapping[int, Context], limits: Limits) -> None:
    """Take back what a session taught after its start: it has come under suspicion, and an intruder may have taught it.

    What is taken back waits for the quarantine to pass, as if it had come later.
    """
    for when, reference in session.trail[1:]:
        if _unlearn(profile.baseline, contexts[reference], session.started):
            known = any(waiting.context == reference for waiting in profile.waiting)
            waiting = [] if known else [PendingObservation(when, reference)]
            profile.waiting = [*profile.waiting, *waiting][-limits.pending :]


def _unlearn(history: Baseline, context: Context, since: int) -> bool:
    """Forget network, place and device of a context as far as they were first seen after `since`."""
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
