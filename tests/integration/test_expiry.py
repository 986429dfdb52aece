"""Sessions that time alone ends: their rows on the real engine, whenever somebody looked."""

from __future__ import annotations

from contextlib import closing
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.support.records import T0, Taken, pipeline, session
from tests.support.store_rows import stored
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect, write_rows
from worker.sessions.limits import DAY, MINUTE
from worker.stream.state_store import MemoryShard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.store_fixtures import Store

pytest_plugins = ["tests.support.store_fixtures"]
END = T0 + 30 * DAY


def records(chosen: Random) -> list[Taken]:
    """Sessions of a few users that last for ten minutes: in and out of order, refreshed, changed and deleted."""
    places = [("203.0.113.7", "Paris, FR"), ("198.51.100.7", "Tokyo, JP")]
    taken = []
    for offset in range(150):
        now = T0 + offset * MINUTE
        used = now - chosen.choice([0, 0, 0, 7, 25]) * MINUTE
        # A change in the back office is no use: the expiry stays where it was.
        office = {"last_used_at": T0, "updated_at": now} if chosen.random() < 0.2 else {"last_used_at": used}
        ip, place = places[chosen.random() < 0.1]
        value = session(uid=f"s{chosen.randrange(5)}", user_id=f"u{chosen.randrange(2)}", ip=ip, location=place,
                        max_age_minutes=10, is_deleted=chosen.random() < 0.02, **office)  # fmt: skip
        taken.append(Taken(value, offset, timestamp=now))
    return taken


def after(store: Store, taken: list[Taken], looks: set[int]) -> list[Mapping[str, Any]]:
    """Return `sessions` when all sessions seen are held to be over after some of the records, and at the end."""
    database, shard, heart = f"t{uuid4().hex}", MemoryShard(), pipeline()
    with closing(connect(store.dsn)) as client:
        client.command(f"CREATE DATABASE {database}")
    outcomes = []
    for number, record in enumerate(taken):
        outcomes.append(heart.process(0, [record], shard))
        if number in looks or number == len(taken) - 1:
            outcomes.append(heart.fire_timers(0, END, shard))
    with closing(connect(store.dsn, database=database)) as client:
        migrations.up(client)
        for table in ("session_events", "sessions"):
            write_rows(client, table, [row for outcome in outcomes for row in outcome.rows.get(table, ())])
        return stored(client, "sessions")


@pytest.mark.parametrize("seed", range(3))
def test_when_somebody_looks_at_expiries_has_no_say(seed: int, store: Store) -> None:
    chosen = Random(seed)
    taken = records(chosen)
    undisturbed = after(store, taken, set())
    assert {row["end_reason"] for row in undisturbed} >= {"expired", "deleted"}
    assert after(store, taken, set(chosen.sample(range(150), 40))) == undisturbed
