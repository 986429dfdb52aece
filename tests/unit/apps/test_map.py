"""`sessionwatch map` and how `replay` ends when nothing can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from worker.apps.errors import CheckFailedError
from worker.cli import run
from worker.cli.common import finish
from worker.observe.snapshot import Summary

if TYPE_CHECKING:
    from typing import Any

LOGIN = {"time": 1_793_700_000_000, "type": "LOGIN", "realmId": "acme", "clientId": "app", "userId": "ada",
         "sessionId": "2f9c", "ipAddress": "203.0.113.7", "details": {"credential_type": "otp"}}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(records: Any, name: str = "records.json") -> str:
    Path(name).write_text(json.dumps(records), encoding="utf-8")
    return name


def test_a_check_shows_what_each_field_becomes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["map", "check", written(LOGIN)]) == 0
    out = capsys.readouterr().out
    assert "record 1: created, read as keycloak" in out
    assert "keycloak-web#794" in out
    assert "otp" in out


def test_a_check_as_json_and_one_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    records = [LOGIN, {**LOGIN, "type": "LOGIN_ERROR", "error": "x"}, {**LOGIN, "ipAddress": "nowhere"}]
    assert run(["map", "check", written(records), "--mapping", "keycloak", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [each["result"] for each in told["records"]] == ["created", "ignored", "rejected"]
    assert told["records"][2]["field"] == "keycloak.ip"
    known = {each["name"]: each for each in told["records"][0]["properties"]}
    assert len(known) == 17
    assert known["user_agent"]["value"] == ""


def test_a_tenant_and_a_mapping_of_one_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    fields = "{user_id: who, uid: sid, ip: peer}"
    document = f"{{name: gate, title: Gate, source: 'https://gate.example', fits: who, fields: {fields}}}"
    Path("gate.yaml").write_text(document, encoding="utf-8")
    file = written({"who": "ada", "sid": 1, "peer": "203.0.113.7"})
    assert run(["map", "check", file, "--mapping", "./gate.yaml", "--tenant", "acme", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["records"]
    assert record["shape"] == "gate"
    assert run(["map", "check", file, "--mapping", "nonesuch"]) == 2
    assert "neither a file nor one of" in capsys.readouterr().err


def test_the_mappings_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["map", "list"]) == 0
    assert "better-auth" in capsys.readouterr().out


def summary(**changes: Any) -> Summary:
    counts = {"read": 2, "accepted": 0, "rejected": 2, "ignored": 0, "rows": 0, "findings": 0, "seconds": 1.0}
    return Summary(**{**counts, "reasons": {"missing-field": 2}, **changes})


def test_a_replay_of_which_nothing_could_be_read_fails_with_the_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckFailedError, match="2 missing-field"):
        finish(summary(), as_json=True)
    assert json.loads(capsys.readouterr().out)["reasons"] == {"missing-field": 2}


@pytest.mark.parametrize(
    "changes", [{"accepted": 1, "rejected": 1}, {"rejected": 0, "ignored": 2}, {"read": 0, "rejected": 0}]
)
def test_other_replays_do_not(changes: dict[str, int]) -> None:
    finish(summary(**changes), as_json=True)
    with pytest.raises(typer.Exit):
        finish(summary(interrupted=True), as_json=True)


def test_of_many_rejected_records_only_the_first_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.txt").write_text("no JSON\n" * 25, encoding="utf-8")
    assert run(["map", "check", "notes.txt"]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 11
    assert shown[-1] == "15 more rejected records are not shown"
