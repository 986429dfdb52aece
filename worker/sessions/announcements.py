"""Announcements to the correlation stage, of session starts and of findings, and the views that rules get of them."""

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
        names: address, network, place and device at the start, as text for people.
        has_baseline, is_learned, is_new, is_new_client: see `worker.sessions.state.StartHistory`.
        origin, record_time: topic, partition and offset of the record that started the session, and its timestamp.
        is_temporary: the session is temporary, see `schemas.vocabulary.SessionClass`.
        replaces: the start time that was announced before, in milliseconds; 0 for none.
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
    """The announcement of a change of a finding that many users of a tenant may have, see `Detection.tenant_wide`.

    Attributes:
        key: of the user's state.
        uid, activity, finding, is_material: see `worker.sessions.reorder.FindingChange`.
        after, before: the finding's contexts.
        origin, record_time: topic, partition and offset of the record that caused it, and its timestamp.
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
    """A user who has a session with the uid, as of the user's earliest start of it."""

    time: int
    tenant_id: str
    user_id: str
    names: tuple[str, ...]
    is_temporary: bool = False


class Arrival(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A new session on a network, of a user whose networks are learned and to whom this one is new."""

    time: int
    user_id: str


class ClaimView(msgspec.Struct):
    """A claim on a uid that another user claimed before, as a detection sees it.

    Attributes:
        tenant_id: tenant that owns the finding: the users' own, or the operator's if the users are of two tenants.
        first: of the claims before `claim`, the earliest that is not temporary; if all are temporary, the earliest.
    """

    tenant_id: str
    session_uid: str
    first: Claimant
    claim: Claimant
    claimants: int
    policy: TenantPolicy


class CrowdView(msgspec.Struct):
    """The users who appeared on one network, or with one client, in one hour, as a detection sees them.

    Attributes:
        network: name of the network, or of the client.
        since, until: start and end of the hour, milliseconds.
        arrivals: new sessions of users to whom the network is new, in order of time.
        known: number of a cell of `cell` milliseconds -> its other users past their learning period, as a bit set of
            their hashes; `bit_of` returns the bit of a user.
        regulars: counts the users who had come back to the network after a day or more.
        earlier: counts the users who had been on the network before the hour.
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
    """Estimated number of users who signed in from one network in one hour, and in the hours of the week before.

    Attributes:
        hour: number of the hour since the epoch. `users`: estimated number of users in it.
        before: number of an hour -> estimated number of users; hours without any are absent.
    """

    tenant_id: str
    network: str
    hour: int
    users: float
    before: Mapping[int, float]
    policy: TenantPolicy


class DeedView(msgspec.Struct):
    """A change that many users of a tenant made on one day, as a detection sees it.

    Attributes:
        detection, subject: of the users' findings. `summary`: that of one of these findings.
        hours: number of a tenant-wide hour since the epoch -> hashes of the users who did it in that hour, at most
            `worker.sessions.tenant_wide.HOURLY` of them.
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
    """Encode the announcement of a session's start."""
    return _encode(start)


def decode_start(value: bytes) -> SessionStart:
    """Decode the announcement of a session's start.

    Raises:
        msgspec.DecodeError: the value is not such an announcement.
    """
    return _decode_start(value)


def encode_deed(deed: Deed) -> bytes:
    """Encode the announcement of a change of a finding."""
    return _encode(deed)


def decode_deed(value: bytes) -> Deed:
    """Decode the announcement of a change of a finding.

    Raises:
        msgspec.DecodeError: the value is not such an announcement.
    """
    return _decode_deed(value)
