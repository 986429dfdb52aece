"""`SessionEvent`: the normalised form of every accepted input shape.

All times are integer milliseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class EventKind(StrEnum):
    """What happened to the session."""

    CREATED = "created"
    REFRESHED = "refreshed"
    CHANGED = "changed"
    DELETED = "deleted"


class Shape(StrEnum):
    """The accepted shapes of an input record."""

    SNAPSHOT = "snapshot"
    CLOUDEVENTS = "cloudevents"
    DEBEZIUM = "debezium"


class SessionEvent(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One validated, normalised session event.

    Attributes:
        session_uid: the record's `uid`. If the record has none, it is derived from tenant, user, audience, user agent
            and creation time, and `uid_derived` is true.
        event_time: orders events: the latest of `last_used_at`, `updated_at`, `created_at`, else the
            envelope's time, else the record's timestamp; never later than the record's timestamp plus skew.
        activity_time: when the user acted: `last_used_at`, else, unless the event is a deletion, `created_at`;
            None when the event has neither. Clamped like `event_time`.
        future_by: by how many milliseconds the newest timestamp was ahead of the record's own; 0 when within skew.
        max_age_minutes: None when omitted.
        ip: canonical text without port and zone id; an IPv4 address embedded in IPv6 is written as IPv4; `""` when
            unknown.
        scopes: None when omitted; sorted, without duplicates.
        amr: None when omitted (unknown); `()` means no method at all.
        session_type: case-folded; None when omitted.
        meta_data: canonical JSON text, None when omitted.
        shape: one of `Shape`, or the name of the mapping that read the record.
        repaired: names of the properties that were truncated, cleaned or left out because they were unusable, sorted.
        listed: flags `schemas.policy.ALLOWED`, `DENIED` and `LISTED`: the tenant's lists that the address was on when
            the event arrived. Set where the stored address is a pseudonym, else 0.
    """

    tenant_id: str
    user_id: str
    session_uid: str
    uid_derived: bool
    kind: EventKind
    shape: str
    event_time: int
    activity_time: int | None
    created_at: int | None
    updated_at: int | None
    last_used_at: int | None
    future_by: int
    is_deleted: bool
    max_age_minutes: float | None
    ip: str
    user_agent: str
    location: str | None
    scopes: tuple[str, ...] | None
    amr: tuple[str, ...] | None
    aud: str | None
    workspace_id: str | None
    session_type: str | None
    meta_data: str | None
    listed: int = 0
    repaired: tuple[str, ...] = ()
