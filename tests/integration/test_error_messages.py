"""Every refusal is one line: what was tried, what came back, what to do. Each against the real command."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificates import certificates
from worker.embedded.broker import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "worker.cli"]
FORBIDDEN = re.compile(
    r"Traceback|https?://(?!127\.0\.0\.1)|object at 0x|AddressFamily|urllib3|aiokafka|clickhouse_connect|HTTPConnection"
    r"|pydantic|\[Errno|\w+Error\("
)
USAGE, UNREACHABLE = 2, 3
REQUEST_MS = 3_000


def run(tmp_path: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONWATCH_")}
    given = {f"SESSIONWATCH_{name}": value for name, value in settings.items()}
    environment = {**clean, "SESSIONWATCH_DATA_DIR": str(tmp_path / "data"), **given}
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )


def error_of(done: subprocess.CompletedProcess[str], code: int | None = None) -> str:
    """Return the one line that says what is wrong."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert not FORBIDDEN.search(done.stderr), done.stderr
    assert done.returncode == (done.returncode or 1 if code is None else code), done.stderr
    return lines[0]


@contextmanager
def server(context: ssl.SSLContext | None = None, answer: bytes | None = None) -> Iterator[int]:
    """Listen; with a context speak TLS; with an answer give it and close, without one never answer."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=talk, args=(client,), daemon=True).start()

    def talk(client: socket.socket) -> None:
        kept.append(client)
        with suppress(OSError):
            if context is not None:
                client = context.wrap_socket(client, server_side=True)
            client.recv(1000)
            if answer is not None:
                client.sendall(answer)
                client.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        for each in kept:
            each.close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    directory = tmp_path_factory.mktemp("certificates")
    certificates(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "broker.pem")
    with server(context) as port:
        yield port


KAFKA_COMMANDS = (["topics", "check"], ["policy", "list"], ["dlq", "list"], ["policy", "unset", "--tenant", "t"],
                  ["alerts", "list"], ["alerts", "replay", "x"])  # fmt: skip


@pytest.mark.parametrize("command", KAFKA_COMMANDS, ids=" ".join)
def test_kafka_away(tmp_path: Path, command: list[str]) -> None:
    found = error_of(run(tmp_path, *command, KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1"), UNREACHABLE)
    assert "127.0.0.1:1: connection refused" in found
    assert "kafka.bootstrap_servers" in found


def test_a_kafka_host_that_does_not_exist(tmp_path: Path) -> None:
    found = error_of(run(tmp_path, "topics", "check", KAFKA__BOOTSTRAP_SERVERS="nowhere.invalid:9092"), UNREACHABLE)
    assert "nowhere.invalid:9092" in found


@pytest.mark.parametrize(("protocol", "wanted"), [("PLAINTEXT", "set SSL"), ("SASL_PLAINTEXT", "set SASL_SSL")])
def test_a_tls_port_of_kafka_spoken_to_in_plain_text(tmp_path: Path, tls: int, protocol: str, wanted: str) -> None:
    began = time.monotonic()
    done = run(
        tmp_path, "topics", "check", KAFKA__BOOTSTRAP_SERVERS=f"127.0.0.1:{tls}", KAFKA__SECURITY_PROTOCOL=protocol,
        KAFKA__SASL_USERNAME="u", KAFKA__SASL_PASSWORD="p", KAFKA__REQUEST_TIMEOUT_MS=str(REQUEST_MS),  # noqa: S106  nobody's
    )  # fmt: skip
    assert time.monotonic() - began < 30
    found = error_of(done, UNREACHABLE)
    assert "speaks TLS" in found
    assert wanted in found


@pytest.mark.parametrize("answer", [None, b"\x00\x00\x00\x04oops", b""])
def test_a_plain_port_of_kafka_spoken_to_in_tls(tmp_path: Path, answer: bytes | None) -> None:
    with server(answer=answer) as port:
        done = run(
            tmp_path, "topics", "check", KAFKA__BOOTSTRAP_SERVERS=f"127.0.0.1:{port}", KAFKA__SECURITY_PROTOCOL="SSL",
            KAFKA__REQUEST_TIMEOUT_MS=str(REQUEST_MS),
        )  # fmt: skip
    found = error_of(done, UNREACHABLE)
    assert "no answer in time" in found if answer is None else "set PLAINTEXT" in found, found


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("clickhouse://u:s3cret@127.0.0.1:1/db", "connection refused"),
        ("clickhouse://u:s3cret@nowhere.invalid:8123/db", "nowhere.invalid"),
        ("mysql://u:s3cret@127.0.0.1/db", "expected chdb:///directory or clickhouse://"),
        ("clickhouse://u:s3/cret@127.0.0.1:8123/db", "percent-encode"),
    ],
)
def test_a_store_that_cannot_be_reached(tmp_path: Path, dsn: str, said: str) -> None:
    done = run(tmp_path, "migrate", "status", CLICKHOUSE__DSN=dsn)
    found = error_of(done, UNREACHABLE)
    assert said in found
    assert "s3cret" not in done.stderr


def test_a_tls_port_of_clickhouse_spoken_to_in_plain_text(tmp_path: Path, tls: int) -> None:
    found = error_of(run(tmp_path, "migrate", "status", CLICKHOUSE__DSN=f"clickhouse://127.0.0.1:{tls}/db"))
    assert "clickhouses://" in found


def test_a_plain_port_of_clickhouse_spoken_to_in_tls(tmp_path: Path) -> None:
    with server(answer=b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as port:
        found = error_of(run(tmp_path, "migrate", "status", CLICKHOUSE__DSN=f"clickhouses://127.0.0.1:{port}/db"))
    assert "clickhouse://" in found


@pytest.mark.parametrize("command", [["replay", "in.jsonl"], ["demo", "--duration", "1"], ["worker", "--embedded"]],
                         ids=" ".join)  # fmt: skip
def test_a_data_directory_that_cannot_be_written(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "in.jsonl").write_text("{}\n")
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file" / "below", unwritable()):
        found = error_of(run(tmp_path, *command, DATA_DIR=str(directory)), USAGE)
        assert str(directory) in found
        assert "data_dir" in found


def unwritable() -> str:
    """Return a directory in which not even root may write."""
    return "/proc/sessionwatch"


FILE_COMMANDS = (["replay"], ["map", "check"], ["policy", "set", "--tenant", "t"], ["alerts", "route"])


@pytest.mark.parametrize("command", FILE_COMMANDS, ids=" ".join)
@pytest.mark.parametrize(("file", "why"), [("none.json", "no such file or directory"), (".", "is a directory")])
def test_a_file_that_cannot_be_read(tmp_path: Path, command: list[str], file: str, why: str) -> None:
    found = error_of(run(tmp_path, *command, file), USAGE)
    assert f"{file}: {why}" in found


def test_doctor_says_that_a_data_directory_cannot_be_written(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", "--json", DATA_DIR=unwritable(), KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert not FORBIDDEN.search(done.stdout + done.stderr), done.stdout
    (check,) = (each for each in json.loads(done.stdout)["checks"] if each["name"] == "data_dir")
    assert check["status"] == "fail"
    assert check["advice"]


def test_a_web_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, EmbeddedBroker(tmp_path / "broker.log") as broker:
        port = str(taken.getsockname()[1])
        done = run(tmp_path, "worker", "--embedded", WEB__PORT=port, KAFKA__BOOTSTRAP_SERVERS=broker.bootstrap_servers)
    found = error_of(done, USAGE)
    assert port in found
    assert "web.port" in found


@pytest.mark.parametrize(
    ("document", "field"),
    [("{", "(document)"), ('{"mfa": "perhaps"}', "mfa"), ('{"detections": {"no-such": {}}}', "no-such"),
     ('[{"tenant_id": "acme", "shadow": 7}]', "shadow"), ("[1]", "tenant_id")],
)  # fmt: skip
def test_a_bad_policy(tmp_path: Path, document: str, field: str) -> None:
    (tmp_path / "p.json").write_text(document)
    (tmp_path / "in.jsonl").write_text("{}\n")
    for command in (["policy", "set", "p.json", "--tenant", "acme"], ["replay", "in.jsonl", "--policy", "p.json"]):
        if command[0] == "replay" and document.startswith("{"):
            continue
        found = error_of(run(tmp_path, *command), USAGE)
        assert field in found


PLUGIN_METADATA = "Metadata-Version: 2.1\nName: acme-rules\nVersion: 1\n"


def plug_in(tmp_path: Path, source: str) -> str:
    """Write a distribution with one plug-in; return the path to import it from."""
    site = tmp_path / "site"
    info = site / "acme_rules-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(PLUGIN_METADATA)
    (info / "entry_points.txt").write_text("[sessionwatch.detections]\nacme-rule = acme_rules:DETECTION\n")
    (site / "acme_rules.py").write_text(source)
    return str(site)


def run_with(tmp_path: Path, site: str, *arguments: str, **settings: str) -> Any:
    previous = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [site, previous]))
    try:
        return run(tmp_path, *arguments, **settings)
    finally:
        if previous is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = previous


@pytest.mark.parametrize("source", ["import nothing_of_this_name\n", "raise ZeroDivisionError\n", "DETECTION = 7\n",
                                    "raise SystemExit(9)\n", "", "def f(:\n"])  # fmt: skip
def test_a_plug_in_that_cannot_be_imported_is_named(tmp_path: Path, source: str) -> None:
    site = plug_in(tmp_path, source)
    (tmp_path / "in.jsonl").write_text("{}\n")
    found = error_of(run_with(tmp_path, site, "replay", "in.jsonl"), USAGE)
    assert "acme-rule" in found
    assert "acme-rules" in found
    assert "detections.broken_plugins" in found


def test_a_plug_in_that_cannot_be_imported_is_skipped_where_a_setting_says_so(tmp_path: Path) -> None:
    site = plug_in(tmp_path, "import nothing_of_this_name\n")
    done = run_with(tmp_path, site, "detections", "list", "--json", DETECTIONS__BROKEN_PLUGINS="skip")
    assert done.returncode == 0, done.stderr
    assert "acme-rule" in done.stderr
    assert not FORBIDDEN.search(done.stderr), done.stderr
    assert len(json.loads(done.stdout)["detections"]) > 20


def test_a_plug_in_that_raises_costs_its_own_verdict_alone(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text("utf-8")
    source = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)[0]
    broken = re.sub(r"(def (?:_)?detect\(.*?\).*?:\n)", r"\1    raise ZeroDivisionError('words of a record')\n", source)
    assert broken != source
    site = plug_in(tmp_path, broken)
    event = {
        "uid": "s1", "user_id": "u1", "tenant_id": "acme", "created_at": "2026-01-01T10:00:00Z",
        "updated_at": "2026-01-01T10:00:00Z", "last_used_at": "2026-01-01T10:00:00Z", "is_deleted": False,
        "ip": "198.51.100.7", "user_agent": "curl/8", "location": "", "session_type": "regular_login",
        "amr": ["password"], "scopes": [], "max_age_minutes": 60,
    }  # fmt: skip
    (tmp_path / "in.jsonl").write_text(json.dumps(event) + "\n" + "not json\n")
    done = run_with(tmp_path, site, "replay", "in.jsonl", "--json", "--dead-letters", "dead.jsonl", WEB__PORT="0")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["accepted"] == summary["rows"] == 1
    assert summary["failed"] == 0
    assert sum(summary["failures"].values()) >= 1
    assert "ZeroDivisionError at acme_rules.py:" in done.stderr
    assert "words of a record" not in done.stderr
    assert not FORBIDDEN.search(done.stderr), done.stderr
    (letter,) = map(json.loads, (tmp_path / "dead.jsonl").read_text().splitlines())
    assert letter["line"] == 2
