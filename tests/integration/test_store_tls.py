"""The store behind TLS: the real engine's HTTP interface, with a listener of our own certificates in front of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificates import certificates
from tests.support.secured import listener
from worker.cli import run
from worker.clickhouse.writer import connect
from worker.embedded.access import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.store_fixtures import Store

pytest_plugins = ["tests.support.store_fixtures"]


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pems")
    certificates(directory)
    return directory


@pytest.fixture(scope="module")
def tls(pems: Path, store: Store) -> Iterator[int]:
    with listener(pems, store) as served:
        yield served.port


@pytest.fixture(scope="module")
def mutual(pems: Path, store: Store) -> Iterator[int]:
    with listener(pems, store, mutual=True) as served:
        yield served.port


@pytest.fixture(scope="module")
def misnamed(pems: Path, store: Store) -> Iterator[int]:
    with listener(pems, store, "other") as served:
        yield served.port


def doctor(monkeypatch: pytest.MonkeyPatch, store: Store, port: int, **settings: Any) -> int:
    """Run what connects first thing, by the settings people give."""
    monkeypatch.setenv("SESSIONWATCH_CLICKHOUSE__DSN", store.address.dsn(Role.WRITER, port=port))
    for name, value in {"secure": "true", **settings}.items():
        monkeypatch.setenv(f"SESSIONWATCH_CLICKHOUSE__{name.upper()}", str(value))
    return run(["migrate", "status"])


@pytest.mark.parametrize("scheme", ["clickhouses://{}", "clickhouse://{}?secure=true", "https://{}"])
def test_rows_go_through_tls(store: Store, pems: Path, tls: int, scheme: str, database: str) -> None:
    dsn = scheme.format(f"writer:{store.address.writer}@127.0.0.1:{tls}/{database}")
    with closing(connect(dsn, ca_cert=str(pems / "ca.pem"))) as client:
        client.command("CREATE TABLE t (x UInt8) ENGINE = Memory")
        client.insert("t", [[1], [2]], column_names=["x"])
        assert client.query("SELECT sum(x) FROM t").result_rows == [(3,)]


def test_a_client_s_certificate_opens(
    store: Store, pems: Path, mutual: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = {"ca_cert": pems / "ca.pem", "client_cert": pems / "client.pem", "client_key": pems / "client.key"}
    assert doctor(monkeypatch, store, mutual, **ours) == 1, capsys.readouterr()
    assert "not current" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("door", "given", "why"),
    [
        ("tls", {}, "its certificate was rejected"),
        ("tls", {"ca_cert": "strange-ca.pem"}, "its certificate was rejected"),
        ("misnamed", {"ca_cert": "ca.pem"}, "127.0.0.1"),
        ("mutual", {"ca_cert": "ca.pem"}, ""),
        ("mutual", {"ca_cert": "ca.pem", "client_cert": "strange.pem", "client_key": "strange.key"}, ""),
        ("tls", {"secure": "false"}, ""),
    ],
)
def test_who_is_wrong_is_refused_and_no_password_told(
    store: Store, door: str, given: dict[str, str], why: str, pems: Path, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    settings = {name: pems / value if value.endswith((".pem", ".key")) else value for name, value in given.items()}
    assert doctor(monkeypatch, store, request.getfixturevalue(door), **settings) == 3
    shown = "".join(capsys.readouterr())
    assert why in shown
    assert "cannot reach ClickHouse at clickhouse://writer:***@" in shown
    assert "Traceback" not in shown
    assert store.address.writer not in shown + caplog.text
