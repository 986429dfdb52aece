"""The whole way of an event, from outside: the command line against a real broker and the real ClickHouse engine."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.keys import user_key
from worker.embedded.broker import free_port
from worker.settings import KafkaSettings, StreamSettings, TopicSettings
from worker.simulator import Simulator, profile, write_geo
from worker.stream.connection import aiokafka_options

COMMAND = [sys.executable, "-m", "worker.cli"]
BAD = [
    b"{bad",
    b"\xff\xfe",
    b"[1]",
    b'{"user_id": [5]}',
    b'{"tenant_id": "t", "user_id": "u", "user_agent": "x", "ip": "y"}',
]


GOOD = (
    b'{"uid": "s", "tenant_id": "t", "user_id": "u", "ip": "203.0.113.7", "user_agent": "x", '
    b'"last_used_at": "2026-03-02T08:41:07Z"}'
)
WRONG = {
    b"{bad": "invalid-json",
    b"\xff\xfe": "invalid-utf8",
    GOOD.replace(b'"t"', b'"\xff"'): "invalid-utf8",
    b"[1]": "not-an-object",
    GOOD.replace(b'"u"', b"[5]"): "wrong-type",
    GOOD.replace(b'"203.0.113.7"', b"5"): "wrong-type",
    GOOD.replace(b'"ip"', b'"address"'): "missing-field",
    GOOD.replace(b"203.0.113.7", b"somewhere"): "invalid-value",
    GOOD.replace(b'"x"', b'"' + b"x" * (5 << 20) + b'"'): "too-large",
    GOOD[:-1] + b', "meta_data": ' + b'{"a": ' * 3000 + b"1" + b"}" * 3001: "too-deep",
    GOOD[:-1] + b', "max_age_minutes": NaN}': "invalid-json",
    GOOD[:-1] + b', "tenant_id": "other"}': "duplicate-key",
    GOOD.replace(b"2026", b"2150"): "out-of-range",
    GOOD.replace(b"2026", b"1960"): "out-of-range",
    b'{"specversion": "9", "data": ' + GOOD + b"}": "unknown-envelope",
}
"""Every kind of line that is no event, and why it is none."""


LONGEST = StreamSettings().max_record_bytes
"""Of a longer line a dead letter of a replay holds the beginning."""


def traffic(count: int = 3_000, seed: int = 3) -> list[Any]:
    config = profile("demo", seed=seed, start_ms=1_790_000_000_000, users=200, rate=200.0, warmup_days=0.0)
    events = Simulator(config).events()
    return [event for event, _ in zip(events, range(count), strict=False)]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, **environment},
    )


def rows(data_dir: Path, sql: str) -> list[dict[str, Any]]:
    done = run("query", "--data-dir", str(data_dir), "--format", "JSONEachRow", sql)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_file_is_replayed_and_again_with_the_same_findings(tmp_path: Path) -> None:
    source = tmp_path / "events.jsonl"
    lines = [event.value for event in traffic()]
    bad = [each for pair in zip(WRONG, lines, strict=False) for each in pair]
    source.write_bytes(b"\n".join([b"", *bad, b"", b"null", *lines[len(WRONG) :], b"   ", b""]))
    found = []
    for name in ("one", "two"):
        out = tmp_path / f"{name}.jsonl"
        letters = tmp_path / f"{name}-letters.jsonl"
        done = run("replay", str(source), "--data-dir", str(tmp_path / name), "--findings", str(out),
                   "--dead-letters", str(letters), "--json")  # fmt: skip
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout)
        assert summary["read"] == len(lines) + len(WRONG) + 1
        assert (summary["accepted"], summary["rejected"], summary["ignored"]) == (len(lines), len(WRONG), 1)
        assert summary["rows"] == len(lines)
        found.append(out.read_bytes())
        told = [json.loads(line) for line in letters.read_bytes().splitlines()]
        assert [each["line"] for each in told] == list(range(2, 2 * len(WRONG) + 1, 2))
        assert [each["reason"] for each in told] == list(WRONG.values())
        assert all(each["message"] for each in told)
        whole = [base64.b64decode(each.get("value_base64", "")) or each["value"].encode() for each in told]
        assert whole == [each[: LONGEST + 1] for each in WRONG]
    assert found[0] == found[1]
    assert found[0].count(b"\n") == summary["findings"] > 0
    (counted,) = rows(tmp_path / "one", "SELECT count() AS n FROM session_events FINAL")
    assert int(counted["n"]) == len(lines)
    distinct = "SELECT uniqExact(session_uid) AS a, (SELECT count() FROM sessions FINAL) AS b FROM session_events FINAL"
    (sessions,) = rows(tmp_path / "one", distinct)
    assert sessions["a"] == sessions["b"]


CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"


def moved(tenant: str) -> list[bytes]:
    """A session that goes to another network, country and device."""
    common = {"tenant_id": tenant, "user_id": "u", "uid": f"{tenant}-s", "created_at": "2026-03-02T08:00:00Z"}
    places = (("203.0.113.7", "Lyon, FR", CHROME), ("198.51.100.9", "Tokyo, JP", FIREFOX))
    return [
        json.dumps({**common, "last_used_at": f"2026-03-02T08:0{number}:00Z", "ip": ip, "location": location,
                    "user_agent": agent}).encode()
        for number, (ip, location, agent) in enumerate(places)
    ]  # fmt: skip


def test_a_replay_by_policies(tmp_path: Path) -> None:
    source, policies = tmp_path / "events.jsonl", tmp_path / "policies.json"
    source.write_bytes(b"\n".join([*moved("acme"), *moved("plain")]))
    wishes = {"impossible-travel": {"enabled": False}, "location-change": {"severity": "low"},
              "device-change": {"shadow": True}}  # fmt: skip
    policies.write_text(json.dumps([{"tenant_id": "acme", "detections": wishes}]), "utf-8")
    done = run("replay", str(source), "--data-dir", str(tmp_path), "--policy", str(policies), "--json")
    assert done.returncode == 0, done.stderr
    found = {
        (each["tenant_id"], each["detection"]): (each["severity"], each["is_shadow"], each["is_alert"])
        for each in rows(tmp_path, "SELECT tenant_id, detection, severity, is_shadow, is_alert FROM findings FINAL")
    }
    assert ("acme", "impossible-travel") not in found
    assert ("plain", "impossible-travel") in found
    assert found["acme", "location-change"][0] == "low"
    assert found["plain", "location-change"][0] == "high"
    assert found["acme", "device-change"][1:] == (True, False)
    # It alerts no more than the other: what it says is covered by `session-hijack`.
    assert found["plain", "device-change"][1] is False
    policies.write_text('[{"tenant_id": "t", "max_sessions": -1}]', "utf-8")
    refused = run("replay", str(source), "--data-dir", str(tmp_path), "--policy", str(policies))
    assert refused.returncode == 2
    assert "max_sessions" in refused.stderr


def test_findings_across_users_go_through_the_second_stage(tmp_path: Path) -> None:
    """Owners of one uid lie in different partitions, and so do the users who meet on a network."""
    source = tmp_path / "events.jsonl"
    users = [f"user-{number}" for number in range(8)]
    lines = [session(user, "2026-02-01T08:00:00Z", f"old-{user}", f"198.51.100.{number}")
             for number, user in enumerate(users)]  # fmt: skip
    lines += [session(user, f"2026-03-02T08:0{number}:00Z", f"new-{user}", "203.0.113.7")
              for number, user in enumerate(users)]  # fmt: skip
    lines += [session("thief", "2026-03-02T09:00:00Z", "new-user-0", "203.0.113.99")]
    source.write_bytes(b"\n".join(lines))
    ids = []
    for name in ("one", "two"):
        done = run("replay", str(source), "--data-dir", str(tmp_path / name), "--json",
                   SESSIONWATCH_GEO__ASN_DB=str(write_geo(tmp_path / "geo")[1]))  # fmt: skip
        assert done.returncode == 0, done.stderr
        sql = (
            "SELECT finding_uid, detection, user_id, session_uid, status, count FROM findings FINAL "
            "WHERE detection IN ('owner-change', 'network-many-users') ORDER BY detection"
        )
        found = rows(tmp_path / name, sql)
        assert [(each["detection"], each["user_id"], each["session_uid"]) for each in found] == [
            ("network-many-users", "", ""),
            ("owner-change", "thief", "new-user-0"),
        ]
        assert int(found[0]["count"]) == len(users)
        ids.append([each["finding_uid"] for each in found])
    assert ids[0] == ids[1]


def session(user: str, created: str, uid: str, ip: str) -> bytes:
    return json.dumps({"tenant_id": "acme", "user_id": user, "uid": uid, "created_at": created, "ip": ip,
                       "user_agent": CHROME}).encode()  # fmt: skip


def test_the_worker_brings_everything_to_the_store_the_findings_and_the_dead_letters(
    broker: Any, tmp_path: Path
) -> None:
    prefix, port = f"w{uuid4().hex[:8]}", free_port()
    names = {name: f"{prefix}.{name}" for name, field in TopicSettings.model_fields.items() if field.annotation is str}
    environment = {
        "SESSIONWATCH_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "SESSIONWATCH_DATA_DIR": str(tmp_path),
        "SESSIONWATCH_WEB__PORT": str(port),
        "SESSIONWATCH_STREAM__GROUP_ID": prefix,
        "SESSIONWATCH_STREAM__SESSION_TIMEOUT_S": "6",
        **{f"SESSIONWATCH_TOPICS__{name.upper()}": topic for name, topic in names.items()},
    }
    assert run("topics", "create", **environment).returncode == 0
    options = aiokafka_options(KafkaSettings(bootstrap_servers=broker.bootstrap_servers))
    events = traffic(2_000, seed=5)
    sent = asyncio.run(_produce(options, names["events"], events))
    worker = subprocess.Popen(
        [*COMMAND, "worker", "--embedded"], env={**os.environ, **environment}, stderr=subprocess.PIPE
    )
    try:
        _wait(lambda: _metric(port, "sessionwatch_events_accepted_total") >= len(events))
        letters = asyncio.run(_read(options, names["dlq"], len(BAD)))
        (message,) = asyncio.run(_read(options, names["findings"], 1))[:1]
        judged = json.loads(message.value)["finding_info"]
        said = run("feedback", judged["uid"], "false-positive", "--author", "alice", "--force", **environment)
        assert said.returncode == 0, said.stderr
        _wait(lambda: _metric(port, "sessionwatch_feedback_total") == 1)
        metrics = _get(f"http://127.0.0.1:{port}/metrics")
        ready = _get(f"http://127.0.0.1:{port}/health/ready")
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    assert sorted(letter.value for letter in letters) == sorted(BAD)
    assert all(dict(letter.headers)["sw-reason"] for letter in letters)
    assert b"sessionwatch_forwarded_total" in metrics
    assert json.loads(ready)["status"] == "ready"
    (counted,) = rows(
        tmp_path, "SELECT count() AS n, uniqExact(kafka_partition, kafka_offset) AS d FROM session_events FINAL"
    )
    assert int(counted["n"]) == int(counted["d"]) == sent - len(BAD)
    (found,) = rows(tmp_path, "SELECT count() AS n, uniqExact(finding_uid) AS d FROM findings FINAL")
    assert int(found["n"]) == int(found["d"]) > 0
    (precision,) = rows(tmp_path, "SELECT * FROM feedback_by_detection")
    assert (precision["detection"], int(precision["false_positives"])) == (judged["analytic"]["uid"], 1)
    assert precision["precision"] == 0
    messages = asyncio.run(_read(options, names["findings"], int(found["n"])))
    told = {json.loads(message.value)["finding_info"]["uid"] for message in messages}
    assert len(told) == int(found["n"])


def test_two_demos_at_once_each_count_what_they_did(tmp_path: Path) -> None:
    command = [*COMMAND, "demo", "--duration", "2", "--rate", "50", "--json"]
    settings = {"SESSIONWATCH_DATA_DIR": str(tmp_path), "SESSIONWATCH_WEB__PORT": str(free_port())}
    demos = [
        subprocess.Popen(
            command, env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [demo.communicate(timeout=400) for demo in demos]
    assert [demo.returncode for demo in demos] == [0, 0], said
    shown = {word for _, err in said for word in err.split() if word.startswith(("http://", "127."))}
    assert len(shown) == 8, "an address is served twice"
    stored = []
    for name in ("demo", "demo-2"):
        (counted,) = rows(
            tmp_path / name,
            "SELECT (SELECT count() FROM session_events FINAL) AS r, (SELECT count() FROM findings FINAL) AS f",
        )
        stored.append((int(counted["r"]), int(counted["f"])))
    summaries = [json.loads(out) for out, _ in said]
    assert sorted((each["rows"], each["findings"]) for each in summaries) == sorted(stored)
    assert all(each["rows"] == each["accepted"] for each in summaries)


async def _produce(options: Any, topic: str, events: list[Any]) -> int:
    """Half of the events are keyed as they should be; the others lie anywhere, between bad records."""
    async with AIOKafkaProducer(**options, linger_ms=5) as producer:
        for number, event in enumerate(events):
            partition = None if number % 2 else number // 2 % 4
            await producer.send(
                topic, value=event.value, key=event.key, partition=partition, timestamp_ms=event.arrival_ms
            )
        for number, value in enumerate(BAD):
            await producer.send(topic, value=value, partition=number % 4)
    return len(events) + len(BAD)


async def _read(options: Any, topic: str, count: int) -> list[Any]:
    found: list[Any] = []
    async with AIOKafkaConsumer(**options, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, partition) for partition in range(4)])
        deadline = time.monotonic() + 90
        while len(found) < count and time.monotonic() < deadline:
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                found += batch
    return found


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bytes(answer.read())


def _metric(port: int, name: str) -> float:
    try:
        text = _get(f"http://127.0.0.1:{port}/metrics").decode()
    except OSError:
        return 0.0
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def _wait(until: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def test_user_keys_survive_the_url() -> None:
    assert urllib.parse.unquote(user_key("a/b", "c").decode()) == "a/b/c"
