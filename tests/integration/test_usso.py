"""A real USSO Lite server: users log in over HTTP; its session rows go through Kafka, and rows and findings are right.

USSO is the system whose schema is the contract of the input. Source: PyPI `usso`, module `usso.lite`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.usso import as_if_minutes_passed, debezium, snapshot, usso_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-m", "worker.cli"]
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
)
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 "
    "Mobile/15E148 Safari/604.1"
)
SCRIPT = "python-requests/2.32.3"
HOME, CAFE, ELSEWHERE = "198.18.10.7", "198.18.20.7", "203.0.113.9"
NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
ADA = {"type": "email", "identifier": "ada@example.com"}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Ada registers, logs in by password and by code, refreshes and logs out; one session is stolen, one comes back."""
    with usso_server(tmp_path_factory.mktemp("usso")) as usso:
        usso.post("/auth/register", {**ADA, "secret": "correct horse", "name": "Ada"})
        laptop = usso.post(
            "/auth/login", {**ADA, "method": "password", "secret": "correct horse"}, agent=CHROME, address=HOME
        )
        code = usso.post("/auth/request-otp", ADA, agent=PHONE, address=CAFE)["code"]
        usso.post("/auth/login", {**ADA, "method": "email/otp", "secret": code}, agent=PHONE, address=CAFE)
        laptop |= usso.post("/auth/refresh", {"refresh_token": laptop["refresh_token"]}, agent=CHROME, address=HOME)
        sessions = {row["user_agent"]: row["uid"] for _, row in usso.changes}
        # USSO Lite keeps the client of the log-in; the full USSO tells that of the refresh.
        usso.execute(
            f"UPDATE localsession SET user_agent = ?, ip = ?, last_used_at = {NOW} WHERE uid = ?",  # noqa: S608
            SCRIPT, ELSEWHERE, sessions[CHROME],
        )  # fmt: skip
        usso.post("/auth/logout", {"refresh_token": laptop["refresh_token"]}, agent=CHROME, address=HOME)
        usso.execute(
            f"UPDATE localsession SET is_active = 1, last_used_at = {NOW} WHERE uid = ?",  # noqa: S608
            sessions[CHROME],
        )
        yield {"changes": as_if_minutes_passed(usso.changes), "sessions": sessions}


def call(arguments: list[str], **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **settings}
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=180
    )


def replayed(records: list[dict[str, Any]], directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Run records through the embedded broker, the worker and the store; return rows and findings."""
    file, store = directory / "records.jsonl", directory / "data"
    file.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    done = call(["replay", str(file), "--data-dir", str(store), "--json"], SESSIONWATCH_INPUT__TENANT_ID="acme")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["accepted"], summary["rejected"]) == (len(records), 0)
    found = {}
    for table in ("session_events", "findings", "sessions"):
        sql = f"SELECT * FROM {table} FINAL"  # noqa: S608  names of our own
        shown = call(["query", "--data-dir", str(store), "--format", "JSONEachRow", sql])
        assert shown.returncode == 0, shown.stderr
        found[table] = [json.loads(line) for line in shown.stdout.splitlines()]
    return found


@pytest.mark.parametrize("form", ["debezium", "snapshots"])
def test_a_day_at_a_real_server(story: dict[str, Any], form: str, tmp_path: Path) -> None:
    changes, sessions = story["changes"], story["sessions"]
    records = [debezium(*pair) for pair in changes] if form == "debezium" else [snapshot(after) for _, after in changes]
    found = replayed(records, tmp_path)
    events = sorted(found["session_events"], key=lambda row: row["event_time"])
    assert {row["tenant_id"] for row in events} == {"acme"}
    assert {row["shape"] for row in events} == {"debezium" if form == "debezium" else "usso"}
    by_session = {uid: [row for row in events if row["session_uid"] == uid] for uid in sessions.values()}
    laptop, phone, registered = (by_session[sessions[agent]] for agent in (CHROME, PHONE, None))
    assert [row["kind"] for row in laptop] == ["created", "refreshed", "refreshed", "deleted", "refreshed"]
    assert [row["ip"] for row in laptop] == [HOME, HOME, ELSEWHERE, ELSEWHERE, ELSEWHERE]
    assert laptop[0]["amr"] == ["password"]
    assert laptop[0]["ua_family"] == "Chrome"
    assert laptop[0]["max_age_minutes"] == 60
    assert (phone[0]["amr"], phone[0]["os_family"]) == (["email/otp"], "iOS")
    # Registration keeps neither address nor agent: unknown, and no reason to reject the session.
    assert (registered[0]["ip"], registered[0]["user_agent"], registered[0]["repaired"]) == ("", "", [])
    severities = {
        row["detection"]: row["severity"] for row in found["findings"] if row["status"] not in ("suppressed", "closed")
    }
    assert severities["use-after-revocation"] == "critical"
    assert severities["session-hijack"] in ("high", "critical")
    assert {row["session_uid"] for row in found["findings"] if row["detection"] == "session-hijack"} == {
        sessions[CHROME]
    }
    assert {row["session_uid"] for row in found["sessions"]} == set(sessions.values())
