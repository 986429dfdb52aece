"""Sigma rules over stored events, by pySigma and its ClickHouse backend, on the real engine."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from sigma.backends.clickhouse.clickhouse import ClickhouseBackend
from sigma.collection import SigmaCollection
from sigma.processing.pipeline import ProcessingPipeline

from tests.support.store_rows import row
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickhouse_connect.driver.client import Client

    from tests.support.store_fixtures import Store

pytest_plugins = ["tests.support.store_fixtures"]

ROOT = Path(__file__).parents[2]
RULES = ROOT / "schemas" / "sigma"
PIPELINE = RULES / "pipeline.yml"
NOW = 1_790_000_000_000

# Who each rule is to find, and who comes near and is not to be found.
EVENTS: dict[str, dict[str, Any]] = {
    "script": {"user_agent": "python-requests/2.32", "scopes": ["docs:write", "read"]},
    "script-that-reads": {"user_agent": "curl/8.9", "scopes": ["read"]},
    "script-of-a-service": {"user_agent": "CURL/8.9", "scopes": ["write:all"], "session_type": "service"},
    "loud-script": {"user_agent": "CURL/8.9", "scopes": ["WRITE:all"], "session_type": "user"},
    "person": {"user_agent": "Mozilla/5.0 (curl'%_\\)", "scopes": ["write:all"]},
    "tor": {"kind": "created", "network_kind": "tor", "amr": ["pwd"], "user_agent": "x"},
    "tor-with-otp": {"kind": "created", "network_kind": "tor", "amr": ["otp", "pwd"]},
    "tor-refreshed": {"kind": "refreshed", "network_kind": "tor", "amr": ["pwd"]},
    "home-isp": {"kind": "created", "network_kind": "isp", "amr": ["pwd"]},
    "risky": {"ip": "198.19.7.9", "risk_score": 70.0, "country": "FR"},
    "risky-v6": {"ip": "2001:db8::1", "risk_score": 99.0, "country": "FR"},
    "risky-elsewhere": {"ip": "198.20.7.9", "risk_score": 99.0, "country": "FR"},
    "risky-at-home": {"ip": "198.19.7.9", "risk_score": 99.0, "country": "US"},
    "risky-nowhere": {"ip": "198.19.7.9", "risk_score": 99.0},
    "calm": {"ip": "198.19.7.9", "risk_score": 69.9, "country": "FR"},
}
FOUND = {
    "scripted-client-with-write-scope": {"script", "loud-script"},
    "anonymiser-without-second-factor": {"tor"},
    "risky-session-from-a-range": {"risky"},
}


@pytest.fixture(scope="module")
def stored(store: Store) -> Iterator[Client]:
    with closing(connect(store.dsn)) as client:
        migrations.up(client)
        rows = [
            row("session_events", **{"tenant_id": "t", "user_id": user, "event_time": NOW, "kafka_offset": number,
                                     "ip": "192.0.2.1", **values})
            for number, (user, values) in enumerate(EVENTS.items())
        ]  # fmt: skip
        write_rows(client, "session_events", rows)
        write_rows(client, "session_events", rows)
        yield client


def converted(rule: str) -> str:
    backend = ClickhouseBackend(ProcessingPipeline.from_yaml(PIPELINE.read_text("utf-8")))
    (sql,) = backend.convert(SigmaCollection.from_yaml(rule))
    return str(sql)


def users(client: Client, sql: str) -> list[str]:
    return sorted(user for (user,) in client.query(f"SELECT user_id FROM ({sql})").result_rows)  # noqa: S608  it is our own


@pytest.mark.parametrize("path", sorted(RULES.glob("*-*.yml")), ids=lambda path: path.stem)
def test_a_rule_finds_what_it_says(stored: Client, path: Path) -> None:
    assert users(stored, converted(path.read_text("utf-8"))) == sorted(FOUND[path.stem])


def test_every_name_is_that_of_a_column(stored: Client) -> None:
    mapping = yaml.safe_load(PIPELINE.read_text("utf-8"))["transformations"][1]["mapping"]
    columns = {
        name for (name,) in stored.query("SELECT name FROM system.columns WHERE table = 'sigma_events'").result_rows
    }
    assert set(mapping.values()) <= columns
    page = (ROOT / "docs" / "sigma.md").read_text("utf-8")
    table = page.partition("## Fields")[2].partition("## ")[0]
    assert set(re.findall(r"`([^`]+)`", table.partition("Every other")[0])) == set(mapping) | set(mapping.values())
    for name in mapping:
        number = mapping[name] in ("asn", "risk_score")
        rule = {"title": "t", "logsource": {"product": "sessionwatch"},
                "detection": {"one": {name: 7 if number else "seven"}, "condition": "one"}}  # fmt: skip
        assert users(stored, converted(yaml.safe_dump(rule))) == []


def test_the_page_shows_how(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stored: Client
) -> None:
    monkeypatch.chdir(ROOT)
    found = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "sigma.md").read_text("utf-8"), re.DOTALL)
    assert found is not None
    exec(found[1], {})  # noqa: S102  that is the point
    assert users(stored, capsys.readouterr().out) == ["loud-script", "script"]
