from __future__ import annotations

import os
import re
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest
from pydantic import SecretStr

from worker import settings as module
from worker.apps import build
from worker.sessions.limits import HOUR, Limits
from worker.settings import Settings, SettingsError, WebSettings, load, settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no file of the developer's own."""
    for name in [name for name in os.environ if name.startswith("SESSIONWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "worker-1"])
def test_listening_on_anything_but_loopback_needs_a_token(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONWATCH_WEB__HOST", host)
    with pytest.raises(SettingsError, match=r"web\.token"):
        load(None)
    monkeypatch.setenv("SESSIONWATCH_WEB__TOKEN", "")
    with pytest.raises(SettingsError, match=r"web\.token"):
        load(None)
    monkeypatch.setenv("SESSIONWATCH_WEB__TOKEN", "hunter2")
    found = load(None)
    assert found.web.host == host
    assert "hunter2" not in str(found.effective())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_loopback_needs_none(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONWATCH_WEB__HOST", host)
    assert load(None).web.token is None


@pytest.mark.parametrize(
    ("host", "advertised", "expected"),
    [
        ("127.0.0.1", None, "127.0.0.1"),
        ("10.0.0.7", None, "10.0.0.7"),
        # Two containers that both called themselves 0.0.0.0 would each take the other for itself.
        ("0.0.0.0", None, gethostname()),
        ("::", None, gethostname()),
        ("0.0.0.0", "worker-1.example", "worker-1.example"),
        ("::", "fd00::7", "[fd00::7]"),
    ],
)
def test_a_worker_is_reached_where_somebody_listens(host: str, advertised: str | None, expected: str) -> None:
    web = WebSettings(host=host, advertised_host=advertised, token=SecretStr("t"))
    assert web.reachable_host() == expected
    settings = Settings(web=web)
    stream = build.stream_options(settings, "wall", web=True)
    assert (stream.web_bind, stream.web_host) == (host, expected)


def test_defaults_need_nothing() -> None:
    found = load()
    assert found.web.host == "127.0.0.1"
    assert found.topics.events == "auth.sessions"
    assert found.stream.group_id == "sessionwatch"


def test_environment_over_file_over_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = write(tmp_path / "my.toml", "[web]\nport = 7000\nhost = '127.0.0.2'\n[delivery]\nmax_rows = 5\n")
    monkeypatch.setenv("SESSIONWATCH_WEB__PORT", "8000")
    found = load(file)
    assert (found.web.port, found.web.host, found.delivery.max_rows) == (8000, "127.0.0.2", 5)
    assert found.delivery.max_delay_ms == 1_000


@pytest.mark.parametrize(
    ("variable", "value", "path", "expected"),
    [
        ("SESSIONWATCH_KAFKA__BOOTSTRAP_SERVERS", "k1:9092,k2:9092", "kafka.bootstrap_servers", "k1:9092,k2:9092"),
        ("SESSIONWATCH_GEO__CITY_DB", "/geo/city.mmdb", "geo.city_db", "/geo/city.mmdb"),
        ("SESSIONWATCH_GEO__ASN_DB", "/geo/asn.mmdb", "geo.asn_db", "/geo/asn.mmdb"),
        ("SESSIONWATCH_WEB__PORT", "0", "web.port", "0"),
        ("SESSIONWATCH_DATA_DIR", "/var/lib/sw", "data_dir", "/var/lib/sw"),
        ("SESSIONWATCH_CLICKHOUSE__DSN", "chdb:///x", "clickhouse.dsn", "chdb:///x"),
    ],
)
def test_the_variables_others_rely_on(
    monkeypatch: pytest.MonkeyPatch, variable: Any, value: Any, path: Any, expected: Any
) -> None:
    monkeypatch.setenv(variable, value)
    assert load().effective()[path] == expected


def test_the_file_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path / "sessionwatch.toml", "[web]\nport = 1\n")
    assert load().web.port == 1
    monkeypatch.setenv("SESSIONWATCH_CONFIG", str(write(tmp_path / "b.toml", "[web]\nport = 2\n")))
    assert load().web.port == 2
    assert load(write(tmp_path / "c.toml", "[web]\nport = 3\n")).web.port == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[web]\nprot = 1\n", "web.prot is no setting; did you mean web.port?"),
        ("[wbe]\nport = 1\n", "wbe is no setting"),
        ("[web]\nport = 99999\n", "web.port: has to be less than or equal to 65535"),
        ("[web]\nport = 'x'\n", "web.port: "),
        ("[delivery]\nmax_rows = 0\n", "delivery.max_rows: "),
        ("web = 1\n", "web"),
        ("[state]\nstore = 'redis'\n", "state.store: "),
        ("not toml", "my.toml: "),
    ],
)
def test_a_bad_file_is_an_error_that_says_what(tmp_path: Path, text: Any, told: Any) -> None:
    with pytest.raises(SettingsError, match=r".") as error:
        load(write(tmp_path / "my.toml", text))
    assert told in str(error.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml"):
        load(tmp_path / "none.toml")


def test_a_bad_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SESSIONWATCH_WEB__PORT", "hunter2")
    with pytest.raises(SettingsError) as error:
        load()
    assert "hunter2" not in str(error.value)
    with pytest.raises(SettingsError) as error:
        load(write(tmp_path / "my.toml", "[clickhouse]\ndsn = ['hunter2']\n"))
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["SESSIONWATCH_WEB__PROT", "SESSIONWATCH_web__port_", "SESSIONWATCH_", "sessionwatch_x"]
)
def test_an_unknown_variable_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "hunter2")
    with pytest.raises(SettingsError, match=f"{name.upper()} is no setting") as error:
        load()
    assert "hunter2" not in str(error.value)


def test_the_error_of_an_unknown_variable_says_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONWATCH_WEB__PROT", "1")
    with pytest.raises(SettingsError, match="did you mean SESSIONWATCH_WEB__PORT"):
        load()


def test_known_variables_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SESSIONWATCH_CONFIG", str(write(tmp_path / "a.toml", "")))
    monkeypatch.setenv("SESSIONWATCH_WEB__PORT", "1")
    assert load().web.port == 1


def test_secrets_are_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONWATCH_CLICKHOUSE__DSN", "clickhouse://svc:hunter2@db:8123/x")
    secrets = [each.variable for each in settings() if each.type == "secret" and "dsn" not in each.path]
    assert secrets
    for variable in secrets:
        monkeypatch.setenv(variable, "hunter2")
    found = load()
    shown = f"{found!r} {found} {found.effective()}"
    assert "hunter2" not in shown
    assert found.effective()["clickhouse.dsn"] == "clickhouse://svc:***@db:8123/x"
    assert found.store_dsn() == "clickhouse://svc:hunter2@db:8123/x"


def test_there_is_no_store_unless_set(tmp_path: Path) -> None:
    found = Settings(data_dir=Path("d"))
    for ask in (found.store_dsn, found.embedded_directory, found.manages_access):
        with pytest.raises(SettingsError, match=r"clickhouse\.dsn is not set: .*worker --embedded"):
            ask()
    embedded = found.with_embedded_store("worker")
    assert embedded.embedded_directory() == tmp_path / "d" / "worker" / "store"
    with pytest.raises(SettingsError, match=r"clickhouse\.dsn is set"):
        embedded.with_embedded_store("worker")


@pytest.mark.parametrize(("dsn", "directory"), [("chdb:///a/b", Path("/a/b")), ("clickhouse://db/x", None)])
def test_a_dsn_names_a_server_or_a_directory(dsn: str, directory: Path | None) -> None:
    assert Settings(clickhouse=module.ClickHouseSettings(dsn=SecretStr(dsn))).embedded_directory() == directory


@pytest.mark.parametrize("dsn", ["chdb://", "chdb:", "chdb://a/b", "chdb:///a?config-file=/x", "chdb::memory:"])
def test_an_embedded_store_is_an_absolute_directory(dsn: str) -> None:
    with pytest.raises(SettingsError, match="does not name a directory"):
        Settings(clickhouse=module.ClickHouseSettings(dsn=SecretStr(dsn))).embedded_directory()


def test_every_setting_is_described() -> None:
    for each in settings():
        assert each.description.endswith("."), f"{each.path} has no description"
        assert each.type
        assert each.variable.startswith("SESSIONWATCH_")
    assert len({each.variable for each in settings()}) == len(settings())


def test_every_secret_is_a_secret() -> None:
    """Nothing that is named like a secret is plain text."""
    for each in settings():
        if any(word in each.path for word in ("password", "secret", "token", "dsn")):
            assert each.type in ("secret", "table of secrets"), each.path


def test_limits_are_the_settings_in_milliseconds() -> None:
    assert Settings().state.limits() == Limits()
    changed = module.StateSettings(allowed_lateness_minutes=60, clock_skew_s=1)
    assert changed.limits().allowed_lateness == HOUR
    assert changed.limits().clock_skew == 1000


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().web.port = 1  # type: ignore[misc]
    assert isinstance(module.ClickHouseSettings(dsn="x://y").dsn, SecretStr)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KAFKA__BOOTSTRAP_SERVERS", "", "is no host:port"),
        ("KAFKA__BOOTSTRAP_SERVERS", "a:b:c", "is no host:port"),
        ("KAFKA__BOOTSTRAP_SERVERS", "ok:9092,a:70000", "'a:70000' is no host:port"),
        ("KAFKA__BOOTSTRAP_SERVERS", "http://a:9092", "is no host:port"),
        ("TOPICS__EVENTS", "", "a topic's name"),
        ("TOPICS__DLQ", "a b/c", "a topic's name"),
        ("TOPICS__FINDINGS", "x" * 250, "a topic's name"),
        ("ALERTS__DESTINATIONS", "{", "SESSIONWATCH_ALERTS__DESTINATIONS: its value has to be JSON"),
        ("ALERTS__DESTINATIONS__X", "{}", "'kind' is required"),
        ("ALERTS__DESTINATIONS__X", '{"kind": "pigeon"}', "'kind' has to be one of 'webhook'"),
        ("WEB__PORT", "x", "web.port: has to be a whole number"),
        ("CONFIG", "/none.toml", "/none.toml cannot be read: no such file or directory"),
    ],
)
def test_a_value_that_cannot_be_used_is_told_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"SESSIONWATCH_{name}", value)
    with pytest.raises(SettingsError, match=re.escape(said)) as raised:
        load()
    assert not re.search("Input should|Value error|pydantic|Errno|discriminator", str(raised.value))
