"""`sessionwatch query` and where the programs keep their stores, on the real engine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from schemas.text import printable_lines
from worker.apps.directories import DEMOS, NoDirectoryError, demo_directory, find_store
from worker.apps.query import without_commands
from worker.cli import run
from worker.clickhouse.query import QueryAnswer, spreadsheet_safe
from worker.embedded.store import EmbeddedStore

if TYPE_CHECKING:
    from pathlib import Path

CREATE = "CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def query(*arguments: str) -> int:
    return run(["query", *arguments])


def test_a_directory_nobody_serves_is_read_and_written_when_asked(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with EmbeddedStore(tmp_path / "data" / "replay" / "store"):
        pass
    assert query(CREATE) == 2
    assert b"use --write" in capfdbinary.readouterr().err
    assert query("--write", CREATE) == 0
    assert query("--write", "INSERT INTO t VALUES (1)") == 0
    for more in ([], ["--data-dir", "data"], ["--data-dir", "data/replay"]):
        assert query("--format", "CSV", *more, "SELECT a, '=1' FROM t") == 0
        assert capfdbinary.readouterr().out == b'1,"\'=1"\n'
    assert query("--format", "CSV", "--raw", "SELECT '=1'") == 0
    assert capfdbinary.readouterr().out == b'"=1"\n'
    assert query("SELECT * FROM file('/etc/passwd')") == 2
    assert query("SELEC 1") == 2


def test_a_store_that_is_served_is_asked_there(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with EmbeddedStore(tmp_path / "data" / "demo" / "store"):
        assert query(CREATE) == 2
        assert query("--write", CREATE) == 0
        assert query("--write", "INSERT INTO t VALUES (7)") == 0
        capfdbinary.readouterr()
        assert query("--format", "TSV", "SELECT a FROM t") == 0
        assert capfdbinary.readouterr().out == b"7\n"


@pytest.mark.parametrize("given", [["--data-dir", "typo"], []])
def test_no_store_is_made_at_a_path_with_a_typing_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    assert query(*given, "SELECT 1") == 2
    assert capsys.readouterr().err.startswith("error: there is no store in ")
    assert not list(tmp_path.iterdir())


def test_nor_at_a_dsn_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSIONWATCH_CLICKHOUSE__DSN", f"chdb://{tmp_path}/typo")
    assert query("SELECT 1") == 2
    assert "there is no store in" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_store_that_is_served_goes_before_the_newest(tmp_path: Path) -> None:
    for name in ("replay", "demo"):
        (tmp_path / name / "store").mkdir(parents=True)
    with EmbeddedStore(tmp_path / "replay" / "store") as store:
        os.utime(tmp_path / "demo" / "store", (2**31, 2**31))
        assert find_store(tmp_path) == (tmp_path / "replay" / "store", store.address)
    os.utime(tmp_path / "demo" / "store", (2**31, 2**31))
    assert find_store(tmp_path).directory == tmp_path / "demo" / "store"
    (tmp_path / "store").mkdir()
    assert find_store(tmp_path).directory == tmp_path / "store"


def test_a_demo_has_a_directory_of_its_own_and_starts_from_an_empty_one(tmp_path: Path) -> None:
    with demo_directory(tmp_path, keep=False) as first, demo_directory(tmp_path, keep=False) as second:
        assert (first.name, second.name) == ("demo", "demo-2")
        (first / "store").mkdir()
        (first / "store" / "part").touch()
        (first / "mine").touch()
    with demo_directory(tmp_path, keep=True) as again:
        assert again == first
        assert (again / "store" / "part").exists()
    with demo_directory(tmp_path, keep=False) as again:
        assert not (again / "store").exists()
        assert (again / "mine").exists()


def test_there_is_an_end_of_demos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.apps.directories.DEMOS", 1)
    assert DEMOS > 1
    with demo_directory(tmp_path, keep=False), pytest.raises(NoDirectoryError), demo_directory(tmp_path, keep=False):
        pass


@pytest.mark.parametrize(
    ("csv", "safe"),
    [
        (b'"=1+1",-5\n', b'"\'=1+1",-5\n'),
        (b'"+1","-1","@x","\tx","\rx"\n', b'"\'+1","\'-1","\'@x","\'\tx","\'\rx"\n'),
        (b'"a,""=x",1\n', b'"a,""=x",1\n'),
        (b'"=a""b\n=c"\n"ok"\n', b'"\'=a""b\n=c"\n"ok"\n'),
        (b"-5,\\N,1e3\n", b"-5,\\N,1e3\n"),
        (b"", b""),
    ],
)
def test_csv_is_safe_to_open(csv: bytes, safe: bytes) -> None:
    assert spreadsheet_safe(csv) == safe
    assert without_commands(QueryAnswer(csv, "CSVWithNames"), terminal=False) == safe
    assert without_commands(QueryAnswer(csv, "TabSeparated"), terminal=False) == csv


def test_a_terminal_is_not_steered() -> None:
    hostile = "a\tb\x1b[2J\x1b]0;x\x07\x9b1m\u202e\u2066é┌\r\n"
    assert printable_lines(hostile) == "a\tb?[2J?]0;x??1m??é┌?\n"
    assert without_commands(QueryAnswer(b"\x1b\xff\n", "Vertical"), terminal=True) == "?\ufffd\n".encode()
    assert without_commands(QueryAnswer(b"\x1b\xff\n", "Vertical"), terminal=False) == b"\x1b\xff\n"
