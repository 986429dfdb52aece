"""A simulated session: the document its system would publish, kept up to date."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from worker.simulator.config import MINUTE
from worker.simulator.timestamps import iso_z
from worker.simulator.world import COUNTRIES

if TYPE_CHECKING:
    from random import Random

    from worker.simulator.agents import SimulatedDevice
    from worker.simulator.geo import SimulatedNetwork
    from worker.simulator.labels import BenignLabel
    from worker.simulator.people import Desk, SimulatedUser

PLACEHOLDERS: Final = ("-", "unknown", "", "Unknown")


class SimulatedSession:
    """One session of a user; `doc` is its newest snapshot.

    Attributes:
        used: when the user last acted, milliseconds.
        offset: how far this session's clock is off, milliseconds.
    """

    __slots__ = (
        "deleted",
        "desk",
        "device",
        "doc",
        "label",
        "lifetime_ms",
        "network",
        "offset",
        "uid",
        "used",
        "user",
    )

    def __init__(
        self, user: SimulatedUser, uid: str, device: SimulatedDevice, network: SimulatedNetwork, offset: int
    ) -> None:
        self.user = user
        self.uid = uid
        self.device = device
        self.network = network
        self.offset = offset
        self.deleted = False
        self.used = 0
        self.lifetime_ms = user.lifetime * MINUTE
        self.doc: dict[str, Any] = {}
        self.label: BenignLabel | None = None
        self.desk: Desk | None = None

    def open_until(self) -> int:
        """When the sliding expiry ends it, if nothing else does."""
        return self.used + self.lifetime_ms

    def use(self, moment: int) -> None:
        """Record the user's activity."""
        self.used = moment
        stamp = self.user.tenant.stamp(moment + self.offset)
        self.doc["last_used_at"] = stamp
        self.doc["updated_at"] = stamp

    def change(self, moment: int) -> None:
        """Record a change that is no activity of the user."""
        self.doc["updated_at"] = self.user.tenant.stamp(moment + self.offset)

    def move(self, network: SimulatedNetwork, ip: str) -> None:
        """Appear from another address."""
        self.doc["ip"] = ip
        if network is not self.network:
            self.network = network
            text = place_text(network, self.user.tenant.places)
            if text is not None:
                self.doc["location"] = text

    def note(self, name: str, **allowed: str) -> None:
        """Label what the session lives through, if labels of benign sessions are kept."""
        if self.label is not None:
            self.label.note(name, **allowed)

    def delete(self, moment: int) -> None:
        """Sign out, or be revoked."""
        self.deleted = True
        self.doc["is_deleted"] = True
        self.change(moment)


def open_session(
    rng: Random,
    user: SimulatedUser,
    moment: int,
    device: SimulatedDevice,
    network: SimulatedNetwork,
    ip: str,
    offset: int = 0,
) -> SimulatedSession:
    """Sign in: a session with every field the tenant's system writes."""
    session = SimulatedSession(user, new_uid(rng), device, network, offset)
    session.used = moment
    session.doc = _document(session, ip, moment)
    return session


def new_uid(rng: Random) -> str:
    """Draw a version 4 UUID."""
    h = f"{rng.getrandbits(128):032x}"
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"


def _document(session: SimulatedSession, ip: str, moment: int) -> dict[str, Any]:
    user, tenant = session.user, session.user.tenant
    stamp = tenant.stamp(moment + session.offset)
    doc: dict[str, Any] = {
        "uid": session.uid,
        "created_at": stamp,
        "updated_at": stamp,
        "is_deleted": False,
        "user_id": user.id,
        "tenant_id": tenant.id,
        "scopes": user.scopes,
        "last_used_at": None if tenant.extras else stamp,
        "max_age_minutes": user.lifetime,
        "user_agent": session.device.user_agent,
        "ip": ip,
    }
    _optional(session, doc)
    return doc


def _optional(session: SimulatedSession, doc: dict[str, Any]) -> None:
    user, tenant = session.user, session.user.tenant
    place = place_text(session.network, tenant.places)
    kind = "service" if user.service else tenant.session_type
    if user.amr is not None:
        doc["amr"] = user.amr
    if tenant.aud is not None:
        doc["aud"] = tenant.aud
    if tenant.workspaces:
        doc["workspace_id"] = tenant.workspaces[0]
    if tenant.extras:
        doc["meta_data"] = {"client": {"sdk": "4.2", "build": 118}, "trial": False}
    if place is not None:
        doc["location"] = place
    if kind is not None:
        doc["session_type"] = kind


def place_text(network: SimulatedNetwork, style: str) -> str | None:
    """The `location` a system writes for a network; None when it writes none."""
    if style == "none":
        return None
    return "-" if not network.asn else _place_text(network, style)


@cache
def _place_text(network: SimulatedNetwork, style: str) -> str:
    if network.kind in ("mobile", "relay"):  # no city is known behind a carrier's NAT or a relay
        return COUNTRIES[network.city.country]
    if style == "city":
        return f"{network.city.name}, {network.city.country}"
    return f"{network.latitude},{network.longitude}"


def cloudevent(doc: dict[str, Any], kind: str, moment: int, number: int) -> bytes:
    """A CloudEvents 1.0 structured JSON envelope around the snapshot."""
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": f"e-{number}",
            "source": "/identity/sessions",
            "type": f"com.example.session.{kind}",
            "time": iso_z(moment),
            "datacontenttype": "application/json",
            "data": doc,
        }
    )


def debezium(doc: dict[str, Any], kind: str, moment: int, *, wrapped: bool) -> bytes:
    """A Debezium change event, bare or below `payload`."""
    change = {
        "before": None,
        "after": doc,
        "source": {"connector": "postgresql", "db": "identity", "table": "auth_session", "ts_ms": moment},
        "op": "c" if kind == "created" else "u",
        "ts_ms": moment,
    }
    return orjson.dumps({"schema": None, "payload": change} if wrapped else change)


def mangled(value: bytes, draw: float) -> bytes:
    """Break a value in one of the ways producers do."""
    ways = (
        lambda: value[: len(value) // 2],
        lambda: value.replace(b'"user_id"', b'"usr"', 1),
        lambda: value.replace(b'"ip":"', b'"ip":"not-an-address ', 1),
        lambda: b"\xff\xfe" + value,
        lambda: value.replace(b'"is_deleted":', b'"is_deleted":"perhaps","x":', 1),
    )
    return ways[int(draw * len(ways))]()
