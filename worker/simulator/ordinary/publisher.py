"""From a system's database to Kafka: what producers do to records on ordinary and on bad days."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from orjson import dumps

from worker.simulator.config import DAY, HOUR, MINUTE, SECOND

if TYPE_CHECKING:
    from worker.simulator.ordinary.config import OrdinaryConfig
    from worker.simulator.scheduler import Scheduler
    from worker.simulator.session import SimulatedSession


class Span(NamedTuple):
    """From a time until another."""

    since: int
    until: int

    def __contains__(self, t: object) -> bool:
        return isinstance(t, int) and self.since <= t < self.until


class RecordPublisher:
    """Sends snapshots, and counts the user-days and sessions that took place.

    Attributes:
        sessions: (tenant, session) of every session sent.
        days: (tenant, user, day) of every day with an event.
    """

    def __init__(self, config: OrdinaryConfig, scheduler: Scheduler) -> None:
        self.sessions: set[tuple[str, str]] = set()
        self.days: set[tuple[str, str, int]] = set()
        self._scheduler = scheduler
        self._outages = [_span(config.share(share) + 10 * HOUR, HOUR) for share in (0.25, 0.55, 0.8)]
        self._redelivery = [_span(config.share(share) + 13 * HOUR, HOUR) for share in (0.35, 0.85)]
        self._clocks = _span(config.share(0.4), 5 * DAY)

    def offset(self, tenant_id: str, t: int) -> int:
        """Return how far the clock of a tenant's producer is off, in milliseconds."""
        if t not in self._clocks:
            return 0
        return {"office": -20 * SECOND, "shop": 2 * SECOND}.get(tenant_id, 0)

    def publish(self, session: SimulatedSession, t: int, kind: str, *, ahead: bool = False) -> None:
        """Send a session's newest snapshot: after an outage all at once, in a redelivery twice.

        Args:
            session: what to send.
            t: when it arrives, unless chance or an outage delay it.
            kind: created, refreshed, changed or deleted.
            ahead: `t` is still to come.
        """
        user = session.user
        self.sessions.add((user.tenant.id, session.uid))
        self.days.add((user.tenant.id, user.id, t // DAY))
        outage = next((each for each in self._outages if t in each), None)
        if outage is not None:
            self._scheduler.send(user, dumps(session.doc), outage.until + (t - outage.since) // 60)
            return
        if ahead:
            self._scheduler.send(user, dumps(session.doc), t)
        else:
            self._scheduler.emit(session, t, kind)
        if any(t in each for each in self._redelivery):
            self._scheduler.send(user, dumps(session.doc), t + 40 * MINUTE)


def _span(since: int, length: int) -> Span:
    return Span(since, since + length)
