"""`policy set` and `feedback` check what they are given, against a real broker and store."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.test_error_messages import USAGE, error_of, run
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect
from worker.embedded.access import Role
from worker.embedded.broker import EmbeddedBroker
from worker.embedded.store import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FINDING = ("f-1", "acme", "u1", "session-hijack")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    directory = tmp_path_factory.mktemp("servers")
    with EmbeddedBroker(directory / "broker.log") as broker, EmbeddedStore(directory / "store") as store:
        dsn = store.address.dsn(Role.WRITER)
        with closing(connect(dsn)) as client:
            migrations.up(client)
            names = "finding_uid, tenant_id, user_id, detection"
            client.command(f"INSERT INTO findings ({names}) VALUES {FINDING}")  # noqa: S608  our own
        given = {"KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers, "CLICKHOUSE__DSN": dsn}
        yield given


def policies(tmp_path: Path, servers: dict[str, str]) -> dict[str, Any]:
    done = run(tmp_path, "policy", "list", "--json", **servers)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["policies"])


def test_one_form_of_policies_for_set_and_replay(tmp_path: Path, servers: dict[str, str]) -> None:
    assert run(tmp_path, "topics", "create", **servers).returncode == 0
    one, other = {"shadow": True}, {"denied_countries": ["KP"]}
    forms = {
        "alone.json": (one, ["--tenant", "alone"], {"alone": one}),
        "named.json": ({"tenant_id": "named", **one}, [], {"named": one}),
        "list.json": ([{"tenant_id": "a", **one}, {"tenant_id": "b", **other}], [], {"a": one, "b": other}),
    }
    (tmp_path / "in.jsonl").write_text("")
    for name, (document, arguments, expected) in forms.items():
        (tmp_path / name).write_text(json.dumps(document))
        done = run(tmp_path, "policy", "set", name, *arguments, **servers)
        assert done.returncode == 0, done.stderr
        found = policies(tmp_path, servers)
        assert {tenant: found.get(tenant) for tenant in expected} == expected


def test_what_a_policy_names_has_to_exist_unless_forced(tmp_path: Path, servers: dict[str, str]) -> None:
    (tmp_path / "p.json").write_text('{"denied_countries": ["XQ", "FR"]}')
    found = error_of(run(tmp_path, "policy", "set", "p.json", "--tenant", "t1", **servers), USAGE)
    assert "XQ" in found
    assert "FR" not in found
    assert "--force" in found
    assert run(tmp_path, "policy", "set", "p.json", "--tenant", "t1", "--force", **servers).returncode == 0
    (tmp_path / "n.json").write_text('{"tenant_id": "t2"}')
    assert "t2" in error_of(run(tmp_path, "policy", "set", "n.json", "--tenant", "t1", **servers), USAGE)
    (tmp_path / "none.json").write_text("{}")
    assert "tenant_id" in error_of(run(tmp_path, "policy", "set", "none.json", **servers), USAGE)


def test_feedback_is_on_a_finding_that_exists_unless_forced(tmp_path: Path, servers: dict[str, str]) -> None:
    uid = FINDING[0]
    assert run(tmp_path, "topics", "create", **servers).returncode == 0
    unknown = "f2" * 16
    assert "f-2" in error_of(run(tmp_path, "feedback", "f-2", "true-positive", **servers), USAGE)
    assert "whole id" in error_of(run(tmp_path, "feedback", "f-2", "true-positive", "--force", **servers), USAGE)
    found = error_of(run(tmp_path, "feedback", unknown, "true-positive", **servers), USAGE)
    assert unknown in found
    assert "--force" in found
    found = error_of(run(tmp_path, "feedback", uid, "true-positive", "--tenant", "other", **servers), USAGE)
    assert "other" in found
    found = error_of(run(tmp_path, "feedback", uid, "true-positive", "--user", "eve", **servers), USAGE)
    assert "eve" in found
    for arguments in ([uid, "true-positive"], [unknown, "false-positive", "--force"]):
        done = run(tmp_path, "feedback", *arguments, **servers)
        assert done.returncode == 0, done.stderr
