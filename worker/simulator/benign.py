"""Benign traffic: how people sign in, work, move, travel and sign out."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from orjson import dumps

from worker.simulator.config import DAY, HOUR, MINUTE, SECOND, SimulatorConfig, TrafficPace, history_pace, main_pace
from worker.simulator.labels import BenignLabel
from worker.simulator.people import Desk, Seat, SimulatedUser
from worker.simulator.session import PLACEHOLDERS, SimulatedSession, open_session, place_text
from worker.simulator.world import CITIES, EMBARGOED, distance_km

if TYPE_CHECKING:
    from collections.abc import Generator
    from random import Random

    from worker.simulator.geo import Internet
    from worker.simulator.scheduler import Scheduler

OPEN_LIMIT: Final = 3
"""Sessions a benign user leaves open; signing in once more ends the oldest."""
JET_KMH: Final = (700, 850)
UPGRADES: Final = 12
"""Major versions that may still come out while the simulation runs."""


class BenignTraffic:
    """Lives of benign users, each a task of the scheduler."""

    def __init__(self, config: SimulatorConfig, rng: Random, world: Internet, scheduler: Scheduler) -> None:
        self.benign: list[BenignLabel] = []
        self._config = config
        self._rng = rng
        self._random = rng.random
        self._world = world
        self._scheduler = scheduler
        self._main, self._history = main_pace(config), history_pace(config)
        lead_in = self._main.refreshes * self._main.gap_ms if config.warmup_ms else 0
        self._main_from = config.start_ms - lead_in
        self._begin = config.start_ms - config.warmup_ms

    # --- benign lives ---------------------------------------------------------------------------------------

    def life(self, user: SimulatedUser) -> Generator[float, None, None]:
        """Sign in again and again until the simulation ends; rest while an attack has the user."""
        t = self._first(user)
        while t < self._config.end_ms:
            yield t
            if user.taken_until > t:
                t = user.taken_until if user.taken_until < inf else t + 10 * MINUTE
                continue
            t = yield from self._visit(user, int(t))
            t = self._next_start(user, t)

    def _first(self, user: SimulatedUser) -> float:
        pace = self._pace(self._begin)
        first = self._begin + self._random() * pace.cycle_ms
        return self._waking(user, first) if pace.pause_ms > 2 * HOUR else first

    def _pace(self, t: float) -> TrafficPace:
        return self._history if t < self._main_from else self._main

    def _visit(self, user: SimulatedUser, t: int) -> Generator[float, None, int]:
        """One session: sign in, refresh, perhaps sign out. Returns when it was last touched."""
        session = self._sign_in(user, t)
        pace = self._pace(t)
        for _ in range(self._refreshes(user, pace)):
            t += self._step(session, pace)
            if t >= self._config.end_ms:
                return t
            yield t
            if user.taken_until > t:
                return t
            self._refresh(session, t)
        if self._random() < 0.3:
            t += int(self._gap(session, pace) * 0.3)
            yield t
            if user.taken_until <= t and not session.deleted:
                self._sign_out(session, t)
        return t

    def _refreshes(self, user: SimulatedUser, pace: TrafficPace) -> int:
        mean = (pace.refreshes - 0.5) * (3 if user.service else 1)
        return int(max(mean, 0.5) * (0.5 + self._random()) + 0.5)

    def _step(self, session: SimulatedSession, pace: TrafficPace) -> int:
        """Time to the next refresh: always within the session's expiry; a flight when one is taken."""
        user = session.user
        if user.abroad is not None and user.sessions > 5 and self._random() < 0.02:
            flight = self._flight_ms(user, user.abroad)
            if flight < 0.95 * session.lifetime_ms:
                self._fly(user)
                self._arrive(session)
                return flight
        return self._gap(session, pace)

    def _gap(self, session: SimulatedSession, pace: TrafficPace) -> int:
        return int(min(pace.gap_ms * (0.2 + 1.6 * self._random()), 0.9 * session.lifetime_ms)) + 1

    def _next_start(self, user: SimulatedUser, t: int) -> float:
        pace = self._pace(t)
        at = t + pace.pause_ms * (0.5 + self._random())
        if t < self._main_from <= at:
            at = self._main_from + self._random() * self._main.cycle_ms
        if user.abroad is not None and self._travels(user):
            at = max(at, t + self._flight_ms(user, user.abroad))
            self._fly(user)
        return self._waking(user, at) if self._pace(at).pause_ms > 2 * HOUR else at

    def _waking(self, user: SimulatedUser, t: float) -> float:
        """Move a start at night to the user's next morning."""
        if user.service:
            return t
        local = (t + user.city.utc_offset * MINUTE) % DAY
        if 7 * HOUR <= local < 22 * HOUR:
            return t
        return t + (7 * HOUR - local) % DAY + self._random() * 3 * HOUR

    # --- travel ---------------------------------------------------------------------------------------------

    def _travels(self, user: SimulatedUser) -> bool:
        """Early trips make the destination known; later ones happen now and then."""
        return 2 <= user.sessions <= 5 or self._random() < 0.2

    def _flight_ms(self, user: SimulatedUser, abroad: Seat) -> int:
        km = distance_km(user.city, abroad.networks[0].city)
        return int(km / (JET_KMH[0] + self._random() * (JET_KMH[1] - JET_KMH[0])) * HOUR) + SECOND

    def _fly(self, user: SimulatedUser) -> None:
        user.away = not user.away
        user.landed = True
        user.stay = None

    def _first_visit(self, user: SimulatedUser, t: int) -> bool:
        """Whether this landing is in a country the user has never been to."""
        return user.away and t >= self._config.start_ms and self._random() < self._config.first_visit_share

    def _arrive(self, session: SimulatedSession) -> None:
        """Take a session along on a flight: by definition its country changes."""
        user = session.user
        user.landed = False
        seat = user.abroad if user.away and user.abroad is not None else user.home
        session.desk = Desk(0, (seat,), 0.0)
        session.move(*seat.draw(self._rng))
        session.note("flight", ip_change="medium", location_change="high")
        session.note("flight-continued")

    # --- sessions -------------------------------------------------------------------------------------------

    def _sign_in(self, user: SimulatedUser, t: int) -> SimulatedSession:
        self._make_room(user, t)
        desk, seat = self._choose(user)
        upgraded = user.benign == "browser-upgrade" and self._upgrade(user, desk.device)
        network, ip = seat.draw(self._rng)
        moment = t - self._lag()
        session = open_session(self._rng, user, moment, user.devices[desk.device], network, ip, self._offset())
        session.desk = desk
        self._enrol(session, t)
        self._label_start(session, moment)
        if upgraded:
            session.note("browser-upgrade")
        self._dress(session)
        self._scheduler.emit(session, t, "created")
        return session

    def _enrol(self, session: SimulatedSession, t: int) -> None:
        user = session.user
        user.open.append(session)
        user.sessions += 1
        user.first_seen = user.first_seen or t
        user.last_at, user.last_network = t, session.network

    def _choose(self, user: SimulatedUser) -> tuple[Desk, Seat]:
        """Every seat is used once in turn before chance decides, so that the history knows them all."""
        away = user.stay or user.abroad
        if user.away and away is not None:
            return Desk(0, (away,), 0.0), away
        count = sum(len(desk.seats) for desk in user.desks)
        in_turn = user.sessions < 2 * count
        return user.seat(user.sessions % count if in_turn else int(self._random() * count))

    def _make_room(self, user: SimulatedUser, t: int) -> None:
        if user.open:
            user.open = [s for s in user.open if not s.deleted and s.open_until() > t]
        while len(user.open) >= OPEN_LIMIT:
            self._sign_out(user.open.pop(0), t)

    def _refresh(self, session: SimulatedSession, t: int) -> None:
        user, desk = session.user, session.desk
        if user.benign == "browser-upgrade" and desk is not None and self._random() < 0.3:
            self._upgrade_in(session, desk.device)
        if desk is not None and desk.hop and self._random() < desk.hop:
            self._hop(session, desk)
        session.use(t - self._lag())
        user.last_at, user.last_network = t, session.network
        self._dress(session)
        self._scheduler.emit(session, t, "refreshed")
        if self._random() < self._config.back_office_share:
            self._back_office(session, t)

    def _hop(self, session: SimulatedSession, desk: Desk) -> None:
        network, ip = desk.seats[int(self._random() * len(desk.seats))].draw(self._rng)
        if network.asn != session.network.asn:
            session.note(session.user.benign, ip_change="low", session_interleaving="low")
        else:
            session.note(session.user.benign)
        session.move(network, ip)

    def _upgrade(self, user: SimulatedUser, device: int) -> bool:
        if user.devices[device].version > 150 or self._random() > 0.1:
            return False
        user.devices[device] = user.devices[device].upgraded()
        return True

    def _upgrade_in(self, session: SimulatedSession, device: int) -> None:
        if self._upgrade(session.user, device):
            session.device = session.user.devices[device]
            session.doc["user_agent"] = session.device.user_agent
            session.note("browser-upgrade")

    def _dress(self, session: SimulatedSession) -> None:
        """Some systems write a placeholder where they know no place."""
        if session.user.benign == "placeholder":
            draw = self._random()
            place = place_text(session.network, session.user.tenant.places)
            session.doc["location"] = PLACEHOLDERS[int(draw * 4)] if place is None or draw < 0.5 else place
            session.note("placeholder")

    def _back_office(self, session: SimulatedSession, t: int) -> None:
        delay = 1 * SECOND + int(self._random() * 4 * SECOND)
        session.change(t + delay - 50)
        session.doc["meta_data"] = {"note": "reviewed"}
        session.note("back-office")
        self._scheduler.send(session.user, dumps(session.doc), t + delay)

    def _sign_out(self, session: SimulatedSession, t: int) -> None:
        session.delete(t - self._lag())
        self._scheduler.emit(session, t, "deleted")

    def _lag(self) -> int:
        """From the act to the record's arrival on time: milliseconds."""
        return 5 + int(self._random() * 250)

    def _offset(self) -> int:
        if self._random() >= self._config.jitter_share:
            return 0
        return int((self._random() - 0.5) * 8 * SECOND)

    # --- labels ---------------------------------------------------------------------------------------------

    def _label_start(self, session: SimulatedSession, moment: int) -> None:
        user = session.user
        if self._config.collect_benign:
            session.label = BenignLabel(user.tenant.id, user.id, session.uid, moment)
            self.benign.append(session.label)
        self._note_start(session, moment)

    def _note_start(self, session: SimulatedSession, moment: int) -> None:
        user = session.user
        if session.offset:
            session.note("clock-jitter")
        if user.benign == "relay":
            session.note("relay", location_change="low", anonymizer="informational")
        elif user.benign in ("service", "cgnat", "carrier-churn", "private-address", "unknown-geo"):
            session.note(user.benign)
        elif user.benign == "corporate-egress" and session.network is not user.home.networks[0]:
            session.note("corporate-egress")
        if user.landed:
            user.landed = False
            self._note_landing(session, moment)

    def _note_landing(self, session: SimulatedSession, moment: int) -> None:
        session.note("flight")
        if self._first_visit(session.user, moment):
            self._elsewhere(session)
            session.note("flight-first-visit", new_country="medium", new_network="low", unfamiliar_sign_in="high")

    def _elsewhere(self, session: SimulatedSession) -> None:
        """Land in a country the user has never been to, no farther than the known one."""
        user = session.user
        known = user.abroad.networks[0].city if user.abroad is not None else user.city
        reach = distance_km(user.city, known)
        open_to = [
            city
            for city in CITIES
            if city.country not in (user.city.country, known.country, *EMBARGOED)
            and distance_km(user.city, city) <= reach
        ]
        if open_to:
            there = self._world.isps[self._rng.choice(open_to)][0]
            user.stay = Seat((there,), there.address(self._rng))
            session.desk = Desk(0, (user.stay,), 0.0)
            session.move(*user.stay.draw(self._rng))

    def early_life(self, user: SimulatedUser) -> Generator[float, None, None]:
        """Live a month, then sleep: the history of a dormant account."""
        t = self._config.start_ms - 130 * DAY + self._random() * DAY
        for _ in range(13):
            yield t
            t = yield from self._visit(user, int(t))
            t = self._waking(user, t + 2 * DAY * (0.5 + self._random()))
            if t > self._config.start_ms - 97 * DAY:
                return
