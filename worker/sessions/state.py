"""State of a user: plain msgspec structs with a compact encoding.

`Profile` holds everything that depends on events *in event-time order*. `User` keeps the profiles that are needed to
insert a late event at its place. All times are integer milliseconds since the epoch, UTC; 0 means "never".
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import msgspec
from lz4.block import compress, decompress

from schemas.vocabulary import UNKNOWN
from worker.enrich.model import Device, Network, Place
from worker.sessions.codec import NEVER, USER, framed, has_format, unframed


class Context(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The properties of an event that usually do not change between events of a session.

    Attributes:
        created_at: `created_at` of the event, milliseconds; 0 when omitted.
        scopes, amr, aud, session_type, max_age_minutes: None when omitted.
        listed: see `schemas.event.SessionEvent`.
    """

    uid: str
    network: Network
    place: Place
    device: Device
    scopes: tuple[str, ...] | None
    amr: tuple[str, ...] | None
    aud: str | None
    session_type: str | None
    max_age_minutes: float | None
    created_at: int
    listed: int = 0


class Observation(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One event in compact form.

    Attributes:
        time: event time.
        activity: when the user acted; 0 when the event is not an activity.
        kind: index into `KINDS`.
        context: key into `User.contexts`.
        future_by: by how many milliseconds the newest timestamp was ahead of the record's own.
    """

    time: int
    activity: int
    kind: int
    context: int
    future_by: int


KINDS = ("created", "refreshed", "changed", "deleted")
CHANGED, DELETED = 2, 3
KIND_INDEX = {name: index for index, name in enumerate(KINDS)}


class StartHistory(NamedTuple):
    """What the user's baseline said about the start of a session, in event-time order.

    Attributes:
        has_baseline: sessions of the user were admitted before. `is_learned`: the user's learning period is over.
        is_new: the autonomous system is known and not in the baseline. `is_new_client`: likewise for the device.
    """

    has_baseline: bool
    is_learned: bool
    is_new: bool
    is_new_client: bool = False

    def packed(self) -> int:
        """Return the flags as bits of a number, which is never 0."""
        return 1 | self.has_baseline << 1 | self.is_learned << 2 | self.is_new << 3 | self.is_new_client << 4


def unpacked(number: int) -> StartHistory:
    """Return the `StartHistory` that was packed into a number."""
    return StartHistory(*(bool(number & 1 << bit) for bit in (1, 2, 3, 4)))


class Session(msgspec.Struct, gc=False, array_like=True):
    """A session after the newest event applied.

    Attributes:
        context: context of the newest event. `v4`, `v6`: context of the newest event of that address family; 0 for
            none.
        started: event time of the first event. `seen`: event time of the newest one. `activity`: newest activity time.
        expires: when the session expires under the tenant's policy; 0 when no lifetime is known.
        ended: event time of the deletion.
        scopes: all scopes so far, at most `Limits.scopes`.
        strength: strongest authentication since the last sign-in, see `schemas.vocabulary`. `base`: strength of the
            start or of the last sign-in.
        created: newest `created_at`.
        risk, risk_at: decaying risk 0–100, and the time for which it was last computed.
        alarmed: time of the last finding of medium severity or above that casts doubt on who holds the session.
        trail: (time, context) of the start and of each change of network or device, newest last, bounded.
        aud: the last known audience, if the newest event omits it.
        history: a packed `StartHistory`; 0 when the session's first event is its deletion.
    """

    context: int
    v4: int
    v6: int
    started: int
    seen: int
    activity: int
    expires: int
    ended: int
    max_age_minutes: float | None
    scopes: tuple[str, ...] | None
    strength: int
    created: int
    events: int
    findings: int
    risk: float
    risk_at: int
    alarmed: int
    trail: list[tuple[int, int]]
    aud: str | None = None
    history: int = 0
    base: int = UNKNOWN


class DecayedCount(msgspec.Struct, gc=False, array_like=True):
    """How often something was seen. `weight` halves every `Limits.history_half_life`."""

    first: int
    last: int
    weight: float


class Reported(msgspec.Struct, gc=False, array_like=True):
    """A finding that is raised once for a user and value.

    Attributes:
        first: when it was raised. `last`: when it last occurred.
        severity: the severity it was raised with, index into `schemas.finding.SEVERITIES`.
    """

    first: int
    last: int
    severity: int


class StartRate(msgspec.Struct, gc=False, array_like=True):
    """How many sessions a user starts in five minutes, over those five-minute buckets that have any.

    Attributes:
        bucket: number of the newest bucket since the epoch. `count`: session starts in it.
        known: decayed number of buckets in the sums; each weighs half after `Limits.rate_half_life`.
        total, squares: sums of the counts and of their squares, with the same weights.
        recent: the sums of the last two days, `[day number, known, total, squares]`. They are learned later, so that a
            burst does not become usual while it lasts.
    """

    bucket: int
    count: int
    known: float
    total: float
    squares: float
    recent: list[tuple[int, float, float, float]] = msgspec.field(default_factory=list)


class Baseline(msgspec.Struct, gc=False, array_like=True):
    """What is usual for a user, learned from observations of sessions without doubt.

    Attributes:
        first: time of the user's first event.
        sessions: number of session starts admitted.
        last_session: start of the newest session.
        networks: count by `as<asn>` or prefix. `countries`: by ISO code. `devices`: by `browser/os/kind`.
        places: count by `network latitude longitude`; a place stands for the area around it.
        desktop_places: count of the places of desktop computers only.
        strengths: authentication strengths of the last sessions admitted, newest last.
        clients: the same by device.
        starts: start times of the newest sessions, newest last.
        peaks: (day number, largest number of live sessions at once on that day), newest last.
        rate: rate of session starts.
        types: count by session type (`""`: omitted).
        reported: findings that are raised once for the user and value, by `worker.sessions.baseline.report_key`.
        doubted: time of the last critical finding that casts doubt on who holds a session.
    """

    first: int
    sessions: int
    last_session: int
    networks: dict[str, DecayedCount]
    countries: dict[str, DecayedCount]
    devices: dict[str, DecayedCount]
    places: dict[str, DecayedCount]
    strengths: list[int]
    clients: dict[str, list[int]]
    starts: list[int]
    peaks: list[tuple[int, int]]
    rate: StartRate
    types: dict[str, DecayedCount] = msgspec.field(default_factory=dict)
    reported: dict[int, Reported] = msgspec.field(default_factory=dict)
    doubted: int = 0
    desktop_places: dict[str, DecayedCount] = msgspec.field(default_factory=dict)


class PendingObservation(msgspec.Struct, gc=False, array_like=True):
    """An observation that is admitted to the baseline when its session has been without doubt for the quarantine."""

    since: int
    context: int


class OpenFinding(msgspec.Struct, gc=False, array_like=True):
    """All occurrences of one detection, on one session or user and subject, within one event-time bucket.

    Attributes:
        bucket: start of the bucket. `first`, `last`: event times of the first and last occurrence.
        severity: highest severity of all occurrences, index into `schemas.finding.SEVERITIES`.
        summary, evidence: one line, and JSON, of the first occurrence. If that one was suppressed, they are of the
            first occurrence that was not.
        context, before: of the same occurrence, keys into `User.contexts`; 0 for none.
        casts_doubt: whether it casts doubt on who holds the session.
        joins: see `worker.sessions.contracts.Verdict`; of the first occurrence.
        changed_at_count: the count at the last change of anything but the count and the last occurrence.
    """

    detection: str
    session: str
    subject: str
    bucket: int
    first: int
    last: int
    count: int
    severity: int
    score: int
    summary: str
    evidence: bytes
    suppressed_by: tuple[str, ...]
    context: int
    before: int
    casts_doubt: bool = True
    joins: bool = False
    changed_at_count: int = 1


class ColdProfile(msgspec.Struct, gc=False, array_like=True):
    """The part of a profile that routine events do not need. It is decoded on first access.

    Attributes:
        open_findings: finding uid -> open finding.
        dropped: number of sessions and findings evicted because a limit was reached.
        revoked: deletion times of sessions that are no longer in the state, by `revocation_key`.
    """

    baseline: Baseline
    open_findings: dict[str, OpenFinding]
    dropped: int
    revoked: dict[int, int] = msgspec.field(default_factory=dict)


def revocation_key(uid: str) -> int:
    """Return the 64-bit hash under which a revoked session is kept: 18 bytes each, whatever the length of its uid."""
    return int.from_bytes(blake2b(uid.encode(errors="surrogatepass"), digest_size=8).digest(), "big")


class Profile(msgspec.Struct, gc=False, array_like=True):
    """The user's state after a prefix of the events in event-time order: a pure function of that prefix.

    Attributes:
        place: context, time, latitude and longitude of the newest activity at a place that is known to be the user's
            own; context 0 before the first one.
        risk, risk_at: decaying risk 0–100 of the user, and the time for which it was last computed.
        cold: a `ColdProfile`, encoded until `opened` is called.
    """

    time: int
    sessions: dict[str, Session]
    place: tuple[int, int, float, float]
    waiting: list[PendingObservation]
    risk: float
    risk_at: int
    cold: msgspec.Raw

    def opened(self) -> ColdProfile:
        """Return the cold part, decoded."""
        cold: object = self.cold
        if cold.__class__ is msgspec.Raw:  # rules ask so often that `isinstance` counts
            cold = _decode_cold(cold)
            self.cold = cold  # type: ignore[assignment]  # encodes the same, and only this method reads it
        return cold  # type: ignore[return-value]

    @property
    def baseline(self) -> Baseline:
        """The user's baseline."""
        return self.opened().baseline

    def revoked_at(self, uid: str) -> int:
        """Return when a session that is no longer in `sessions` was deleted; 0 if it was not."""
        revoked = self.opened().revoked
        return revoked.get(revocation_key(uid), 0) if revoked else 0

    @property
    def open_findings(self) -> dict[str, OpenFinding]:
        """Findings that may still change."""
        return self.opened().open_findings


def new_profile() -> Profile:
    """Return the profile of a user without events."""
    rate = StartRate(0, 0, 0.0, 0.0, 0.0)
    cold = ColdProfile(Baseline(0, 0, 0, {}, {}, {}, {}, [], {}, [], [], rate), {}, 0)
    return Profile(0, {}, (0, 0, 0.0, 0.0), [], 0.0, 0, cold)  # type: ignore[arg-type]  # see Profile.opened


class User(msgspec.Struct, gc=False, array_like=True):
    """The state of one user of one tenant.

    The window holds every observation later than `checkpoint_time`, in order. `checkpoint` and `midpoint` are the
    encoded profiles of everything up to `checkpoint_time` and `midpoint_time`. A late event is inserted at its place
    in the window, and `current` is folded again from the checkpoint: it never depends on the order of arrival.

    Attributes:
        applied: how many records were applied: the state's logical clock.
        offsets: source partition -> offset of the last record applied from it. Partitions of further input topics are
            numbered by `schemas.sources.source_number`.
        contexts: number -> encoded `Context`.
        rotate_at: event time from which the checkpoint moves forward.
        window: packed observations, one after the other. `window_size`: their number.
        timed_out: session uid -> the deadline that was already reported as passed.
        touched: session uid -> `applied` at the session's last change, by an event of its own or a late one of the
            user, and the user's risk then, decayed to the session's newest event.
    """

    tenant_id: str
    user_id: str
    applied: int
    offsets: dict[int, int]
    contexts: dict[int, bytes]
    next_context: int
    checkpoint: bytes
    checkpoint_time: int
    midpoint: bytes
    midpoint_time: int
    rotate_at: int
    window: bytes
    window_size: int
    current: Profile
    timed_out: dict[str, int]
    touched: dict[str, tuple[int, float]] = msgspec.field(default_factory=dict)

    def observations(self) -> list[Observation]:
        """Return the window, decoded."""
        time, found = 0, []
        for step, ago, kind, context, future_by in _decode_window(
            b"\xdd" + self.window_size.to_bytes(4, "big") + self.window
        ):
            time += step
            found.append(Observation(time, time - ago, kind, context, future_by))
        return found

    def keep(self, observations: list[Observation]) -> None:
        """Set the window."""
        times = [0, *(each.time for each in observations)]
        self.window = b"".join(map(_packed, observations, times))
        self.window_size = len(observations)

    def append(self, observation: Observation) -> None:
        """Add an observation at the end of the window; called before it is applied to `current`."""
        self.window += _packed(observation, self.current.time if self.window_size else 0)
        self.window_size += 1


def new_user(tenant_id: str, user_id: str) -> User:
    """Return the state of a new user."""
    return User(tenant_id, user_id, 0, {}, {}, 1, b"", 0, b"", 0, NEVER, b"", 0, new_profile(), {})


class Contexts(dict[int, Context]):
    """A user's contexts, decoded on first access."""

    def __init__(self, encoded: dict[int, bytes]) -> None:
        super().__init__()
        self._encoded = encoded

    def __missing__(self, key: int) -> Context:
        """Decode a context."""
        context = self[key] = _decode_context(self._encoded[key])
        return context

    def number(self, context: Context | None) -> int:
        """Return the number of a context that was read from here; 0 for None."""
        return next((key for key, known in self.items() if known is context), 0)


_encode = msgspec.msgpack.Encoder().encode
_decode_user = msgspec.msgpack.Decoder(User).decode
_decode_profile = msgspec.msgpack.Decoder(Profile).decode
_decode_cold = msgspec.msgpack.Decoder(ColdProfile).decode
_decode_context = msgspec.msgpack.Decoder(Context).decode
_decode_window = msgspec.msgpack.Decoder(list[tuple[int, int, int, int, int]]).decode


def _packed(observation: Observation, previous: int) -> bytes:
    """Return an observation with its times encoded as differences: 11 bytes instead of 22.

    Args:
        observation: the observation.
        previous: the time of the observation before it.
    """
    time = observation.time
    return _encode(
        (time - previous, time - observation.activity, observation.kind, observation.context, observation.future_by)
    )


def encode_user(user: User, wake: int) -> bytes:
    """Encode a user's state: header with the timer time `wake` (milliseconds or `NEVER`), then MessagePack under LZ4.

    LZ4 halves the bytes kept in memory, written to the changelog and read at recovery. Compressing and decompressing
    cost 6 µs a state.
    """
    packed: bytes = compress(_encode(user))
    return framed(USER, wake, packed)


def is_user(state: bytes) -> bool:
    """Return whether an encoded state is a user's."""
    return has_format(USER, state)


def decode_user(state: bytes) -> User:
    """Decode a user's state.

    Raises:
        UnknownFormatError: the state has another format.
    """
    return _decode_user(decompress(unframed(USER, state)))


def encode_context(parts: Context | tuple[object, ...]) -> bytes:
    """Encode a context, or the tuple of its fields. Equal contexts have equal bytes."""
    return _encode(parts)


def encode_profile(profile: Profile) -> bytes:
    """Encode a profile, for `User.checkpoint` and `User.midpoint`."""
    return _encode(profile)


def decode_profile(profile: bytes) -> Profile:
    """Decode a profile; empty bytes are the profile of a user without events."""
    return _decode_profile(profile) if profile else new_profile()
