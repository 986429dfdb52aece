from __future__ import annotations

import gzip
import json
import math
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.support.store_door import Door, Reply, ask
from worker.embedded.native import SINCE_REVISION, UnservedTypeError, framed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clickhouse_connect.driver.client import Client

pytest_plugins = ["tests.support.store_door", "tests.support.store_fixtures"]

SLOW = "SELECT sum(sipHash64(number)) FROM numbers(100000000000)"


@pytest.fixture
def remote(client: Client) -> Client:
    """A client of a ClickHouse server, over the wire."""
    return client


@pytest.mark.parametrize("path", ["/ping", "/", "/replicas_status"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_it_lives(writer: Door, path: str, method: str) -> None:
    reply = ask(writer, path=path, method=method)
    assert (reply.status, reply.body) == (200, b"Ok.\n" if method == "GET" else b"")


def test_another_path_is_not_there(writer: Door) -> None:
    assert ask(writer, path="/play/x").status == 404


@pytest.mark.parametrize(
    ("sql", "arguments", "body"),
    [
        ("SELECT 1 AS a, 'ü'", {}, None),
        (None, {}, "SELECT 1 AS a, 'ü'"),
        ("SELECT 1 AS a,", {}, "'ü'"),
        ("SELECT {n:UInt8} AS a, {s:String}", {"param_n": "1", "param_s": "ü"}, None),
        ("SELECT 1 AS a, 'ü' FORMAT TabSeparated", {"default_format": "CSV"}, None),
        ("SELECT getSetting('max_threads') AS a, 'ü'", {"max_threads": "1"}, None),
    ],
)
def test_a_query_in_the_url_or_the_body(
    writer: Door, sql: str | None, arguments: dict[str, str], body: str | None
) -> None:
    reply = ask(writer, sql, body=body.encode() if body else None, **arguments)
    assert (reply.status, reply.body.decode()) == (200, "1\tü\n")
    assert reply.headers["X-ClickHouse-Format"] == "TabSeparated"
    assert reply.headers["Content-Type"] == "text/tab-separated-values; charset=UTF-8"
    assert reply.headers["X-ClickHouse-Timezone"] == "UTC"
    assert reply.headers["X-ClickHouse-Server-Display-Name"]
    assert json.loads(reply.headers["X-ClickHouse-Summary"])["read_rows"] == "1"


def test_formats_and_ids(writer: Door) -> None:
    reply = ask(writer, "SELECT 1 AS a", default_format="JSONEachRow", query_id="mine")
    assert reply.body == b'{"a":1}\n'
    assert reply.headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert reply.headers["X-ClickHouse-Query-Id"] == "mine"
    assert ask(writer, "SELECT 1").headers["X-ClickHouse-Query-Id"]


def test_a_parameter_is_a_value_and_no_sql(writer: Door) -> None:
    reply = ask(writer, "SELECT {s:String}", default_format="JSONCompactEachRow", param_s="'; DROP \\\\ \\t--")
    assert json.loads(reply.body) == ["'; DROP \\ \t--"]


@pytest.mark.parametrize(
    ("sql", "status", "code", "told"),
    [
        ("SELECT * FROM nowhere", 404, "60", "nowhere"),
        ("SELECT nothing", 404, "47", "nothing"),
        ("SELEC 1", 400, "62", "Syntax error"),
        ("SELECT throwIf(1, 'so')", 500, "395", "so"),
        ("SELECT toUInt8('x')", 500, "6", "Cannot parse"),
        (f"{SLOW} SETTINGS max_execution_time = 0.2", 500, "159", "Timeout"),
    ],
)  # fmt: skip
def test_errors_look_like_the_server_s(writer: Door, sql: str, status: int, code: str, told: str) -> None:
    reply = ask(writer, sql)
    assert (reply.status, reply.code) == (status, code)
    assert reply.body.startswith(f"Code: {code}. DB::Exception: ".encode())
    assert told in reply.body.decode()


def test_unknown_databases_and_settings(writer: Door) -> None:
    assert ask(writer, "SELECT 1", database="nowhere").code == "81"
    assert ask(writer, "SELECT 1", no_such_setting="1").code == "115"
    reply = ask(writer, "SELECT 1", **{"a = 1, b": "2"})
    assert (reply.status, reply.code) == (400, "115")
    assert ask(writer, "SELECT 1", compress="1").code == "48"
    assert ask(writer, "SELECT currentDatabase()", headers={"X-ClickHouse-Database": "system"}).body == b"system\n"


def test_settings_and_database_do_not_outlive_their_query(writer: Door, database: str) -> None:
    ask(writer, "SELECT 1", database=database, max_threads="1", readonly="1")
    sql = "SELECT currentDatabase(), getSetting('readonly')"
    assert ask(writer, sql).body == b"sessionwatch\t0\n"


def test_bodies_may_be_compressed(writer: Door) -> None:
    sql = b"SELECT 'compressed'"
    for encoding, body in (("gzip", gzip.compress(sql)), ("identity", sql)):
        assert ask(writer, body=body, headers={"Content-Encoding": encoding}).body == b"compressed\n"


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_clickhouse_connect_over_the_wire(writer: Door, database: str, compress: Any) -> None:
    rows = [
        (1, "ü\n\0", 1.5, ["a", "b"], datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC), True, None),
        (2, "", -0.0, [], datetime(2099, 12, 31, tzinfo=UTC), False, "x"),
    ]
    names = ["n", "s", "f", "w", "t", "b", "o"]
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=writer.port, password=writer.token, database=database, compress=compress
    )
    with closing(client):
        client.command(
            "CREATE TABLE t (n UInt64, s String, f Float64, w Array(LowCardinality(String)), "
            "t DateTime64(3, 'UTC'), b Bool, o Nullable(String)) ENGINE = MergeTree ORDER BY n"
        )
        client.insert("t", rows, column_names=names)
        found = client.query("SELECT * FROM t WHERE n <= {n:Int32} ORDER BY n", parameters={"n": 2}, tz_mode="aware")
        assert found.result_rows == rows
        assert found.column_names == tuple(names)
        assert math.copysign(1, found.result_rows[1][2]) == -1
        client.insert_arrow("t", pa.table({"n": pa.array([3], pa.uint64()), "s": ["arrow"]}))
        assert client.query_arrow("SELECT n, s FROM t ORDER BY n").column("n").to_pylist() == [1, 2, 3]
        assert client.command("SELECT count() FROM t", settings={"max_threads": 1}) == 3
        assert client.query("SELECT n FROM t WHERE 0").result_rows == []
        with client.query_row_block_stream("SELECT number FROM numbers(200000)") as stream:
            assert sum(len(block) for block in stream) == 200_000
        with pytest.raises(DatabaseError) as told:
            client.query("SELECT * FROM nowhere")
        assert told.value.code == 60


def test_raw_inserts_keep_every_byte(remote: Client) -> None:
    """In the statement itself chDB ends data at the first empty line, and newlines are bytes like any other."""
    remote.command("CREATE TABLE t (b String) ENGINE = Memory")
    block = b"".join(b"\x02" + bytes([first, last]) for first in range(256) for last in (0, 10, 32, 39, 59, 255))
    remote.raw_insert("t", insert_block=block, fmt="RowBinary")
    assert remote.raw_query("SELECT b FROM t", fmt="RowBinary") == block
    remote.command("INSERT INTO t VALUES ('semi;colon')")
    assert remote.command("SELECT count() FROM t WHERE b = 'semi;colon'") == 1


@pytest.mark.parametrize("given", ["in the URL", "in the body"])
def test_data_of_an_insert(writer: Door, database: str, given: str) -> None:
    ask(writer, body=b"CREATE TABLE t (a String) ENGINE = Memory", database=database)
    sql = "INSERT INTO t (a) SETTINGS max_insert_threads = 1 FORMAT JSONEachRow"
    data = '{"a": "1"}\n\n\n{"a": "ü"}\n'
    sent = (sql, data) if given == "in the URL" else (None, f"{sql}\n{data}")
    reply = ask(writer, sent[0], body=sent[1].encode(), database=database)
    assert (reply.status, reply.body, reply.headers["X-ClickHouse-Format"]) == (200, b"", None)
    assert ask(writer, "SELECT a FROM t ORDER BY a", database=database).body.decode() == "1\nü\n"


READS = [
    "SELECT 1", "(SELECT 1) UNION ALL (SELECT 2)", "WITH 1 AS x SELECT x", "SHOW TABLES", "DESCRIBE TABLE kept",
    "EXISTS TABLE kept", "EXPLAIN SELECT 1", "SELECT count() FROM kept FINAL", "SELECT 1;", "/* a */ SELECT 1 -- b",
    "SELECT 'INTO OUTFILE', 'file(1)' AS `file`", "SELECT * FROM system.tables LIMIT 1", "SELECT 'drop' AS python",
    "SELECT 1 AS `a\\`b` FORMAT JSON",
]  # fmt: skip


@pytest.fixture
def kept(writer: Door) -> Iterator[str]:
    ask(writer, body=b"CREATE TABLE kept (a Int8) ENGINE = ReplacingMergeTree ORDER BY a")
    ask(writer, body=b"INSERT INTO kept VALUES (1)")
    yield "kept"
    ask(writer, body=b"DROP TABLE kept")


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("sql", READS)
def test_a_reading_endpoint_reads(reader: Door, sql: str) -> None:
    reply = ask(reader, sql, max_threads="1")
    assert reply.status == 200, reply.body
    assert reply.body


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO kept VALUES (2)", "INSERT INTO kept SELECT 2", "DROP TABLE kept", "TRUNCATE TABLE kept",
        "ALTER TABLE kept DELETE WHERE 1", "CREATE TABLE made (a Int8) ENGINE = Memory", "OPTIMIZE TABLE kept",
        "CREATE TEMPORARY TABLE made (a Int8)", "RENAME TABLE kept TO lost", "SYSTEM FLUSH LOGS",
        "SET max_threads = 1",
        "SET readonly = 0", "KILL QUERY WHERE 1", "USE system", "SELECT 1; DROP TABLE kept",
        "DROP TABLE kept; SELECT 1",
        "/* SELECT */ DROP TABLE kept", "ATTACH TABLE x", "GRANT ALL ON *.* TO x",
        "BACKUP TABLE kept TO Disk('a', 'b')",
        "SELECT 1 SETTINGS readonly = 0", "EXPLAIN SELECT 1 INTO OUTFILE '{out}'", "SELECT 1 INTO OUTFILE '{out}'",
        "SELECT 1 into/**/outfile '{out}' TRUNCATE", "INSERT INTO FUNCTION file('{out}', 'CSV', 'a Int8') SELECT 1",
        "SELECT * FROM file('{secret}', 'LineAsString')", "SELECT file('{secret}')", "SELECT `\\x66ile`('{secret}')",
        "SELECT \"file\" /**/ ('{secret}')", "WITH file('{secret}') AS x SELECT x", "SELECT (SELECT file('{secret}'))",
        "DESCRIBE TABLE file('{secret}')", "EXPLAIN SELECT file('{secret}')", "SELECT * FROM python(x)",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')", "SELECT * FROM remote('127.0.0.1', 'system.one')",
        "SELECT * FROM executable('x', 'CSV', 'a Int8')", "SELECT 'a\\'' AS a, file('{secret}')",
        "SELECT * FROM s3('http://127.0.0.1:1/a', 'CSV', 'a Int8')", "SELECT \xff",
    ],
)  # fmt: skip
def test_a_reading_endpoint_does_nothing_else(writer: Door, reader: Door, tmp_path: Path, sql: str) -> None:
    secret, out = tmp_path / "secret", tmp_path / "out"
    secret.write_text("hunter2")
    asked = sql.replace("{secret}", str(secret)).replace("{out}", str(out))
    before = ask(writer, "SHOW TABLES").body
    for reply in (
        ask(reader, asked),
        ask(reader, body=asked.encode("latin-1")),
        ask(reader, asked, readonly="0"),
        ask(reader, asked, dialect="clickhouse"),
    ):
        assert reply.status >= 400, reply.body
        assert reply.code
        assert b"hunter2" not in reply.body
    assert not out.exists()
    assert ask(writer, "SELECT a FROM kept").body == b"1\n"
    assert ask(writer, "SHOW TABLES").body == before


def test_only_loopback_names_are_answered(reader: Door) -> None:
    """A page of the web whose name leads here (DNS rebinding) learns nothing."""
    for host, status in (("localhost", 200), ("[::1]:80", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403)):
        assert ask(reader, "SELECT 1", headers={"Host": host}).status == status


@pytest.mark.parametrize(
    ("name", "table", "code"),
    [
        ("constrained", "(a Int64, CONSTRAINT large CHECK a > 500) ENGINE = MergeTree ORDER BY a", "469"),
        ("parted", "(a Int64) ENGINE = MergeTree ORDER BY a PARTITION BY a", "252"),
    ],
)
def test_rows_that_the_table_refuses_are_an_error(writer: Door, name: str, table: str, code: str) -> None:
    assert ask(writer, f"CREATE TABLE {name} {table}").status == 200
    rows = "\n".join(map(str, range(500))).encode()
    for sql in (f"INSERT INTO {name} FORMAT CSV", f"INSERT INTO {name} (a) SETTINGS max_threads = 1 FORMAT TSV"):
        reply = ask(writer, sql, body=rows)
        assert (reply.status >= 400, reply.code) == (True, code), reply.body
    assert ask(writer, f"SELECT count() FROM {name}").body == b"0\n"  # noqa: S608  constants


def native(endpoint: Door, sql: str, revision: int = 0) -> Reply:
    return ask(endpoint, sql, default_format="Native", client_protocol_version=str(revision))


EMPTY_INFO = bytes.fromhex("010002ffffffff00")


NUMBERS = b"\x06number\x06UInt64\x00" + b"".join(number.to_bytes(8, "little") for number in range(3))
ENDS = b"\x01e\x06String\x00" + b"\x03end" * 3


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("UInt8", "1"), ("Bool", "true"), ("Int256", "-1"), ("Float32", "1.5"), ("String", "repeat('y', 300)"),
        ("Date", "'2026-01-02'"), ("DateTime('UTC')", "0"), ("DateTime64(3, 'UTC')", "0"), ("FixedString(3)", "'abc'"),
        ("UUID", "'61f0c404-5cb3-11e7-907b-a6006ad3dba0'"), ("IPv4", "'192.0.2.1'"), ("IPv6", "'2001:db8::1'"),
        ("Enum8('a)' = 1, 'b,\\'(' = 2)", "2"), ("Decimal(30, 4)", "1.5"), ("Nullable(String)", "NULL"),
        ("LowCardinality(String)", "'a'"), ("LowCardinality(Nullable(String))", "NULL"),
        ("LowCardinality(FixedString(2))", "'ab'"), ("Array(LowCardinality(String))", "['a', 'b']"),
        ("Array(LowCardinality(String))", "[]"), ("Array(Array(Nullable(UInt16)))", "[[1, NULL], []]"),
        ("Map(String, Array(String))", "map('a', ['b'])"), ("Tuple(UInt8, String)", "(1, 'a')"),
        ("Tuple(a String, `b c` LowCardinality(String), d UInt8)", "('x', 'y', 1)"),
        ("Array(Tuple(LowCardinality(String), Map(LowCardinality(String), UInt8)))", "[('a', map('b', 1))]"),
        ("Nullable(DateTime64(3, 'UTC'))", "NULL"), ("SimpleAggregateFunction(max, Nullable(UInt64))", "7"),
    ],
)  # fmt: skip
def test_native_blocks_of_newer_clients(writer: Door, kind: str, value: str) -> None:
    """What clickhouse-go reads is the engine's block, a header before it and a byte after each column's type."""
    escaped = kind.replace("\\", "\\\\").replace("'", "\\'")
    sql = f"SELECT CAST({value}, '{escaped}') AS v, number, 'end' AS e FROM numbers(3)"  # noqa: S608  our own
    old, new = native(writer, sql), native(writer, sql, SINCE_REVISION)
    assert (old.status, new.status) == (200, 200), old.body
    assert native(writer, sql, SINCE_REVISION - 1).body == old.body
    # The two columns after the one in question are at the end, of known lengths, and each has got its byte.
    assert new.body.startswith(EMPTY_INFO)
    assert new.body.endswith(NUMBERS + ENDS)
    assert len(new.body) == len(old.body) + len(EMPTY_INFO) + 3


def test_native_of_several_blocks_and_of_none(writer: Door) -> None:
    sql = "SELECT number FROM numbers(150000) SETTINGS max_block_size = 50000, max_threads = 1"
    old, new = native(writer, sql).body, native(writer, sql, SINCE_REVISION).body
    blocks, rest = divmod(len(new) - len(old), len(EMPTY_INFO) + 1)
    assert (blocks >= 1, rest) == (True, 0)
    assert new.count(EMPTY_INFO + b"\x01") == blocks
    assert native(writer, "SELECT 1 WHERE 0", SINCE_REVISION).status == 200
    assert framed(b"") == b""


def test_native_of_a_type_whose_end_is_not_known(writer: Door) -> None:
    sql = """SELECT '{"a": 1}'::JSON AS j"""
    assert native(writer, sql).status == 200
    reply = native(writer, sql, SINCE_REVISION)
    assert (reply.status, reply.code) == (501, "48")
    with pytest.raises(UnservedTypeError, match="JSON"):
        framed(native(writer, sql).body)
