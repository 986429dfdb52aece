"""The commands that talk to Kafka, on the embedded broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from worker.cli import run
from worker.embedded.broker import EmbeddedBroker
from worker.settings import KafkaSettings
from worker.stream.produce import produce

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker") / "broker.log") as running:
        yield running.bootstrap_servers


@pytest.fixture(autouse=True)
def _settings(broker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("SESSIONWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SESSIONWATCH_KAFKA__BOOTSTRAP_SERVERS", broker)
    monkeypatch.chdir(tmp_path)


def test_topics_are_checked_created_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topics", "check", "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert {"auth.sessions", "auth.sessions.dlq", "session.findings"} <= {each["topic"] for each in problems}
    assert run(["topics", "create", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["created"]) == {each["topic"] for each in problems}
    assert run(["topics", "create", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"created": []}
    assert run(["topics", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "problems": []}


def test_a_wrong_partition_count_is_a_problem(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["topics", "create"])
    monkeypatch.setenv("SESSIONWATCH_TOPICS__PARTITIONS", "7")
    assert run(["topics", "check"]) == 1
    out, err = capsys.readouterr()
    assert "has 4 partitions, not 7" in out
    assert "error: " in err


async def count(broker: str, topic: str) -> int:
    """Read to the end: Tansu tells ends that are too low when it is asked for them."""
    async with AIOKafkaConsumer(bootstrap_servers=broker) as consumer:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        read = 0
        while any([await consumer.position(tp) < (consumer.highwater(tp) or 1) for tp in partitions]):
            records = await consumer.getmany(timeout_ms=500)
            read += sum(map(len, records.values()))
            if not records:
                break
        return read


def test_simulate_sends_what_it_says(broker: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(["topics", "create"])
    before = asyncio.run(count(broker, "auth.sessions"))
    arguments = [
        "--users",
        "200",
        "--rate",
        "100",
        "--duration",
        "1",
        "--warmup-days",
        "3",
        "--labels",
        "labels.jsonl",
    ]
    capsys.readouterr()
    assert run(["simulate", *arguments, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["sent"] > 50
    assert asyncio.run(count(broker, "auth.sessions")) - before == summary["sent"]
    with Path("labels.jsonl").open(encoding="utf-8") as labels:
        attacks = [json.loads(line) for line in labels]
    assert len(attacks) == summary["attacks"]
    assert all(attack["expected"] for attack in attacks if attack["complete"])


def test_ctrl_c_ends_simulate_with_a_summary(broker: str) -> None:
    run(["topics", "create"])
    before = asyncio.run(count(broker, "auth.sessions"))
    command = [sys.executable, "-m", "worker.cli", "simulate", "--users", "100"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while asyncio.run(count(broker, "auth.sessions")) == before and time.monotonic() < deadline:
        time.sleep(0.2)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=30)
    assert started.returncode == 130
    assert err.startswith("sent ")
    assert "Traceback" not in err


def test_a_policy_is_set_listed_read_and_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    run(["topics", "create"])
    policy = {"max_sessions": 3, "denied_countries": ["KP"]}
    Path("acme.json").write_text(json.dumps(policy), "utf-8")
    assert run(["policy", "set", "acme.json", "--tenant", "acme"]) == 0
    assert run(["policy", "set", "acme.json", "--tenant", "b/c"]) == 0
    capsys.readouterr()
    assert run(["policy", "get", "--tenant", "acme"]) == 0
    assert json.loads(capsys.readouterr().out) == policy
    assert run(["policy", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"policies": {"acme": policy, "b/c": policy}}
    assert run(["policy", "unset", "--tenant", "b/c"]) == 0
    assert run(["policy", "get", "--tenant", "b/c"]) == 1


def test_a_document_that_others_put_on_the_topic_stops_no_command(
    broker: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["topics", "create"])
    kafka = KafkaSettings(bootstrap_servers=broker)
    for tenant, document in {"deep": b"[" * 100_000, "bytes": b"\xff\xfe", "good": b'{"max_sessions": 4}'}.items():
        asyncio.run(produce(kafka, "session.policies", tenant, document))
    capsys.readouterr()
    assert run(["policy", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["policies"]["good"] == {"max_sessions": 4}
    assert found["refused"].keys() == {"deep", "bytes"}
    assert run(["policy", "list"]) == 0
    assert "refused: (document): " in capsys.readouterr().out
    assert run(["policy", "get", "--tenant", "bytes"]) == 0
    capsys.readouterr()
    for tenant in ("deep", "bytes", "good"):
        assert run(["policy", "unset", "--tenant", tenant]) == 0


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ('{"max_sessions": 0}', "max_sessions"),
        ('{"unheard_of": 1}', "unheard_of"),
        ('{"detections": {"no-such": {}}}', "no-such"),
        ('{"detections": {"impossible-travel": {"parameters": {"least_km": "far"}}}}', "least_km"),
        ("{", "(document)"),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused(document: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.json").write_text(document, "utf-8")
    assert run(["policy", "set", "bad.json", "--tenant", "bad"]) == 2
    assert named in capsys.readouterr().err
