"""The bounds and times the state lives by. All in milliseconds or counts."""

from __future__ import annotations

import msgspec

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
UNKNOWN_LIFETIME = DAY
"""A session whose lifetime is not known counts as live for so long after its last use."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the state.

    Attributes:
        clock_skew: tolerance between clocks, everywhere.
        allowed_lateness: how much later than the user's newest event an event may come and still be judged.
        window: observations kept per user for putting late events in order.
        revocation_grace: activity this long after a deletion is still a request under way.
        ended_ttl: how long ended sessions are remembered.
        idle_ttl: how long a user without any event is remembered.
        revoked: revocations kept per user of sessions that were put out of the state before `ended_ttl`.
        sessions, open_findings, trail, baseline_entries, pending: most of each kept per user (per session for `trail`).
        clients, places, reported: likewise.
        reported_ttl: how long after its last occurrence a finding that is raised once is not raised again.
        scopes: most scopes remembered per session.
        context_bytes: bytes of a user's contexts above which the state is cut; see `worker.sessions.reorder`.
        grouping: event-time bucket within which repeats are one finding.
        quarantine: how long after a finding of medium or above observations stay out of the history.
        risk_half_life: in which risk halves. history_half_life: in which the weight of history halves.
        rate_half_life: in which the weight of the rate of session starts halves.
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
