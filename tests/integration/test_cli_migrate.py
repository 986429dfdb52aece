"""`sessionwatch migrate`, over the wire to the real engine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from worker.cli import run
from worker.embedded.access import Role

if TYPE_CHECKING:
    from tests.support.store_fixtures import Store

pytest_plugins = ["tests.support.store_fixtures"]


@pytest.fixture(autouse=True)
def _settings(store: Store, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("SESSIONWATCH_")]:
        monkeypatch.delenv(name)
    dsn = store.address.dsn(Role.WRITER, database)
    monkeypatch.setenv("SESSIONWATCH_CLICKHOUSE__DSN", dsn)
    monkeypatch.chdir(tmp_path)


def test_up_status_and_down(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["migrate", "status"]) == 1
    assert run(["migrate", "up", "--dry-run"]) == 0
    assert "CREATE TABLE IF NOT EXISTS session_events" in capsys.readouterr().out
    assert run(["migrate", "up"]) == 0
    assert "0010_access" not in capsys.readouterr().err
    assert run(["migrate", "status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "skipped: about users" in line] == [line for line in lines if "access" in line]
    assert run(["migrate", "status", "--json"]) == 0
    shown = {each["name"]: each["state"] for each in json.loads(capsys.readouterr().out)["migrations"]}
    assert shown.pop("access").startswith("skipped")
    assert set(shown.values()) == {"applied"}
    assert run(["migrate", "down"]) == 0
    assert run(["migrate", "status"]) == 1


def test_retention_is_seen_to(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["migrate", "up"]) == 0
    monkeypatch.setenv("SESSIONWATCH_RETENTION__FINDINGS_DAYS", "90")
    assert run(["migrate", "up"]) == 0
    assert "ran ALTER TABLE findings MODIFY TTL" in capsys.readouterr().err
    assert run(["migrate", "up"]) == 0
    assert capsys.readouterr().err == "nothing to do\n"


def test_access_is_a_matter_of_a_server(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONWATCH_CLICKHOUSE__MANAGE_ACCESS", "true")
    assert run(["migrate", "up", "--dry-run"]) == 0
    assert "CREATE ROLE IF NOT EXISTS sessionwatch_writer;" in capsys.readouterr().out
    # The embedded engine makes no roles; what it says reaches whoever asked for it.
    assert run(["migrate", "up"]) == 1
    assert "migration 0010_access: " in capsys.readouterr().err
    assert run(["migrate", "status"]) == 1
    assert "0010_access" in capsys.readouterr().err
