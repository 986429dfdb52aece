"""What a whole tenant does at once: an administrator's changes, resets, snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.simulator.config import HOUR, MINUTE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from worker.simulator.ordinary.config import OrdinaryConfig
    from worker.simulator.ordinary.person import Person
    from worker.simulator.ordinary.publisher import RecordPublisher
    from worker.simulator.session import SimulatedSession

    Change = Callable[[SimulatedSession, int], None]

NEW_LIFETIME, NEW_SCOPE = 20_160, "reports:read"


class TenantChanges:
    """Changes of tenants, each a task of the scheduler: (when it begins, the task)."""

    def __init__(self, config: OrdinaryConfig, publisher: RecordPublisher, people: list[Person]) -> None:
        self._config = config
        self._publisher = publisher
        self._people = people

    def tasks(self) -> Iterator[tuple[float, Generator[float, None, None]]]:
        """Return every change."""
        plan: list[tuple[float, str, Change]] = [
            (0.45, "office", self._lifetime),
            (0.60, "shop", self._scope),
            (0.65, "bank", _revoke),
            (0.70, "shop", _restate),
            (0.72, "university", _revoke),
        ]
        for share, tenant, change in plan:
            at = self._config.share(share) + 11 * HOUR
            yield at, self._sweep(at, tenant, change)
        lazily = self._config.share(0.75) + 12 * HOUR
        yield lazily, self._set(lazily, "university", max_age_minutes=3 * NEW_LIFETIME)

    def _sweep(self, at: int, tenant: str, change: Change) -> Generator[float, None, None]:
        """Change every open session of a tenant, a few a second, as a script in the database does."""
        yield at
        if change == self._lifetime:
            self._users(tenant, max_age_minutes=NEW_LIFETIME)
        elif change == self._scope:
            self._users(tenant, scope=NEW_SCOPE)
        for number, session in enumerate(self._open(tenant, at)):
            t = at + number * 300
            yield t
            if not session.deleted:
                change(session, t)
                self._publisher.publish(session, t, "deleted" if session.deleted else "changed")

    def _set(self, at: int, tenant: str, **settings: Any) -> Generator[float, None, None]:
        """Change a setting that sessions take on one by one, as they are used or begin."""
        yield at
        self._users(tenant, **settings)
        for number, session in enumerate(self._open(tenant, at)):
            yield at + number * 40 * MINUTE
            session.doc.update(settings)

    def _users(self, tenant: str, scope: str = "", max_age_minutes: int = 0) -> None:
        for person in self._people:
            user = person.user
            if user.tenant.id == tenant:
                user.lifetime = max_age_minutes or user.lifetime
                user.scopes = (*user.scopes, scope) if scope else user.scopes

    def _open(self, tenant: str, t: int) -> list[SimulatedSession]:
        return [
            session
            for person in self._people
            if person.user.tenant.id == tenant
            for client in person.clients
            for session in client.sessions
            if not session.deleted and session.open_until() > t
        ]

    def _lifetime(self, session: SimulatedSession, t: int) -> None:
        session.doc["max_age_minutes"] = NEW_LIFETIME
        session.lifetime_ms = NEW_LIFETIME * MINUTE
        session.change(t)

    def _scope(self, session: SimulatedSession, t: int) -> None:
        session.doc["scopes"] = (*session.doc["scopes"], NEW_SCOPE)
        session.change(t)


def _revoke(session: SimulatedSession, t: int) -> None:
    session.delete(t)


def _restate(_session: SimulatedSession, _t: int) -> None:
    """A snapshot of the table: every row again, unchanged."""
