"""Ground truth: what the simulator did, and what the written definitions say must follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Label:
    """One attack.

    Attributes:
        attack: the detection it is meant to trigger.
        variant: how it was done.
        instance: unique id of this attack.
        tenant_id: of the first user concerned.
        users: (tenant, user) pairs concerned.
        sessions: uids concerned, the legitimate ones among them.
        event_time: when the first malicious record was due, up to 200 ms after its act; `until`: the last.
        expected: detections that must fire by their definitions.
        allowed: detections that may fire as side effects.
        hidden_ms: by how much the malicious events arrive late.
        complete: the attack was carried out and all its events were delivered.
    """

    attack: str
    variant: str
    instance: str
    tenant_id: str
    hidden_ms: int = 0
    users: list[tuple[str, str]] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    event_time: int = 0
    until: int = 0
    expected: set[str] = field(default_factory=set)
    allowed: set[str] = field(default_factory=set)
    ended: bool = False
    pending: int = 0

    @property
    def complete(self) -> bool:
        """Whether the attack ended and none of its events is still under way."""
        return self.ended and self.pending == 0

    def strike(self, event_time: int) -> None:
        """Take note of a malicious event."""
        self.event_time = self.event_time or event_time
        self.until = max(self.until, event_time)

    def as_dict(self) -> dict[str, Any]:
        """JSON form; sets sorted."""
        return {
            "attack": self.attack,
            "variant": self.variant,
            "instance": self.instance,
            "tenant_id": self.tenant_id,
            "users": [list(pair) for pair in self.users],
            "sessions": self.sessions,
            "event_time": self.event_time,
            "until": self.until,
            "expected": sorted(self.expected),
            "allowed": sorted(self.allowed - self.expected),
            "hidden_ms": self.hidden_ms,
            "complete": self.complete,
        }


@dataclass(slots=True, eq=False)
class BenignLabel:
    """One session in which nothing bad happened.

    Attributes:
        started_at: milliseconds.
        classes: the benign classes it lived through, in order of first appearance.
        allowed: detection -> the highest severity its definition gives to what was done.
    """

    tenant_id: str
    user_id: str
    session_uid: str
    started_at: int
    classes: list[str] = field(default_factory=list)
    allowed: dict[str, str] = field(default_factory=dict)

    def note(self, name: str, **allowed: str) -> None:
        """Add a class, and what its definition allows (detection ids with `_` for `-`)."""
        if name not in self.classes:
            self.classes.append(name)
        for detection, severity in allowed.items():
            self.allowed[detection.replace("_", "-")] = severity

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "tenant_id": self.tenant_id,
            "user_id": self.user_id,
            "session_uid": self.session_uid,
            "started_at": self.started_at,
            "classes": self.classes or ["ordinary"],
            "allowed": self.allowed,
        }
