"""What is remembered of a user, and nothing else: plain msgspec structs, compact on the wire.

`Profile` is everything that depends on events *in event-time order*; `User` keeps the profiles needed to insert
a late event at its place. All times are integer milliseconds since the epoch, UTC; 0 means "never".
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
    """What usually stays the same from one event of a session to the next.

    Attributes:
        created_at: as the event says, milliseconds; 0 when omitted.
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
    """One event, as short as it can be remembered.

    Attributes:
        time: event time.
        activity: when the user acted; 0 when the event is no activity.
        kind: index into `KINDS`.
        context: key into `User.contexts`.
        future_by: milliseconds the newest timestamp lay ahead of the record's own.
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
    """What the user's history said of the start of a session, in order of event time.

    Attributes:
        has_baseline: there were sessions before. `is_learned`: so many that the user's networks are known.
        is_new: none of them from this autonomous system. `is_new_client`: none with this device.
    """

    has_baseline: bool
    is_learned: bool
    is_new: bool
    is_new_client: bool = False

    def packed(self) -> int:
        """Return it as a number above 0."""
        return 1 | self.has_baseline << 1 | self.is_learned << 2 | self.is_new << 3 | self.is_new_client << 4


def unpacked(number: int) -> StartHistory:
    """Return what `StartHistory.packed` made a number of."""
    return StartHistory(*(bool(number & 1 << bit) for bit in (1, 2, 3, 4)))


class Session(msgspec.Struct, gc=False, array_like=True):
    """A session as of the newest event folded.

    Attributes:
        context: of the newest event; `v4` and `v6`: of the newest event of that address family (0: none).
        started: event time of the first event. `seen`: of the newest. `activity`: newest activity time.
        expires: when it expires by the tenant's policy; 0 when no lifetime is known.
        ended: event time of the deletion.
        scopes: the widest set so far.
        strength: strongest authentication so far, see `schemas.vocabulary`. `base`: of its start or last sign-in.
        created: newest `created_at`.
        risk, risk_at: decaying risk 0–100 and the time it was last computed for.
        alarmed: time of the last finding of medium or above that casts doubt on who holds the session.
        trail: (time, context) of every change of network or device, newest last, bounded.
        aud: the last known audience, where the newest event omits it.
        history: a `StartHistory`, packed; 0 when the session began with its deletion.
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
    """How often and how lately something was seen; `weight` halves every `HALF_LIFE`."""

    first: int
    last: int
    weight: float


class Reported(msgspec.Struct, gc=False, array_like=True):
    """A finding that is raised once for a user and value.

    Attributes:
        first: when it was raised. `last`: when it last occurred.
        severity: with which it was raised, index into `schemas.finding.SEVERITIES`.
    """

    first: int
    last: int
    severity: int


class StartRate(msgspec.Struct, gc=False, array_like=True):
    """How many sessions a user starts in five minutes, over the five minutes with any.

    Attributes:
        bucket: number of the newest five minutes since the epoch. `count`: starts in them.
        known: how many fives of minutes are behind the sums, each weighing half after `Limits.rate_half_life`.
        total, squares: sums of the counts and of their squares, weighed alike.
        recent: the same by day, `[day number, known, total, squares]`, of the last two days: a burst must not make
            itself usual while it lasts.
    """

    bucket: int
    count: int
    known: float
    total: float
    squares: float
    recent: list[tuple[int, float, float, float]] = msgspec.field(default_factory=list)


class Baseline(msgspec.Struct, gc=False, array_like=True):
    """What is usual for a user: learned from observations nobody has reason to doubt.

    Attributes:
        first: time of the user's first event.
        sessions: how many starts of sessions were admitted.
        last_session: start of the newest session.
        networks: count by `as<asn>` or prefix. countries: by ISO code. devices: by `browser/os/kind`.
        places: count by `network latitude longitude`; a place stands for what lies around it.
        desktop_places: the places of desktop computers alone.
        strengths: authentication strengths of the last sessions admitted, newest last.
        clients: the same by device.
        starts: starts of the newest sessions, newest last.
        peaks: (day number, most sessions at once that day), newest last.
        rate: of the starts.
        types: count by session type (`""`: omitted).
        reported: what was raised once for the user, by `worker.sessions.baseline.report_key`.
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
    """An observation that may enter the history once its session has stayed clean for the quarantine."""

    since: int
    context: int


class OpenFinding(msgspec.Struct, gc=False, array_like=True):
    """All occurrences of one detection, on one session or user and subject, within one event-time bucket.

    Attributes:
        bucket: start of the bucket. `first`, `last`: event times of the first and last occurrence.
        severity: the highest of all occurrences, index into `schemas.finding.SEVERITIES`.
        evidence: JSON of the first occurrence. `summary`: its one line.
        context, before: of the first occurrence, keys into `User.contexts` (0: none).
        casts_doubt: whether it casts doubt on who holds the session.
        joins: see `worker.sessions.contracts.Verdict`; of the first occurrence.
        changed_at_count: the count at which something other than the count and the last occurrence changed last.
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
    """The part of a fold that routine events leave alone, kept encoded until it is asked for.

    Attributes:
        open_findings: finding uid -> open finding.
        dropped: how many sessions and findings were put out for want of room.
        revoked: deletion times of sessions that were put out, by `revocation_key`.
    """

    baseline: Baseline
    open_findings: dict[str, OpenFinding]
    dropped: int
    revoked: dict[int, int] = msgspec.field(default_factory=dict)


def revocation_key(uid: str) -> int:
    """Return the 64-bit hash by which a revoked session is remembered: 18 bytes each, whatever its uid."""
    return int.from_bytes(blake2b(uid.encode(errors="surrogatepass"), digest_size=8).digest(), "big")


class Profile(msgspec.Struct, gc=False, array_like=True):
    """The user after a prefix of the events, in event-time order: a pure function of that prefix.

    Attributes:
        place: of the newest activity at a known and trusted place: its context, when, latitude, longitude; context 0
            before any.
        risk, risk_at: decaying risk 0–100 of the user and the time it was last computed for.
        cold: a `ColdProfile`, encoded until `opened`.
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
        """What is usual for the user."""
        return self.opened().baseline

    def revoked_at(self, uid: str) -> int:
        """Return when a session was deleted that is no longer among the sessions; 0 if it was not."""
        revoked = self.opened().revoked
        return revoked.get(revocation_key(uid), 0) if revoked else 0

    @property
    def open_findings(self) -> dict[str, OpenFinding]:
        """Findings that may still change."""
        return self.opened().open_findings


def new_profile() -> Profile:
    """Return the fold of no events."""
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
        offsets: source partition -> offset of the last record applied from it; partitions of further input topics by
            their `schemas.sources.source_number`.
        contexts: number -> encoded `Context`.
        rotate_at: event time from which the base is to move on.
        window: packed observations, one after the other; `window_size` of them.
        timed_out: session uid -> the deadline whose passing was already reported.
        touched: session uid -> `applied` when it last changed, by an event of its own or by a late one, and the user's
            decaying risk then, as of the session's newest event.
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
        """Add an observation at the window's end, before `current` takes it in."""
        self.window += _packed(observation, self.current.time if self.window_size else 0)
        self.window_size += 1


def new_user(tenant_id: str, user_id: str) -> User:
    """Return the state of a user never seen."""
    return User(tenant_id, user_id, 0, {}, {}, 1, b"", 0, b"", 0, NEVER, b"", 0, new_profile(), {})


class Contexts(dict[int, Context]):
    """A user's contexts, decoded when asked for."""

    def __init__(self, encoded: dict[int, bytes]) -> None:
        super().__init__()
        self._encoded = encoded

    def __missing__(self, key: int) -> Context:
        """Decode a context."""
        context = self[key] = _decode_context(self._encoded[key])
        return context

    def number(self, context: Context | None) -> int:
        """Return the number of a context handed out before; 0 for None."""
        return next((key for key, known in self.items() if known is context), 0)


_encode = msgspec.msgpack.Encoder().encode
_decode_user = msgspec.msgpack.Decoder(User).decode
_decode_profile = msgspec.msgpack.Decoder(Profile).decode
_decode_cold = msgspec.msgpack.Decoder(ColdProfile).decode
_decode_context = msgspec.msgpack.Decoder(Context).decode
_decode_window = msgspec.msgpack.Decoder(list[tuple[int, int, int, int, int]]).decode


def _packed(observation: Observation, previous: int) -> bytes:
    """Return an observation with its times as differences: 11 bytes instead of 22.

    Args:
        observation: the observation.
        previous: the time of the observation before it.
    """
    time = observation.time
    return _encode(
        (time - previous, time - observation.activity, observation.kind, observation.context, observation.future_by)
    )


def encode_user(user: User, wake: int) -> bytes:
    """Encode a user's state: format version, the time to wake it (milliseconds, `NEVER`), MessagePack as an LZ4 block.

    LZ4 halves what is kept in memory, written to the changelog and read at recovery, for 6 µs a state there and back.
    """
    packed: bytes = compress(_encode(user))
    return framed(USER, wake, packed)


def is_user(state: bytes) -> bool:
    """Tell whether a state is a user's, and not one of `worker.sessions.correlation` or `worker.sessions.budget`."""
    return has_format(USER, state)


def decode_user(state: bytes) -> User:
    """Decode what `encode_user` made.

    Raises:
        UnknownFormatError: the state was written by a version this one does not know.
    """
    return _decode_user(decompress(unframed(USER, state)))


def encode_context(parts: Context | tuple[object, ...]) -> bytes:
    """Encode a context, or the tuple of its fields: the same context gives the same bytes."""
    return _encode(parts)


def encode_profile(profile: Profile) -> bytes:
    """Encode a profile, for `User.checkpoint` and `User.midpoint`."""
    return _encode(profile)


def decode_profile(profile: bytes) -> Profile:
    """Decode a fold; no bytes are the fold of no events."""
    return _decode_profile(profile) if profile else new_profile()
