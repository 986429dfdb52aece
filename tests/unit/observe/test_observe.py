from __future__ import annotations

import io
import json
import logging
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import structlog

from worker.enrich.model import Device, Network, NetworkKind, Place
from worker.observe import logs, metrics, pages
from worker.observe.recorder import RejectRate
from worker.observe.writer import StoreObserver, observe_findings
from worker.sessions.limits import HOUR, MINUTE, Limits
from worker.sessions.state import Context, Session, User, encode_context, new_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = 1_760_000_000_000
LIMITS = Limits()
SECRET = "hunter2"  # noqa: S105  the bait


@pytest.fixture
def log_lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Configure JSON logging into a buffer; return what reads its lines."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in out.getvalue().splitlines()]

    logs.configure("info", "json", out)
    yield lines
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_lines_are_json_with_time_level_and_logger(log_lines: Any) -> None:
    structlog.get_logger("sessionwatch.test").info("started", partitions=4)
    (line,) = log_lines()
    assert line["message"] == "started"
    assert line["level"] == "info"
    assert line["logger"] == "sessionwatch.test"
    assert line["partitions"] == 4
    assert line["timestamp"].endswith("Z")


def test_libraries_take_the_same_way_out(log_lines: Any) -> None:
    logging.getLogger("aiokafka.conn").warning("cannot reach %s", "kafka://svc:hunter2@broker:9092")
    logging.getLogger("faust.app").info("chatter")
    (line,) = log_lines()
    assert line["message"] == "cannot reach kafka://svc:***@broker:9092"
    assert line["level"] == "warning"


def test_a_broker_that_is_away_does_not_fill_the_log(log_lines: Any) -> None:
    for number in range(1_000):
        logging.getLogger("aiokafka").error("Unable connect to node with id %s", number)
        logging.getLogger("worker.stream.app").info("[^--Recovery]: Starting...")
        structlog.get_logger("sessionwatch.test").error("ours")
    assert [line["message"] for line in log_lines()].count("ours") == 1_000
    assert len(log_lines()) == 1_001


@pytest.mark.parametrize(
    "text",
    [
        "clickhouse://default:hunter2@db:8123/x",
        "clickhouses://default:hunter2@db/x?password=hunter2",
        "sasl_plain_password=hunter2",
        '{"sasl_password": "hunter2", "a": 1}',
        "KafkaSettings(username='a', password='hunter2')",
        "token: hunter2;",
    ],
)
def test_secrets_in_text_are_masked(text: Any) -> None:
    assert "hunter2" not in logs.masked(text)
    assert logs.MASK in logs.masked(text)


@pytest.mark.parametrize("text", ["http://127.0.0.1:8123/?query=SELECT", "chdb:///data/store", "user@host", "a:b"])
def test_text_without_secrets_is_left_alone(text: Any) -> None:
    assert logs.masked(text) == text


def test_secrets_in_values_and_tracebacks_are_masked(log_lines: Any) -> None:
    log = structlog.get_logger("sessionwatch.test")
    log.warning("connecting", dsn="clickhouse://a:hunter2@db/x", sasl_password=SECRET, api_token=b"hunter2")
    try:
        int("clickhouse://a:hunter2@db/x")
    except ValueError:
        log.exception("failed")
    assert "hunter2" not in json.dumps(log_lines())
    assert log_lines()[0]["dsn"] == "clickhouse://a:***@db/x"
    assert "ValueError" in log_lines()[1]["exception"]


def test_personal_data_stays_out(log_lines: Any) -> None:
    structlog.get_logger("sessionwatch.test").warning("rejected", ip="203.0.113.7", user_id="eve", reason="no-ip")
    (line,) = log_lines()
    assert line["reason"] == "no-ip"
    assert not {"ip", "user_id"} & line.keys()


def test_on_a_terminal_lines_are_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure("info", "auto", out)
        structlog.get_logger("sessionwatch.test").info("started", partitions=4)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    assert "started" in out.getvalue()
    assert not out.getvalue().startswith("{")


# --- the store ---


def count(name: str) -> float:
    (found,) = re.findall(rf"^{name} (\S+)$", metrics.exposition().decode(), re.MULTILINE)
    return float(found)


@pytest.mark.parametrize(("findings", "observed"), [(0, 0), (1, 1), (199, 199), (20_000, 100)])
def test_latency_of_findings_is_sampled(findings: Any, observed: Any) -> None:
    before = count("sessionwatch_finding_latency_seconds_count"), count("sessionwatch_finding_latency_seconds_sum")
    observe_findings([SimpleNamespace(detected_at=NOW - 250)] * findings, NOW)
    assert count("sessionwatch_finding_latency_seconds_count") - before[0] == observed
    assert count("sessionwatch_finding_latency_seconds_sum") - before[1] == pytest.approx(0.25 * observed)


def test_inserts_and_retries_are_counted() -> None:
    observer = StoreObserver()
    before = metrics.totals(metrics.SINK_RETRIES, "error")
    observer.on_insert("findings", 5, 0.1)
    observer.on_retry("code-252")
    assert metrics.totals(metrics.SINK_RETRIES, "error") - before == {"code-252": 1}
    assert 'sessionwatch_insert_seconds_count{table="findings"}' in metrics.exposition().decode()


# --- pages ---


def context(uid: str, country: str = "FR", kind: str = NetworkKind.ISP) -> Context:
    network = Network("203.0.113.7", 4, "203.0.113.0/24", 64500, "Example ISP", kind)
    place = Place(country, "Paris", 48.85, 2.35, 25.0, "location")
    device = Device("Chrome", 131, "Windows", "10", "desktop", False)
    return Context(uid, network, place, device, None, None, None, "user", 60.0, NOW)


def session(reference: int, **changes: object) -> Session:
    plain = Session(
        reference, reference, 0, NOW - HOUR, NOW - MINUTE, NOW - MINUTE, NOW + HOUR, 0, 60.0, None, -1, NOW - HOUR,
        3, 1, 50.0, NOW - MINUTE, 0, [],
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def user_of(name: str, **sessions: Session) -> User:
    user = new_user("acme", name)
    for number, (uid, each) in enumerate(sessions.items(), 1):
        user.contexts[number] = encode_context(context(uid))
        user.current.sessions[uid] = msgspec.structs.replace(each, context=number)
    return user


def body(page: pages.Page) -> dict[str, Any]:
    return json.loads(page.body)


def test_a_user_s_active_sessions_are_shown_newest_first() -> None:
    user = user_of(
        "eve",
        old=session(1, seen=NOW - HOUR),
        new=session(2),
        ended=session(3, ended=NOW - MINUTE),
        expired=session(4, expires=NOW - MINUTE),
        endless=session(5, expires=0, seen=NOW - 2 * HOUR),
    )
    shown = pages.user_sessions(user, NOW, LIMITS)
    assert [each["session_uid"] for each in shown["sessions"]] == ["new", "old", "endless"]
    assert shown["active_sessions"] == 3
    first = shown["sessions"][0]
    assert first["ip"] == "203.0.113.7"
    assert first["country"] == "FR"
    assert first["finding_count"] == 1
    assert 49 < first["risk_score"] < 50
    assert shown["sessions"][2]["expires_at"] is None
    json.loads(pages.json_page(shown).body)


def test_a_tenant_s_counts_and_riskiest_sessions() -> None:
    summary = pages.TenantSummary("acme", NOW, LIMITS, top=2)
    for name, risk in (("a", 10.0), ("b", 90.0), ("c", 40.0)):
        summary.add(user_of(name, **{f"{name}-1": session(1, risk=risk)}))
    summary.add(user_of("gone", done=session(1, ended=NOW - MINUTE)))
    shown = summary.result()
    assert shown["users"] == 4
    assert shown["active_users"] == 3
    assert shown["active_sessions"] == 3
    assert shown["countries"] == {"FR": 3}
    assert [(each["user_id"], each["session_uid"]) for each in shown["sessions"]] == [("b", "b-1"), ("c", "c-1")]


def test_ready_says_why_not() -> None:
    page = pages.ready_page(["clickhouse: unreachable", "kafka: recovering"])
    assert page.status == 503
    assert body(page) == {"status": "unready", "reasons": ["clickhouse: unreachable", "kafka: recovering"]}
    assert b"sessionwatch_ready 0.0" in metrics.exposition()
    assert pages.ready_page([]).status == 200
    assert b"sessionwatch_ready 1.0" in pages.metrics_page().body
    assert pages.live_page().status == 200


def test_many_rejects_in_a_minute_are_a_reason_not_to_be_ready() -> None:
    now = [NOW]
    rejects = RejectRate(lambda: now[0], 0.5)
    rejects.add(60, 60)
    assert rejects.problems() == [], "too few to tell"
    now[0] += 1_000
    rejects.add(40, 0)
    assert rejects.problems() == ["60 of 100 records of the last minute were rejected: `sessionwatch dlq list`"]
    rejects.add(20, 0)
    assert rejects.problems() == [], "half is not more than half"
    rejects.add(100, 100)
    assert rejects.problems()
    now[0] += 61_000
    assert rejects.problems() == []


@pytest.mark.parametrize(
    ("name", "level", "text", "is_logged"),
    [
        ("mode.timers", logging.WARNING, "Timer livelock is overlapping (interval=2.5 runtime=4.0)", False),
        ("mode.timers", logging.WARNING, "Timer livelock was stopped", True),
        ("clickhouse_connect.driver", logging.WARNING, "Unexpected Http Driver Exception", False),
        ("clickhouse_connect.driver", logging.ERROR, "cannot go on", True),
    ],
)
def test_lines_that_nobody_can_act_on_are_dropped(name: str, level: int, text: str, *, is_logged: bool) -> None:
    record = logging.LogRecord(name, level, "", 0, text, (), None)
    assert logs.RepeatFilter().filter(record) is is_logged
