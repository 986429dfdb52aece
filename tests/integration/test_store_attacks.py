"""What hostile queries, web pages and clients try with the embedded store, each against the real process."""

from __future__ import annotations

import base64
import contextlib
import gzip
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib
from typing import TYPE_CHECKING, Any

import lz4.frame
import pytest
from backports import zstd
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.support.store_door import Door, ask
from worker.clickhouse.writer import connect
from worker.embedded.access import CEILINGS, Role
from worker.embedded.http import BODY_BYTES, QUERIES_AT_ONCE
from worker.embedded.store import ADDRESS_FILE, EmbeddedStore, StoreProcessError, running
from worker.observe.connections import CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.store_fixtures import Store

pytest_plugins = ["tests.support.store_door", "tests.support.store_fixtures"]
SLOW = "SELECT sum(sipHash64(number)) FROM numbers(100000000000)"
SOON = 30.0
"""Seconds within which things happen that take a fraction of one on a quiet machine."""


def until(holds: Callable[[], bool], what: str, seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


@pytest.fixture
def trap() -> Iterator[socket.socket]:
    """A listener nobody may call."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        yield listener
        with pytest.raises(BlockingIOError):
            listener.accept()


OUTSIDE = """
sqlite('{new}', 't')
SQLite('{new}', 't')
`sqlite`('{new}', 't')
file('{secret}')
file('{secret}', 'LineAsString')
fileCluster('c', '{secret}', 'LineAsString')
filesystem('{directory}')
url('http://{trap}/', 'LineAsString', headers('X-A'='b'))
url('http://{trap}/', 'CSV', 'a Int8')
urlCluster('c', 'http://{trap}/', 'CSV', 'a Int8')
s3('http://{trap}/b/a', 'CSV', 'a Int8')
gcs('http://{trap}/b/a', 'CSV', 'a Int8')
azureBlobStorage('http://{trap}/', 'a', 'b')
hdfs('hdfs://{trap}/a', 'CSV', 'a Int8')
iceberg('http://{trap}/b/a')
deltaLake('http://{trap}/b/a')
deltaLakeLocal('{directory}')
icebergLocal('{directory}')
remote('{trap}', 'system.one')
remoteSecure('{trap}', 'system.one')
cluster('default', 'system.one')
mysql('{trap}', 'a', 'b', 'c', 'd')
postgresql('{trap}', 'a', 'b', 'c', 'd')
mongodb('{trap}', 'a', 'b', 'c', 'd', 'a Int8')
redis('{trap}', 'k', 'k String')
odbc('DSN=x', 'a', 'b')
jdbc('x', 'a')
ytsaurus('{trap}', 'a', 'b', 'a Int8')
executable('cat', 'CSV', 'a Int8')
python('x')
dictionary('d')
eval('1')
fuzzQuery('SELECT 1')
""".strip().splitlines()
WAYS = """
SELECT * FROM {f}
DESCRIBE TABLE {f}
EXPLAIN SELECT * FROM {f}
EXPLAIN QUERY TREE SELECT * FROM {f}
SELECT (SELECT count() FROM {f})
SELECT 1 IN (SELECT 1 FROM {f})
SELECT * FROM view(SELECT * FROM {f})
WITH x AS (SELECT * FROM {f}) SELECT * FROM x
SELECT /**/ * FROM/**/{f} --
INSERT INTO FUNCTION {f} SELECT 1
CREATE TABLE made AS {f}
CREATE VIEW made AS SELECT * FROM {f}
""".strip().splitlines()


def filled(sql: str, tmp_path: Path, trap: socket.socket) -> str:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n", "utf-8")
    host, port = trap.getsockname()
    for name, value in (("secret", secret), ("new", tmp_path / "new"), ("directory", tmp_path),
                        ("trap", f"{host}:{port}"), ("out", tmp_path / "out")):  # fmt: skip
        sql = sql.replace(f"{{{name}}}", str(value))
    return sql


@pytest.mark.parametrize("function", OUTSIDE)
def test_no_role_reaches_beyond_the_store(
    reader: Door, writer: Door, tmp_path: Path, trap: socket.socket, function: str
) -> None:
    for way in WAYS:
        sql = filled(way.replace("{f}", function), tmp_path, trap)
        for door in (reader, writer):
            reply = ask(door, sql)
            assert reply.status >= 400, (sql, reply.body)
            assert reply.code, sql
            assert b"hunter2" not in reply.body
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret"]


@pytest.mark.parametrize(
    "hidden", ["INSERT INTO t (a) FROM INFILE '{secret}' FORMAT LineAsString", "SELECT 1 INTO OUTFILE '{out}'"]
)
def test_nothing_follows_the_rows_of_an_insert(writer: Door, tmp_path: Path, trap: socket.socket, hidden: str) -> None:
    assert ask(writer, "CREATE TABLE IF NOT EXISTS t (a String) ENGINE = MergeTree ORDER BY a").status == 200
    reply = ask(writer, filled("INSERT INTO t (a) VALUES ('1'); " + hidden, tmp_path, trap))  # noqa: S608  of the test
    assert reply.code == "497", reply.body
    assert ask(writer, "DROP TABLE t").status == 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret"]


READERS_LEAVE = """
INSERT INTO session_events (tenant_id) VALUES ('x')
SET max_memory_usage = 0
SET ROLE writer
SET ROLE ALL
SET readonly = 0
SELECT 1; DROP TABLE t
SELECT 1;SELECT 2
USE system
KILL QUERY WHERE 1
KILL QUERY WHERE 1 SYNC
SYSTEM SHUTDOWN
SYSTEM KILL
SYSTEM FLUSH LOGS
BACKUP TABLE t TO File('{out}')
CREATE FUNCTION f AS (x) -> x
CREATE TEMPORARY TABLE t (a Int8)
CREATE TABLE t (a Int8) ENGINE = Memory
CREATE TABLE t (a Int8) ENGINE = URL('http://{trap}/', CSV)
CREATE USER x
CREATE ROLE x
GRANT writer TO x
CREATE DICTIONARY d (a UInt64) PRIMARY KEY a SOURCE(FILE(path '{secret}' format 'CSV')) LAYOUT(FLAT()) LIFETIME(0)
CREATE DATABASE d ENGINE = SQLite('{new}')
CREATE NAMED COLLECTION n AS a = 1
EXECUTE AS default SELECT 1
SELECT 1 PARALLEL WITH DROP TABLE t
SELECT 1 PARALLEL WITH SELECT 2
ATTACH TABLE t
DETACH TABLE t
SELECT 1 INTO OUTFILE '{out}'
SELECT 1 INTO OUTFILE '{out}' APPEND FORMAT CSV
SELECT 1 INTO OUTFILE '{out}'
EXPLAIN SELECT 1 INTO OUTFILE '{out}'
INSERT INTO t FROM INFILE '{secret}' FORMAT LineAsString
SELECT 1 FORMAT Template
SELECT 1 AS a FORMAT Template SETTINGS format_template_row = '{secret}'
SELECT 1 SETTINGS format_template_row = '{secret}' FORMAT Template
SELECT 1 FORMAT/**/Template
SELECT 1 FORMAT Protobuf SETTINGS format_schema = '{secret}:M'
SELECT 1 FORMAT CapnProto
SELECT 1 FORMAT PNG
SELECT 1 FORMAT CustomSeparated
SELECT 1 FORMAT MySQLWire
SELECT file('{secret}')
EXPLAIN SELECT file('{secret}')
EXPLAIN AST SELECT file('{secret}')
SELECT `\\x66ile`('{secret}')
SELECT * FROM default.`{secret}`
SELECT * FROM `default`.secret
SHOW TABLES FROM default LIKE '%secret%' FORMAT Template
SELECT aiGenerate('x')
SELECT aiEmbed('x', 'm', map('url', 'http://{trap}/'))
SELECT * FROM system.users
SHOW USERS
SHOW ACCESS
SELECT dictGet('d', 'a', 1)
SELECT addressToLine(1)
COPY t TO '{out}'
SELECT 1 SETTINGS max_memory_usage = 0
SELECT 1 SETTINGS max_execution_time = 0
SELECT 1 SETTINGS readonly = 0
SELECT * FROM (SELECT 1 SETTINGS max_threads = 64)
BEGIN TRANSACTION
OPTIMIZE TABLE t
CHECK TABLE t
SELECT * FROM loop(t)
TRUNCATE TABLE t
ALTER TABLE t DELETE WHERE 1
UNDROP TABLE t
WATCH t
exit
\\q
""".strip().splitlines()


@pytest.mark.parametrize("sql", READERS_LEAVE)
def test_a_reader_only_reads(reader: Door, tmp_path: Path, trap: socket.socket, sql: str) -> None:
    asked = filled(sql, tmp_path, trap)
    for reply in (ask(reader, asked), ask(reader, body=asked.encode()), ask(reader, asked, method="POST")):
        assert reply.status >= 400, reply.body
        assert reply.code
        assert b"hunter2" not in reply.body
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret"]


WRITERS_LEAVE = """
CREATE TABLE e (a Int8) ENGINE = URL('http://{trap}/', CSV)
CREATE TABLE e (a Int8) ENGINE = File(CSV, '{new}')
CREATE TABLE e (a Int8) ENGINE = SQLite('{new}', 't')
CREATE TABLE e (a Int8) ENGINE = Executable('x', 'CSV')
CREATE TABLE e (a Int8) ENGINE = EmbeddedRocksDB(0, '{new}') PRIMARY KEY a
CREATE TABLE e (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local, path = '{new}/')
CREATE TABLE e (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = s3, endpoint = 'http://{trap}/b/')
CREATE DATABASE e ENGINE = SQLite('{new}')
CREATE DATABASE e ENGINE = Filesystem('{directory}')
CREATE DICTIONARY e (a UInt64) PRIMARY KEY a SOURCE(HTTP(url 'http://{trap}/' format 'CSV')) LAYOUT(FLAT()) LIFETIME(0)
CREATE FUNCTION f AS (x) -> x
SELECT 1 INTO OUTFILE '{out}'
INSERT INTO e FROM INFILE '{secret}' FORMAT CSV
SELECT 1 AS a FORMAT Template SETTINGS format_template_row = '{secret}'
SET ROLE reader
CREATE USER x
SELECT file('{secret}')
SELECT 1 SETTINGS dialect = 'prql'
""".strip().splitlines()


@pytest.mark.parametrize("sql", WRITERS_LEAVE)
def test_who_writes_stays_in_the_store(writer: Door, tmp_path: Path, trap: socket.socket, sql: str) -> None:
    reply = ask(writer, body=filled(sql, tmp_path, trap).encode())
    assert reply.status >= 400, reply.body
    assert b"hunter2" not in reply.body
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret"]


@pytest.mark.parametrize("name", CEILINGS)
def test_a_reader_lifts_no_limit(reader: Door, name: str) -> None:
    for value in ("0", "-1", "nan", "x", "", "0x7fffffffff"):
        reply = ask(reader, "SELECT 1", **{name: value})
        assert (reply.status, reply.code) == (403, "164"), reply.body
    for value in ("1e18", "inf", "99999999999999"):
        reply = ask(reader, f"SELECT toFloat64(getSetting('{name}'))", **{name: value})
        assert float(reply.body) == CEILINGS[name]


@pytest.mark.parametrize(
    "name",
    ["format_template_row", "format_schema", "dialect", "readonly_", "max_bytes_before_external_sort", "profile"],
)
@pytest.mark.parametrize("value", ["0", "1", "/etc/passwd", "default"])
def test_a_reader_gives_no_other_setting(reader: Door, name: str, value: str) -> None:
    reply = ask(reader, "SELECT 1", **{name: value})
    assert (reply.status, reply.code) == (403, "164"), reply.body


@pytest.mark.parametrize("settings", [{}, {"max_memory_usage": "200000000"}, {"readonly": "0"}, {"readonly": "2"}])
def test_limits_hold_whatever_is_asked_for(reader: Door, settings: dict[str, str]) -> None:
    for sql, codes in (
        ("SELECT groupArray(number) FROM numbers(1000000000)", ("241",)),
        ("SELECT number FROM numbers(100000000)", ("396",)),
        ("SELECT repeat('x', 1000000) FROM numbers(1000)", ("396", "241")),
    ):
        reply = ask(reader, sql, **settings)
        assert reply.code in codes, reply.body[:300]
    assert ask(reader, "SELECT getSetting('max_threads') <= 4, getSetting('readonly')", **settings).body == b"1\t1\n"
    assert ask(reader, SLOW, max_execution_time="0.3", **settings).code == "159"


@pytest.mark.parametrize("sql", [
    "/**/" * 40 + "SELECT 1", "/* a */ -- b\n" * 40 + "x", "--\n" * 5000 + "SELECT 1", "/*" * 20000, "'" * 50001,
    "(" * 20000, "SELECT " + "(" * 20000, "INSERT " + "FORMAT " * 5000, "SELECT " + "FORMAT  " * 5000 + "1",
    "INSERT INTO t FORMAT" + " " * 60000, "SELECT `" + "\\`" * 20000, "SELECT " + "1," * 60000,
    "\x00" * 1000, "`" * 9999,
])  # fmt: skip
def test_statements_that_are_slow_to_read_hold_nobody_up(reader: Door, writer: Door, sql: str) -> None:
    for door in (reader, writer):
        begun = time.monotonic()
        assert ask(door, body=sql.encode()).status
        assert ask(door, path="/ping").status == 200
        assert time.monotonic() - begun < SOON
    if len(sql) < 10000:
        assert ask(reader, sql).status


BOMB = 300 << 20
BOMBS: dict[str, Callable[[int], bytes]] = {
    "lz4": lambda size: lz4.frame.compress(bytes(size)),
    "gzip": lambda size: gzip.compress(bytes(size), 1),
    "deflate": lambda size: zlib.compress(bytes(size), 1),
    "zstd": lambda size: bytes(zstd.compress(bytes(size), 1)),
    "": bytes,
}


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123  no path of the project's
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("encoding", BOMBS)
def test_a_body_does_not_grow_beyond_its_bound(store: Store, reader: Door, writer: Door, encoding: str) -> None:
    before = resident(store.embedded.pid or 0)
    headers = {"Content-Encoding": encoding} if encoding else {}
    for door, role in ((reader, Role.READER), (writer, Role.WRITER)):
        bomb = BOMBS[encoding](BODY_BYTES[role] + (1 << 20))
        with contextlib.suppress(ConnectionError):
            reply = ask(door, "INSERT INTO t FORMAT RowBinary", body=bomb, headers=headers)
            assert (reply.status, reply.code) == (413, "307"), reply.body
    assert resident(store.embedded.pid or 0) - before < BODY_BYTES[Role.WRITER] * 3
    assert ask(reader, "SELECT 1").body == b"1\n"


@pytest.mark.parametrize(("encoding", "body"), [
    ("br", b"x"), ("snappy", b"x"), ("lz4, gzip", b"x"), ("lz4", b"garbage"), ("gzip", b"garbage"),
    ("zstd", b"garbage"),
    ("lz4", lz4.frame.compress(b"SELECT 1")[:-5]), ("gzip", gzip.compress(b"SELECT 1", mtime=0)[:-5]),
])  # fmt: skip
def test_bodies_that_are_not_what_they_say(reader: Door, encoding: str, body: bytes) -> None:
    reply = ask(reader, body=body, headers={"Content-Encoding": encoding})
    assert (reply.status, reply.code) == (400, "354")


@pytest.mark.parametrize("token", ["", "x", "reader", "writer", "ü"])
def test_without_a_token_nobody_is_let_in(reader: Door, token: str) -> None:
    stranger = Door(reader.port, "")
    basic = base64.b64encode(f"reader:{token}".encode()).decode()
    quoted = urllib.parse.quote(token)
    for headers in ({"X-ClickHouse-Key": quoted}, {"Authorization": f"Basic {basic}"}, {"Authorization": "Basic !"},
                    {"Authorization": f"Bearer {quoted}"}):  # fmt: skip
        reply = ask(stranger, "SELECT 1", headers=headers)
        assert (reply.status, reply.code) == (403, "516")
        assert "WWW-Authenticate" not in reply.headers, "a browser would keep the token and send it for any page"
    assert ask(stranger, "SELECT 1", password=token).status == 403
    assert ask(stranger).status == 403


def test_a_token_is_taken_as_clients_give_it(reader: Door) -> None:
    stranger, token = Door(reader.port, ""), reader.token
    basic = base64.b64encode(f"anybody:{token}".encode()).decode()
    for headers in (
        {"Authorization": f"Basic {basic}"},
        {"Authorization": f"Bearer {token}"},
        {"X-ClickHouse-Key": token},
    ):
        assert ask(stranger, "SELECT 1", headers=headers).body == b"1\n"
    assert ask(stranger, "SELECT 1", password=token).body == b"1\n"


@pytest.mark.parametrize("headers", [
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Host": "evil.example"},
    {"Host": "127.0.0.1.evil.example"}, {"Host": "[::1"}, {"Host": "evil.example@127.0.0.1:1"[:12]}, {"Host": ""},
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
])  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
def test_web_pages_learn_nothing(reader: Door, headers: dict[str, str], method: str) -> None:
    for path in ("/", "/ping"):
        reply = ask(reader, "SELECT 'secret'", path=path, headers=headers, method=method)
        assert reply.status == 403
        assert b"secret" not in reply.body


def test_every_answer_says_it_is_no_page(reader: Door) -> None:
    for arguments in ({"sql": "SELECT '<script>'"}, {"sql": "SELEC"}, {"path": "/ping"}, {"path": "/x"}, {"sql": ""}):
        reply = ask(reader, **arguments)  # type: ignore[arg-type]
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert "text/html" not in reply.headers["Content-Type"]
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]


def running_queries(door: Door) -> int:
    return int(ask(door, "SELECT count() FROM system.processes WHERE query LIKE 'SELECT sum(sipHash64%'").body)


def send(door: Door, sql: str) -> socket.socket:
    """Ask and do not read."""
    connection = socket.create_connection(("127.0.0.1", door.port), timeout=SOON)
    path = f"/?{urllib.parse.urlencode({'query': sql})}"
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-ClickHouse-Key: {door.token}\r\n\r\n".encode())
    return connection


def test_who_leaves_takes_the_query_along(reader: Door, writer: Door) -> None:
    left = [send(reader, SLOW) for _ in range(3)]
    until(lambda: running_queries(writer) == 3, "the queries run")
    for connection in left:
        connection.close()
    until(lambda: running_queries(writer) == 0, "they are cancelled")


def test_slow_queries_do_not_hold_up_inserts_nor_pings(writer: Door) -> None:
    assert ask(writer, "CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a").status == 200
    slow = [send(writer, SLOW) for _ in range(QUERIES_AT_ONCE - 1)]
    until(lambda: running_queries(writer) == len(slow), "the queries run")
    for number in range(5):
        assert ask(writer, "INSERT INTO t FORMAT CSV", body=b"%d" % number).status == 200
        assert ask(writer, path="/ping").status == 200
    assert ask(writer, "SELECT count() FROM t").body == b"5\n"
    assert running_queries(writer) == len(slow)
    for connection in slow:
        connection.close()
    until(lambda: running_queries(writer) == 0, "they are cancelled")


def test_queries_that_wait_are_bounded_and_leave_too(reader: Door, writer: Door) -> None:
    waiting = [send(reader, SLOW) for _ in range(20)]
    until(lambda: running_queries(writer) == 4, "four run")
    until(lambda: ask(reader, "SELECT 1", max_execution_time="1").code == "202", "the next is refused")
    assert ask(writer, "SELECT 1").body == b"1\n", "the others are held up"
    for connection in waiting:
        connection.close()
    until(lambda: ask(reader, "SELECT 1").body == b"1\n" and running_queries(writer) == 0, "there is room again", 20)


def test_idle_connections_make_room(reader: Door) -> None:
    idle = [socket.create_connection(("127.0.0.1", reader.port), timeout=SOON) for _ in range(CONNECTIONS * 3)]
    for connection in idle[::2]:
        with contextlib.suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\nHo")
    assert ask(reader, "SELECT 1").body == b"1\n"
    for connection in idle:
        connection.close()


def test_a_head_that_does_not_come_is_not_waited_for(reader: Door) -> None:
    with socket.create_connection(("127.0.0.1", reader.port), timeout=30) as connection:
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - begun < 25:
                connection.sendall(b"G" if time.monotonic() - begun < 0.1 else b"E")
                time.sleep(0.5)
        assert time.monotonic() - begun < 25, "it takes bytes for ever"


def test_a_stop_waits_for_no_query(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "store") as store:
        door = Door(store.address.port, store.address.reader)
        asked = [send(door, sql) for sql in (SLOW, "SELECT sleep(3)", SLOW)]
        until(
            lambda: int(ask(Door(door.port, store.address.writer), "SELECT count() FROM system.processes").body) > 3, ""
        )
        begun = time.monotonic()
        store.stop()
        assert time.monotonic() - begun < 5
        assert not (tmp_path / "store" / ADDRESS_FILE).exists()
        for connection in asked:
            connection.close()


def test_a_crash_of_the_engine_is_survived(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "store") as store:
        door = Door(store.address.port, store.address.writer)
        assert ask(door, "CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a").status == 200
        assert ask(door, "INSERT INTO t VALUES (1)").status == 200
        first = store.pid
        os.kill(first or 0, signal.SIGKILL)

        def answered() -> bool:
            with contextlib.suppress(OSError):
                return ask(door, "SELECT a FROM t").body == b"1\n"
            return False

        until(answered, "it is started again on its port with its tokens", 30)
        assert store.pid != first


PARENT = """
import sys, time
from pathlib import Path
from worker.embedded.store import EmbeddedStore
store = EmbeddedStore(Path(sys.argv[1]))
store.start()
print(store.pid, flush=True)
time.sleep(60)
"""


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "store")], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the child is gone")  # noqa: PTH110


def test_the_tokens_are_for_the_owner_alone(store: Store) -> None:
    file = store.directory / ADDRESS_FILE
    assert file.stat().st_mode & 0o077 == 0
    assert running(store.directory) == store.address
    assert running(store.directory / "elsewhere") is None


def test_a_directory_is_served_once(store: Store) -> None:
    with pytest.raises(StoreProcessError, match="another process has it open"):
        EmbeddedStore(store.directory).start()
    assert running(store.directory) == store.address


def test_two_stores_run_side_by_side(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "one") as one, EmbeddedStore(tmp_path / "two") as two:
        assert one.address.port != two.address.port
        for store, other in ((one, two), (two, one)):
            assert ask(Door(store.address.port, store.address.reader), "SELECT 1").body == b"1\n"
            assert ask(Door(store.address.port, other.address.reader), "SELECT 1").status == 403


def test_a_reader_of_clickhouse_connect(store: Store) -> None:
    with contextlib.closing(connect(store.address.dsn(Role.READER))) as client:
        assert client.query("SELECT {n:Int32} AS n", parameters={"n": 5}).result_rows == [(5,)]
        with pytest.raises(DatabaseError, match="READONLY"):
            client.command("CREATE TABLE x (a Int8) ENGINE = Memory")


def test_settings_of_the_worker_do_not_reach_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONWATCH_KAFKA__PASSWORD", "hunter2")
    with EmbeddedStore(tmp_path / "store") as store:
        with open(f"/proc/{store.pid}/environ", "rb") as file:  # noqa: PTH123
            assert b"hunter2" not in file.read()
        with open(f"/proc/{store.pid}/cmdline", "rb") as file:  # noqa: PTH123
            shown = file.read()
        assert store.address.reader.encode() not in shown
        assert store.address.writer.encode() not in shown


def test_inserts_of_several_at_once(store: Store, writer: Door) -> None:
    assert ask(writer, "CREATE TABLE many (a Int64) ENGINE = MergeTree ORDER BY a").status == 200
    replies: list[Any] = []

    def insert(number: int) -> None:
        rows = b"".join((number * 1000 + each).to_bytes(8, "little") for each in range(1000))
        replies.append(ask(writer, "INSERT INTO many FORMAT RowBinary", body=rows).status)

    threads = [threading.Thread(target=insert, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == [200] * 12
    assert ask(writer, "SELECT count(), uniqExact(a) FROM many").body == b"12000\t12000\n"
    assert store.embedded.pid
