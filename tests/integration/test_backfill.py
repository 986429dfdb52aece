from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from pydantic import SecretStr

from worker.apps import backfill as program
from worker.apps.local import fill
from worker.apps.stored_events import BackfillRange, BackfillResult
from worker.cli import run
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect
from worker.sessions.limits import DAY
from worker.settings import ClickHouseSettings, Settings
from worker.simulator import Simulator, profile

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.store_fixtures import Store

pytest_plugins = ["tests.support.store_fixtures"]

START = 1_748_822_400_000
# Dormancy goes back further than the history the simulator gives everybody.
EVERYTHING = BackfillRange(START - 130 * DAY, START + 2 * DAY, history=0)
DISABLED = ("impossible-travel", "new-country")
# What a state that began earlier counted from another beginning, and what a backfill marks.
OWN = ("revision", "is_retroactive")
SET_ASIDE = (
    "CREATE TABLE kept AS findings",
    "INSERT INTO kept SELECT * FROM findings FINAL",
    "TRUNCATE TABLE findings",
)
PUT_BACK = ("TRUNCATE TABLE findings", "INSERT INTO findings SELECT * FROM kept", "DROP TABLE kept")


def simulator() -> Simulator:
    return Simulator(profile("evaluation", users=160, attacks_per_kind=2, rate=0.02, seed=5, tenants=4))


@pytest.fixture(scope="module")
def filled(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    directory = tmp_path_factory.mktemp("backfill")
    settings = Settings(clickhouse=ClickHouseSettings(dsn=SecretStr(store.dsn)))
    with closing(connect(settings.store_dsn())) as client:
        migrations.up(client)
        fill(settings, client, simulator())
    policies = [{"tenant_id": tenant, **policy} for tenant, policy in simulator().labels()["tenants"].items()]
    file = directory / "policies.json"
    file.write_bytes(orjson.dumps(policies))
    return settings, file


def findings(settings: Settings, where: str = "status != 'closed'") -> dict[str, dict[str, Any]]:
    with closing(connect(settings.store_dsn())) as client:
        rows = client.query(f"SELECT * FROM findings FINAL WHERE {where}").named_results()  # noqa: S608
        return {row["finding_uid"]: {key: row[key] for key in row if key not in OWN} for row in rows}


def do(settings: Settings, *statements: str) -> None:
    with closing(connect(settings.store_dsn())) as client:
        for statement in statements:
            client.command(statement)


def test_a_backfill_equals_what_live_found_and_touches_nothing_of_it(filled: tuple[Settings, Path]) -> None:
    settings, policies = filled
    live = findings(settings, "true")
    standing = findings(settings)
    assert len({each["detection"] for each in standing.values()}) > 20
    done = program.backfill(settings, EVERYTHING, policies=policies)
    assert done == BackfillResult(done.events, 0, len(standing), 0)
    assert findings(settings, "true") == live
    do(settings, *SET_ASIDE)
    try:
        assert program.backfill(settings, EVERYTHING, policies=policies, dry_run=True).new == len(standing)
        assert findings(settings) == {}
        assert program.backfill(settings, EVERYTHING, policies=policies).new == len(standing)
        assert findings(settings, "is_retroactive AND revision = 0") == standing
        # Live has the last word, whenever it comes.
        do(settings, "INSERT INTO findings SELECT * FROM kept")
        assert findings(settings, "NOT is_retroactive") == live
    finally:
        do(settings, *PUT_BACK)


def test_what_was_disabled_is_found_and_what_is_no_longer_found_is_closed(filled: tuple[Settings, Path]) -> None:
    settings, policies = filled
    chosen = " OR ".join(f"detection = '{uid}'" for uid in DISABLED)
    missed = findings(settings, f"status != 'closed' AND ({chosen})")
    assert {each["detection"] for each in missed.values()} == set(DISABLED)
    documents = json.loads(policies.read_bytes())
    disabled = [{**each, "detections": {**each.get("detections", {}), **{uid: {"enabled": False} for uid in DISABLED}}}
                for each in documents]  # fmt: skip
    strict = [{**each, "detections": {"impossible-travel": {"parameters": {"least_km": 21_000}}}} for each in documents]
    off, far = policies.with_name("off.json"), policies.with_name("far.json")
    off.write_bytes(orjson.dumps(disabled))
    far.write_bytes(orjson.dumps(strict))
    do(settings, *SET_ASIDE, f"INSERT INTO findings SELECT * FROM kept WHERE NOT ({chosen})")  # noqa: S608  as above
    try:
        asked = EVERYTHING._replace(detections=DISABLED)
        assert program.backfill(settings, asked, policies=off).new == len(missed)
        assert findings(settings, f"is_retroactive AND ({chosen})") == missed
        assert findings(settings, "is_retroactive") == missed
        travels = [uid for uid, each in missed.items() if each["detection"] == "impossible-travel"]
        again = program.backfill(settings, asked._replace(detections=("impossible-travel",)), policies=far)
        assert (again.new, again.known) == (0, 0)
        assert again.closed == len(travels) > 0
        assert findings(settings, "is_retroactive AND status = 'closed'").keys() == set(travels)
    finally:
        do(settings, *PUT_BACK)


def test_the_range_and_the_tenant_asked_for(filled: tuple[Settings, Path]) -> None:
    settings, policies = filled
    where = f"status != 'closed' AND tenant_id = 't0' AND event_time >= fromUnixTimestamp64Milli({START + DAY})"
    tenant = next(iter(findings(settings).values()))["tenant_id"]
    found = findings(settings, where.replace("'t0'", f"'{tenant}'"))
    # A uid's owner in another tenant is not seen where one tenant is asked for.
    wanted = {uid: each for uid, each in found.items() if "another tenant" not in each["summary"]}
    assert wanted
    do(settings, *SET_ASIDE)
    try:
        asked = BackfillRange(START + DAY, START + 2 * DAY, 130 * DAY, tenant)
        assert program.backfill(settings, asked, policies=policies).new == len(wanted)
        assert findings(settings).keys() == wanted.keys()
    finally:
        do(settings, *PUT_BACK)


def test_the_command(filled: tuple[Settings, Path], monkeypatch: Any, capsys: Any) -> None:
    settings, policies = filled
    monkeypatch.setenv("SESSIONWATCH_CLICKHOUSE__DSN", settings.store_dsn())
    given = ["backfill", "--from", "2025-06-02", "--to", "2025-06-02T12:00:00", "--policy", str(policies)]
    assert run([*given, "--history-days", "1", "--detection", "new-network", "--dry-run", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert set(done) == {"events", "new", "known", "closed"}
    assert done["events"] > 0
    assert run([*given, "--detection", "nothing"]) == 2
    assert run([*given[:-4], "2025-06-02T12:00:00", "--to", "2025-06-02"]) == 2
