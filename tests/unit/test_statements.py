"""What the embedded store reads off a statement, without the engine."""

from __future__ import annotations

import pytest

from worker.embedded.access import CEILINGS, FORMATS, READER_SETTINGS, Role, limited
from worker.embedded.statements import is_one, outside, parse, refusal

OUTSIDE = outside(["sqlite", "URL", "numbers", "view", "format"], ["aiGenerate"])


@pytest.mark.parametrize(
    ("normal", "kind", "form"),
    [
        ("SELECT 1", "SELECT", ""),
        ("(SELECT 1) UNION ALL (SELECT 2) FORMAT JSON", "SELECT", "JSON"),
        ("INSERT INTO t (a) FORMAT MsgPack", "INSERT", "MsgPack"),
        ("SELECT ' FORMAT CSV' AS a FORMAT TSV", "SELECT", "TSV"),
        ("SELECT format('{}', a) FROM t", "SELECT", ""),
        ("", "", ""),
    ],
)
def test_kind_and_format(normal: str, kind: str, form: str) -> None:
    found = parse(normal)
    assert (found.kind, found.format) == (kind, form)
    assert found.answers == (kind == "SELECT")
    assert found.takes_data == (kind == "INSERT")


def test_an_insert_of_a_selection_takes_no_data() -> None:
    assert not parse("INSERT INTO t SELECT 1 FORMAT Null").takes_data


@pytest.mark.parametrize(
    "normal",
    [
        "SELECT 1", "SELECT 'sqlite(1)', `url` FROM t", "SELECT a FROM numbers(3)", "SHOW SETTINGS LIKE 'x'",
        "SELECT 'INTO OUTFILE' AS `OUTFILE x` FORMAT CSV", "SELECT format('{}', 1)", "SELECT url FROM view(SELECT 1)",
    ],
)  # fmt: skip
def test_both_roles_read(normal: str) -> None:
    assert refusal(parse(normal), Role.READER, OUTSIDE) == ""
    assert refusal(parse(normal), Role.WRITER, OUTSIDE) == ""


@pytest.mark.parametrize(
    "normal",
    [
        "SELECT * FROM sqlite('a')", "SELECT * FROM `SQLite`('a')", "SELECT * FROM url('a')", "SELECT aigenerate('a')",
        "SELECT file('a')", "SELECT 1 INTO OUTFILE 'a'", "INSERT INTO t FROM INFILE 'a' FORMAT CSV", "SYSTEM SHUTDOWN",
        "SELECT 1 FORMAT Template", "SELECT 1 PARALLEL WITH SELECT 2", "SET ROLE writer", "KILL QUERY WHERE 1", "",
        "CREATE TABLE t (`a` Int8) ENGINE = Kafka",
        "CREATE TABLE t (`a` Int8) ENGINE = MergeTree SETTINGS disk = disk(a)",
    ],
)  # fmt: skip
def test_neither_role_does_that(normal: str) -> None:
    assert refusal(parse(normal), Role.READER, OUTSIDE)
    assert refusal(parse(normal), Role.WRITER, OUTSIDE)


@pytest.mark.parametrize(
    "normal",
    [
        "INSERT INTO t (a) FORMAT MsgPack", "CREATE TABLE t (`a` Int8) ENGINE = ReplacingMergeTree ORDER BY a",
        "DROP TABLE t", "SELECT * FROM (SELECT 1 SETTINGS max_threads = 64)", "ALTER TABLE t (DELETE WHERE 1)",
    ],
)  # fmt: skip
def test_only_the_writer_does_that(normal: str) -> None:
    assert refusal(parse(normal), Role.READER, OUTSIDE)
    assert refusal(parse(normal), Role.WRITER, OUTSIDE) == ""


def test_a_reader_may_ask_for_less_and_not_for_more() -> None:
    assert limited({})["max_execution_time"] == "30"
    assert limited({"max_execution_time": "0.5"})["max_execution_time"] == "0.5"
    assert limited({"final": "1"})["readonly"] == "1"
    for name, most in CEILINGS.items():
        for value in ("0", "-1", "nan", "x", ""):
            with pytest.raises(ValueError, match=name):
                limited({name: value})
        for value in (str(most * 2), "inf", "1e300"):
            assert limited({name: value})[name] == f"{most:.0f}"
    assert "max_memory_usage" not in limited({}, ceilings={})


def test_no_format_or_setting_names_a_file() -> None:
    assert not {name for name in FORMATS if name.startswith(("Template", "Custom", "Proto", "Cap"))}
    assert not {name for name in READER_SETTINGS if "schema" in name or "template" in name or "path" in name}


@pytest.mark.parametrize(
    ("sql", "one"),
    [
        ("INSERT INTO t VALUES ('a;b'), (`c`)", True), ("INSERT INTO t VALUES (1);\n", True),
        ("INSERT INTO t VALUES (1); SELECT 2", False), ("INSERT INTO t VALUES (1) /* ' */; SELECT 2 -- '", False),
        ("INSERT INTO t VALUES ($$'$$); SELECT 'x'", False),
        ("INSERT INTO t VALUES (\u2018'\u2019); SELECT '2'", False),
    ],
)  # fmt: skip
def test_nothing_follows_the_rows_of_an_insert(sql: str, *, one: bool) -> None:
    assert is_one(sql) is one
