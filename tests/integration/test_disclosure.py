"""What logs, errors and dead letters tell: no secret, and nothing of what records say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.decoding import Rejected, decode
from worker.stream.processing import failure

NOW = 1_790_000_000_000
USER, IP, IP6, AGENT = "marker-user-7f3a", "203.0.113.77", "2001:db8:dead:beef::77", "marker-agent-7f3a"
PLACE, META, UID = "marker-place-7f3a", "marker-meta-7f3a", "marker-uid-7f3a"
MARKERS = (USER, IP, IP6, AGENT, PLACE, META, UID)
WHOLE: dict[str, Any] = {
    "tenant_id": "acme", "user_id": USER, "uid": UID, "ip": IP, "user_agent": AGENT, "location": PLACE,
    "meta_data": {"note": META}, "created_at": NOW, "last_used_at": NOW, "max_age_minutes": 60,
}  # fmt: skip


def wrong_ones() -> list[bytes]:
    """Return records wrong in every way that could repeat what they say."""
    found = [{**WHOLE, name: wrong} for name in WHOLE for wrong in (f"{META}-{name}", [META], {META: META}, 1e300)]
    found += [{**WHOLE, "ip": f"{IP}.{META}"}, {**WHOLE, "created_at": f"2026-13-{META}"}]
    found += [{"specversion": META, "data": WHOLE}, {"specversion": "1.0", "time": META, "data": WHOLE},
              {"specversion": "1.0", "data_base64": META}, {"op": META, "after": WHOLE}]  # fmt: skip
    raw = [json.dumps(each).encode() for each in found]
    whole = json.dumps(WHOLE).encode()
    doubled, nul = whole.replace(b'"location"', b'"ip"'), whole.replace(META.encode(), b"\\u0000" + META.encode())
    return [*raw, whole[:-5], whole + META.encode(), b"\xff" + whole, b"[" * 300 + whole, doubled, nul]


def test_a_dead_letter_s_reason_repeats_nothing() -> None:
    results = [decode(value, record_time=NOW) for value in wrong_ones()]
    rejected = [each for each in results if isinstance(each, Rejected)]
    assert len(rejected) > 25
    for each in rejected:
        assert not [marker for marker in MARKERS if marker in each.message + each.field], each


def test_a_failure_is_told_without_its_words() -> None:
    try:
        int(IP)
    except ValueError as error:
        told = failure(error)
    assert told.startswith("ValueError at test_disclosure.py:")
    assert IP not in told


def worker_log(tmp_path: Path, **settings: str) -> tuple[str, dict[str, Any]]:
    """Run a whole worker over good and bad records; return all it says, and its summary."""
    tokyo = {"location": "Tokyo, JP", "ip": IP6, "last_used_at": NOW + 60_000}
    lines = [json.dumps(each).encode() for each in ({**WHOLE, "location": "Paris, FR"}, {**WHOLE, **tokyo})]
    source = tmp_path / "events.jsonl"
    source.write_bytes(b"\n".join([*lines, *(each for each in wrong_ones() if b"\n" not in each)]))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SESSIONWATCH_")},
        **settings,
    }
    program = "import logging, sys\nfrom worker.observe.logs import configure\nfrom worker import cli, settings\n"
    # `replay` keeps quiet; this makes it as talkative as `worker`.
    program += (
        "import worker.cli.replay as replay\nreplay.configure_logs = lambda *_, **__: configure('info', 'json')\n"
    )
    program += "sys.exit(cli.run(sys.argv[1:]))"
    arguments = ["replay", str(source), "--data-dir", str(tmp_path / "data"), "--json"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120,
                          check=False, env=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr, json.loads(done.stdout)


def test_a_worker_s_logs_hold_no_personal_data_and_pseudonyms_reach_the_store(tmp_path: Path) -> None:
    privacy = {"KEY": "0123456789abcdef" * 2, "USERS": "true", "ADDRESSES": "network", "META_DATA": "drop"}
    logs, summary = worker_log(tmp_path, **{f"SESSIONWATCH_PRIVACY__{name}": value for name, value in privacy.items()})
    assert summary["accepted"] >= 2
    assert summary["rejected"] > 25
    assert summary["findings"] > 0
    assert "Worker ready" in logs
    assert not [marker for marker in MARKERS if marker in logs], logs
    told = "user_id, ip, prefix, meta_data, evidence, summary"
    sql = f"SELECT {told} FROM session_events LEFT JOIN findings USING (user_id)"  # noqa: S608  no value in it
    done = subprocess.run([sys.executable, "-m", "worker.cli", "query", "--data-dir", str(tmp_path / "data"), sql],
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"p-[0-9a-f]{32}.*ip-[0-9a-f]{32}.*net-[0-9a-f]{32}", done.stdout)
    assert not [marker for marker in (USER, IP, IP6, META) if marker in done.stdout], done.stdout


SECRETS = {
    "SESSIONWATCH_KAFKA__SASL_PASSWORD": "hush-kafka", "SESSIONWATCH_KAFKA__SSL_PASSWORD": "hush-key",
    "SESSIONWATCH_WEB__TOKEN": "hush-token", "SESSIONWATCH_PRIVACY__KEY": "hush-privacy-0123456789abcdef0123",
    "SESSIONWATCH_CLICKHOUSE__DSN": "clickhouse://writer:hush-dsn@127.0.0.1:9/default",
    "SESSIONWATCH_KAFKA__SASL_USERNAME": "u", "SESSIONWATCH_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "SESSIONWATCH_WEB__PORT": "0",
    "SESSIONWATCH_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9", "SESSIONWATCH_KAFKA__REQUEST_TIMEOUT_MS": "1000",
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["doctor"], 3),
        (["worker"], 3),
        (["topics", "check"], 3),
        (["migrate", "status"], 3),
        (["--debug", "worker"], 3),
    ],
)
def test_no_secret_is_told_whatever_fails(arguments: list[str], code: int, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "worker.cli", *arguments], capture_output=True, text=True, timeout=120,
                          check=False, cwd=tmp_path, env={**os.environ, **SECRETS})  # fmt: skip
    assert done.returncode == code, done.stderr
    assert not re.search("hush", done.stdout + done.stderr)
