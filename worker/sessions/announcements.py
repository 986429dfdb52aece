"""What sessions announce of their start to the correlation stage, and how rules see it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from schemas.policy import TenantPolicy


class SessionStart(msgspec.Struct, frozen=True, array_like=True):
    """The announcement of a session's start.

    Attributes:
        time: event time, milliseconds.
        names: address, network, place and device it began with, for people.
        has_baseline, is_learned, is_new: see `worker.sessions.reorder.StartHistory`.
        origin, record_time: the record it came with, and that record's timestamp.
        is_temporary: the session is a guest's or for one access, see `schemas.vocabulary.SessionClass`.
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


class Claimant(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A user who claims a session's uid, as of the earliest start."""

    time: int
    tenant_id: str
    user_id: str
    names: tuple[str, ...]
    is_temporary: bool = False


class Arrival(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A new session on a network, of a user whose networks are known."""

    time: int
    session_uid: str
    user_id: str
    is_new: bool


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
    """The new sessions of users with a history on one network, and how many regulars it has, as a detection sees it."""

    tenant_id: str
    network: str
    arrivals: Sequence[Arrival]
    regulars: int
    policy: TenantPolicy


_encode = msgspec.msgpack.Encoder().encode
_decode_start = msgspec.msgpack.Decoder(SessionStart).decode


def encode_start(start: SessionStart) -> bytes:
    """Encode an announcement."""
    return _encode(start)


def decode_start(value: bytes) -> SessionStart:
    """Decode what `encode_start` made.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _decode_start(value)
