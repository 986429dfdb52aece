"""Feedback on incidents, from the command line through the worker and `alerts` to PagerDuty's API on loopback."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer

from schemas.keys import partition_of, user_key
from tests.integration.test_end_to_end import moved
from tests.support.receivers import PARTITIONS, AlertProcess, HttpReceiver, until
from worker.embedded.access import Role
from worker.embedded.broker import end_with_parent, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from worker.embedded.broker import EmbeddedBroker

pytest_plugins = ["tests.support.store_fixtures"]


def start_worker(world: AlertProcess) -> None:
    """Start a worker; the world ends it."""
    log = world.directory / "worker.log"
    with log.open("ab") as output:
        world.processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "worker.cli", "worker"], env=world.environment(),
                cwd=world.directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                preexec_fn=end_with_parent(),  # noqa: PLW1509  one system call
            )
        )  # fmt: skip


async def produce(world: AlertProcess, events: list[bytes]) -> None:
    async with AIOKafkaProducer(**world.options) as producer:
        for event in events:
            named = json.loads(event)
            key = user_key(named["tenant_id"], named["user_id"])
            await producer.send_and_wait(world.topics.events, event, key, partition_of(key, PARTITIONS))


def test_feedback_acknowledges_and_resolves_the_alert(
    embedded_broker: EmbeddedBroker, tmp_path: Path, store: Any, database: str
) -> None:
    with HttpReceiver() as pager:
        destination = {"kind": "pagerduty", "url": f"{pager.url}/v2/enqueue", "routing_key": "k" * 32,
                       "allow_http": True, "allow_private": True, "rate_per_s": 100}  # fmt: skip
        more = {
            "SESSIONWATCH_DATA_DIR": str(tmp_path / "data"),
            "SESSIONWATCH_WEB__PORT": str(free_port()),
            "SESSIONWATCH_CLICKHOUSE__DSN": store.address.dsn(Role.WRITER, database),
        }
        with AlertProcess(embedded_broker.bootstrap_servers, tmp_path, {"pager": destination}, more) as world:

            def actions() -> list[str]:
                return [event["event_action"] for event in events()]

            def events() -> list[Any]:
                return [each.json() for each in pager.taken]

            start_worker(world)
            world.start()
            asyncio.run(produce(world, moved("acme")))
            until(lambda: "trigger" in actions(), "the alert")
            incident = events()[0]["dedup_key"]
            before = len(events())

            def say(verdict: str) -> bool:
                done = world.command("feedback", incident, verdict, "--tenant", "acme", "--author", "alice")
                return done.returncode == 0

            def listed() -> list[Any]:
                found = json.loads(world.command("incidents", "list", "--json").stdout)["incidents"]
                return [each for each in found if each["unmapped"]["acknowledged_by"]]

            # An alert comes before the incident's row, which waits for others.
            until(lambda: say("investigating"), "the incident's row")
            until(lambda: "acknowledge" in actions(), "the acknowledgement")
            assert set(actions()[:before]) == {"trigger"}
            until(lambda: bool(listed()), "the acknowledged incident's row")
            (shown,) = listed()
            assert (shown["metadata"]["correlation_uid"], shown["status"]) == (incident, "In Progress")
            assert shown["unmapped"]["acknowledged_by"] == "alice"
            assert say("false-positive")
            until(lambda: "resolve" in actions(), "the resolution")
            assert actions()[-1] == "resolve", "one verdict on all findings brings about no state in between"
            assert {each["dedup_key"] for each in events()} == {incident}
