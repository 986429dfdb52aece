"""What sessions announce of their start to the correlation stage, and how rules see it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from schemas.policy import TenantPolicy
from worker.sessions.state import Context, OpenFinding


class SessionStart(msgspec.Struct, frozen=True, array_like=True):
    """The announcement of a session's start.

    Attributes:
        time: event time, milliseconds.
        names: address, network, place and device it began with, for people.
        has_baseline, is_learned, is_new, is_new_client: see `worker.sessions.state.StartHistory`.
        origin, record_time: the record it came with, and that record's timestamp.
        is_temporary: the session is a guest's or for one access, see `schemas.vocabulary.SessionClass`.
        replaces: the time it was announced with before, 0 for none.
    """

    tenant_id: str
    user_id: str
    session_uid: str
    time: int
    names: tuple[str, ...]
    has_baseline: bool
    is_learned: bool
    is_new: bool
    origin: tuple[str, int, int]
    record_time: int
    is_temporary: bool = False
    replaces: int = 0
    is_new_client: bool = False


class Deed(msgspec.Struct, frozen=True, array_like=True):
    """The announcement of a change to a finding that users of a tenant may share, see `Detection.tenant_wide`.

    Attributes:
        key: of the user's state.
        uid, activity, finding, is_material: see `worker.sessions.reorder.FindingChange`.
        after, before: the finding's contexts.
        origin, record_time: the record that brought it about, and that record's timestamp.
    """

    tenant_id: str
    user_id: str
    key: bytes
    uid: str
    activity: int
    finding: OpenFinding
    after: Context | None
    before: Context | None
    origin: tuple[str, int, int]
    record_time: int
    is_material: bool = True


class Claimant(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A user who claims a session's uid, as of the earliest start."""

    time: int
    tenant_id: str
    user_id: str
    names: tuple[str, ...]
    is_temporary: bool = False


class Arrival(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A new session on a network, of a user whose networks are known and to whom it is new."""

    time: int
    user_id: str


class ClaimView(msgspec.Struct):
    """A claim on a uid that another user claimed before, as a detection sees it.

    Attributes:
        tenant_id: owner of the finding: the users' tenant, or the operator's if they are of two tenants.
        first: the earliest claim that is not temporary, or the earliest of all if those before `claim` are.
    """

    tenant_id: str
    session_uid: str
    first: Claimant
    claim: Claimant
    claimants: int
    policy: TenantPolicy


class CrowdView(msgspec.Struct):
    """What appeared on one network, or with one client, in one hour and the next, as a detection sees it.

    Attributes:
        network: name of the network, or of the client.
        since, until: the hour, milliseconds.
        arrivals: new sessions of users to whom the network is new, in order of time.
        known: number of a cell of `cell` milliseconds -> its other users past their learning period, a bit for each
            hash; `bit_of` gives that of a user.
        regulars: counts the users who had come back to the network after a day.
        earlier: counts the users who had been there before the hour.
    """

    tenant_id: str
    network: str
    since: int
    until: int
    arrivals: Sequence[Arrival]
    known: Mapping[int, int]
    cell: int
    bit_of: Callable[[str], int]
    regulars: Callable[[], int]
    earlier: Callable[[], int]
    policy: TenantPolicy

    def windows(self, length: int) -> Iterator[tuple[int, int, set[str]]]:
        """Yield start, end and users of the windows of `length` milliseconds that begin with an arrival in the hour."""
        times = [arrival.time for arrival in self.arrivals]
        for position, start in enumerate(times):
            if start >= self.until:
                return
            end = start + length
            yield start, end, {each.user_id for each in self.arrivals[position : bisect_left(times, end)]}


class SurgeView(msgspec.Struct):
    """How many users signed in from one network in one hour, and in the hours of the week before.

    Attributes:
        hour: number of the hour since the epoch. `users`: about how many signed in then.
        before: number of an hour -> about how many signed in, of those in which any did.
    """

    tenant_id: str
    network: str
    hour: int
    users: float
    before: Mapping[int, float]
    policy: TenantPolicy


class DeedView(msgspec.Struct):
    """What users of a tenant did alike on one day, as a detection sees it.

    Attributes:
        detection, subject: what they did. `summary`: of one of their findings.
        hours: number of the hour since the epoch -> names of the users who did it then, of at most
            `worker.sessions.tenant_wide.HOURLY` of them; those in which enough users did it within the window.
    """

    tenant_id: str
    detection: str
    subject: str
    summary: str
    hours: Mapping[int, Sequence[int]]
    policy: TenantPolicy


_encode = msgspec.msgpack.Encoder().encode
_decode_start = msgspec.msgpack.Decoder(SessionStart).decode
_decode_deed = msgspec.msgpack.Decoder(Deed).decode


def encode_start(start: SessionStart) -> bytes:
    """Encode an announcement."""
    return _encode(start)


def decode_start(value: bytes) -> SessionStart:
    """Decode what `encode_start` made.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _decode_start(value)


def encode_deed(deed: Deed) -> bytes:
    """Encode the announcement of a change to a finding."""
    return _encode(deed)


def decode_deed(value: bytes) -> Deed:
    """Decode what `encode_deed` made.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _decode_deed(value)
