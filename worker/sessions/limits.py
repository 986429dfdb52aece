"""Bounds of the state. Times are in milliseconds."""

from __future__ import annotations

import msgspec

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
UNKNOWN_LIFETIME = DAY
"""A session without a known lifetime counts as live for this long after its last use."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the state, in counts, bytes and milliseconds.

    Attributes:
        clock_skew: tolerated difference between any two clocks.
        allowed_lateness: how far an event's time may be behind the user's newest event; later events are not judged.
        window: observations kept per user to put late events in order.
        revocation_grace: activity within this time after a deletion counts as a request that was already under way.
        ended_ttl: how long an ended session is kept.
        idle_ttl: how long a user is kept without any event.
        revoked: revocations kept per user, of sessions that were evicted before `ended_ttl` passed.
        sessions, open_findings, baseline_entries, pending, clients, places, reported: maximum number kept per user.
        trail: maximum number of changes of network or device kept per session.
        reported_ttl: how long after its last occurrence a finding that is raised once is not raised again.
        scopes: maximum number of scopes kept per session.
        context_bytes: size of a user's contexts, in bytes, above which the state is shrunk; see
            `worker.sessions.reorder`.
        grouping: length of the event-time bucket in which repeats are one finding.
        quarantine: how long a session's observations stay out of the baseline after a finding of medium severity or
            above that casts doubt on who holds it.
        risk_half_life: half-life of risk. history_half_life: half-life of the baseline's counts.
        rate_half_life: half-life of the rate of session starts.
    """

    clock_skew: int = 60 * SECOND
    allowed_lateness: int = 2 * HOUR
    window: int = 256
    revocation_grace: int = 30 * SECOND
    ended_ttl: int = 7 * DAY
    idle_ttl: int = 400 * DAY
    sessions: int = 64
    revoked: int = 512
    open_findings: int = 64
    trail: int = 8
    baseline_entries: int = 32
    pending: int = 16
    clients: int = 6
    places: int = 16
    reported: int = 40
    reported_ttl: int = 60 * DAY
    scopes: int = 512
    context_bytes: int = 1 << 20
    grouping: int = HOUR
    quarantine: int = DAY
    risk_half_life: int = 4 * HOUR
    history_half_life: int = 30 * DAY
    rate_half_life: int = 14 * DAY
