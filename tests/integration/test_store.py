from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, web
from clickhouse_connect.driver.exceptions import ClickHouseError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.clickhouse.tables import TABLES
from tests.support.store_rows import row, stored
from worker.clickhouse.errors import BadDsnError, StoreRefusedError, StoreUnreachableError
from worker.clickhouse.query import QueryAnswer, run_query
from worker.clickhouse.writer import ClickHouseWriter, connect, error_code, masked
from worker.embedded.access import Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from clickhouse_connect.driver.client import Client

    from tests.support.store_fixtures import Store

pytest_plugins = ["tests.support.store_fixtures"]

EARLIEST, LATEST = 631_152_000_000, 4_102_444_800_000
NOW = 1_790_000_000_000


class Watching:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.inserts: list[tuple[str, int]] = []
        self.retries: list[str] = []

    def on_insert(self, table: str, rows: int, seconds: float) -> None:
        assert seconds >= 0
        self.inserts.append((table, rows))

    def on_retry(self, error: str) -> None:
        self.retries.append(error)


def writer(connector: Callable[[], Client], **options: Any) -> ClickHouseWriter:
    return ClickHouseWriter(connector, clock=itertools.count().__next__, **options)


def write(store: Store, database: str, *batches: Mapping[str, Sequence[bytes]], **options: Any) -> None:
    async def run() -> None:
        writing = writer(lambda: connect(store.dsn, database=database), **options)
        try:
            for batch in batches:
                await writing.insert(batch)
        finally:
            await writing.close()

    asyncio.run(run())


def event(offset: int, **values: Any) -> bytes:
    given = {
        "tenant_id": "acme", "user_id": "u", "event_time": NOW, "record_time": NOW,
        "kafka_topic": "t", "kafka_offset": offset, **values,
    }  # fmt: skip
    return row("session_events", **given)


def test_a_batch_written_twice_is_there_once(store: Store, database: str, tables: Client) -> None:
    batch = {
        "session_events": [event(1), event(2), event(3, kafka_partition=1)],
        "findings": [row("findings", finding_uid="f", tenant_id="acme", revision=1, severity="high")],
        "sessions": [row("sessions", session_uid="s", tenant_id="acme", version=2, status="ended")],
        "feedback": [row("feedback", finding_uid="f", verdict="true_positive", said_at=NOW)],
        "incidents": [row("incidents", incident_uid="i", tenant_id="acme", version=1, findings=["f"])],
        "deliveries": [row("deliveries", incident_uid="i", tenant_id="acme", destination="hook", queued_at=NOW)],
    }
    write(store, database, batch)
    once = {table: stored(tables, table) for table in TABLES}
    write(store, database, batch, batch)
    assert {table: stored(tables, table) for table in TABLES} == once
    assert {table: len(rows) for table, rows in once.items()} == {
        "session_events": 3, "findings": 1, "sessions": 1, "feedback": 1, "incidents": 1,
        "deliveries": 1,
    }  # fmt: skip


def test_the_newest_state_wins_whatever_the_order(store: Store, database: str, tables: Client) -> None:
    findings = [row("findings", finding_uid="f", revision=revision, count=revision) for revision in (2, 3, 1)]
    sessions = [row("sessions", session_uid="s", version=version, event_count=version) for version in (9, 4)]
    for finding in findings:
        write(store, database, {"findings": [finding], "sessions": sessions})
    assert [found["count"] for found in stored(tables, "findings")] == [3]
    assert [found["event_count"] for found in stored(tables, "sessions")] == [9]


def test_events_keep_sessions_current(store: Store, database: str, tables: Client) -> None:
    now, late = NOW, NOW - 60_000
    seen = {"session_uid": "s", "is_current": True, "session_started_at": late, "country": "FR"}
    write(store, database, {"session_events": [
        event(1, **seen, event_time=now, state_version=4, ip="192.0.2.7", session_events=2),
        event(2, **{**seen, "country": "DE"}, event_time=late, state_version=2),
        event(3, **{**seen, "is_current": False, "country": "US"}, event_time=now, state_version=6),
    ]})  # fmt: skip
    (session,) = stored(tables, "sessions")
    assert (session["status"], session["country"], session["ip"]) == ("active", "FR", "192.0.2.7")
    assert (session["started_at"], session["last_seen_at"], session["event_count"]) == (late, now, 2)
    write(store, database, {"sessions": [row("sessions", tenant_id="acme", user_id="u", session_uid="s",
                                             status="ended", end_reason="deleted", version=6)]})  # fmt: skip
    (session,) = stored(tables, "sessions")
    assert (session["status"], session["end_reason"]) == ("ended", "deleted")


def test_times_of_110_years_in_one_insert(store: Store, database: str, tables: Client) -> None:
    months = [
        int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)
        for year in range(1990, 2100) for month in range(1, 13)
    ]  # fmt: skip
    times = [*months, LATEST - 1]
    write(store, database, {"session_events": [event(n, event_time=time) for n, time in enumerate(times)]})
    assert [found["event_time"] for found in stored(tables, "session_events")] == times
    parts = "SELECT uniqExact(partition) FROM system.parts WHERE active AND table = 'session_events'"
    assert tables.command(f"{parts} AND database = currentDatabase()") == 361


def test_a_query_of_a_week_reads_its_partitions_only(store: Store, database: str, tables: Client) -> None:
    month = 31 * 86_400_000
    times = [EARLIEST, *(NOW - month * back for back in range(20))]
    write(store, database, {"session_events": [event(n, event_time=time) for n, time in enumerate(times)]})
    plan = tables.query(
        "EXPLAIN indexes = 1 SELECT sum(asn) FROM session_events "
        "WHERE event_time > fromUnixTimestamp64Milli({since:Int64}, 'UTC')",
        parameters={"since": NOW - 7 * 86_400_000},
    ).result_rows
    assert "Parts: 1/21" in [line.strip() for (line,) in plan], plan


KINDS: dict[str, st.SearchStrategy[Any]] = {
    "String": st.text(max_size=20),
    "LowCardinality(String)": st.text(max_size=20),
    "Array(LowCardinality(String))": st.lists(st.text(max_size=5), max_size=3),
    "Array(String)": st.lists(st.text(max_size=5), max_size=3),
    "Bool": st.booleans(),
    "Float64": st.floats(allow_nan=False),
    "DateTime64(3, 'UTC')": st.integers(EARLIEST, LATEST - 1),
    "UInt8": st.integers(0, 2**8 - 1),
    "UInt16": st.integers(0, 2**16 - 1),
    "UInt32": st.integers(0, 2**32 - 1),
    "UInt64": st.integers(0, 2**64 - 1),
}


def values_of(table: str) -> st.SearchStrategy[dict[str, Any]]:
    def of(kind: str) -> st.SearchStrategy[Any]:
        bare = kind.removeprefix("Nullable(").removesuffix(")") if kind.startswith("Nullable") else kind
        return st.none() | KINDS[bare] if bare != kind else KINDS[kind]

    return st.fixed_dictionaries({column.name: of(column.type) for column in TABLES[table].columns})


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_value_comes_back(store: Store, database: str, tables: Client, table: str, data: Any) -> None:
    values = data.draw(values_of(table))
    if table == "session_events":
        values["is_current"] = False
    tables.command(f"TRUNCATE TABLE {table}")
    write(store, database, {table: [row(table, **values)]})
    assert stored(tables, table) == [values]


@pytest.mark.parametrize(
    ("table", "bad", "told"),
    [
        ("findings", row("findings", count="many"), "Cannot insert MessagePack string"),
        ("findings", row("findings", distance_km=7), "Cannot insert MessagePack integer"),
        ("findings", row("findings")[:-1], "table findings"),
        ("findings", row("sessions"), "table findings"),
        ("findings", b"\xc1", "table findings"),
    ],
)
def test_what_waiting_does_not_cure_is_raised_at_once(
    store: Store, database: str, tables: Client, table: str, bad: bytes, told: str
) -> None:
    watching = Watching()
    with pytest.raises(StoreRefusedError, match=told):
        write(store, database, {table: [row(table), bad]}, observer=watching)
    assert watching.retries == watching.inserts == []
    assert stored(tables, table) == []


def test_tables_that_do_not_fit_are_refused(store: Store, database: str, tables: Client) -> None:
    tables.command("ALTER TABLE findings DROP COLUMN summary")
    with pytest.raises(StoreRefusedError, match="summary"):
        write(store, database, {"findings": [row("findings")]})
    tables.command("DROP TABLE findings")
    with pytest.raises(StoreRefusedError, match="findings"):
        write(store, database, {"findings": [row("findings")]})
    with pytest.raises(KeyError):
        write(store, database, {"nothing": [b""]})


# What the proxy below does to an insert.
PASS, DROP, DROP_AFTER, HANG = "pass", "drop", "drop-after", "hang"
TOO_MANY_PARTS = (500, 252, "Code: 252. DB::Exception: Too many parts (3001). (TOO_MANY_PARTS)")
NO_MEMORY = (500, 241, "Code: 241. DB::Exception: Memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)")
READ_ONLY = (500, 242, "Code: 242. DB::Exception: Table is in readonly mode. (TABLE_IS_READ_ONLY)")
BAD_GATEWAY = (502, 0, "<html>Bad Gateway</html>")


@asynccontextmanager
async def proxy(upstream: str, faults: list[Any]) -> AsyncIterator[int]:
    """Stand in front of the SQL endpoint, and meet each insert with the next fault."""

    async def forward(request: web.Request) -> web.Response:
        body = await request.read()
        inserting = b"INSERT" in request.query.get("query", "").encode() + body[:100]
        fault = faults.pop(0) if inserting and faults else PASS
        if fault in (DROP, HANG):
            await asyncio.sleep(1.5 if fault == HANG else 0)
            request.transport.close()  # type: ignore[union-attr]
            return web.Response()
        if isinstance(fault, tuple):
            status, code, text = fault
            headers = {"X-ClickHouse-Exception-Code": str(code)} if code else {}
            return web.Response(
                status=status, text=text, headers={"X-ClickHouse-Exception-Code": str(code)} if code else {}
            )
        async with ClientSession(auto_decompress=False) as session, session.request(
            request.method, upstream + request.path_qs, data=body,
            headers={name: value for name, value in request.headers.items() if name != "Content-Length"},
        ) as answer:  # fmt: skip
            if fault == DROP_AFTER:
                request.transport.close()  # type: ignore[union-attr]
            headers = {name: value for name, value in answer.headers.items() if name.startswith(("X-", "Content-T"))}
            return web.Response(body=await answer.read(), status=answer.status, headers=headers)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{any:.*}", forward)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ([], []),
        ([TOO_MANY_PARTS, NO_MEMORY, READ_ONLY], ["code-252", "code-241", "code-242"]),
        ([BAD_GATEWAY], ["DatabaseError"]),
        # The driver tries again by itself, once, when the connection is closed on it.
        ([DROP] * 4, ["OperationalError"] * 2),
        ([DROP_AFTER] * 2, ["OperationalError"]),
        ([HANG], ["OperationalError"]),
        ([TOO_MANY_PARTS, DROP_AFTER, BAD_GATEWAY, DROP], None),
    ],
    ids=["none", "codes", "gateway", "dropped", "dropped-after", "hangs", "all"],
)
def test_rows_arrive_once_whatever_the_network_does(
    store: Store, database: str, tables: Client, faults: list[Any], told: list[str] | None
) -> None:
    waits: list[float] = []
    watching = Watching()
    expected = len(faults)

    async def sleep(seconds: float) -> None:
        assert writing.failing_since is not None
        waits.append(seconds)
        await asyncio.sleep(0)

    async def run() -> None:
        nonlocal writing
        async with proxy(store.address.url, faults) as port:
            dsn = store.address.dsn(Role.WRITER, database, port)
            writing = writer(
                lambda: connect(dsn, send_receive_timeout=1), observer=watching, sleep=sleep, longest_wait=0.3
            )
            await writing.insert({"session_events": [event(n) for n in range(100)], "findings": [row("findings")]})
            await writing.close()

    writing: Any = None
    asyncio.run(run())
    assert len(stored(tables, "session_events")) == 100
    assert watching.inserts == [("session_events", 100), ("findings", 1)]
    assert len(watching.retries) == len(waits) <= expected
    assert not faults
    assert told is None or watching.retries == told
    assert writing.failing_since is None
    assert all(low <= wait <= high for wait, (low, high) in zip(waits, [(0.05, 0.1), (0.1, 0.2)], strict=False))
    assert all(wait <= 0.3 for wait in waits)


def test_a_store_that_is_away_is_waited_for(store: Store, database: str, tables: Client) -> None:
    """Nobody listens yet: the writer connects when somebody does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    dsns = [store.address.dsn(Role.WRITER, database, at) for at in (port, port, 0)]
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def run() -> None:
        writing = writer(lambda: connect(dsns.pop(0)), sleep=sleep)
        await writing.insert({"findings": [row("findings")]})
        await writing.close()

    asyncio.run(run())
    assert len(waits) == 2
    assert len(stored(tables, "findings")) == 1


def test_the_loop_runs_on_while_the_store_hangs(store: Store, database: str, tables: Client) -> None:
    async def run() -> int:
        ticks = 0
        async with proxy(store.address.url, [HANG]) as port:
            dsn = store.address.dsn(Role.WRITER, database, port)
            writing = writer(lambda: connect(dsn, send_receive_timeout=1))
            insert = asyncio.create_task(writing.insert({"findings": [row("findings")]}))
            while not insert.done():
                await asyncio.sleep(0.01)
                ticks += 1
            await writing.close()
        return ticks

    assert asyncio.run(run()) > 40
    assert len(stored(tables, "findings")) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ClickHouseError("Code: 60. DB::Exception: no"), 60),
        (ClickHouseError("Received ClickHouse exception, code: 252, server response"), 252),
        (ClickHouseError("decode 7, barcode: 9"), 0),
        (OSError("refused"), 0),
    ],
)
def test_error_codes(error: Exception, code: int) -> None:
    assert error_code(error) == code


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("clickhouse://u:p@h:1/d", "clickhouse://u:***@h:1/d"),
        ("clickhouse://u:p@ss/w@h:1/d", "clickhouse://u:***@h:1/d"),
        ("clickhouse://u@h/d?password=p&x=1", "clickhouse://u@h/d?password=***&x=1"),
        ("clickhouse://h:1/d", "clickhouse://h:1/d"),
        ("chdb:///data/store", "chdb:///data/store"),
    ],
)
def test_passwords_are_masked(dsn: str, shown: str) -> None:
    assert masked(dsn) == shown


@pytest.mark.parametrize(
    "dsn",
    [
        "", "nonsense", "host:8123", "kafka://h", "clickhouse://", "clickhouse://u:hunter2@h:port/d",
        "clickhouse://u:hunter/2@h:1/d", "clickhouse://u:hunter?2@h:1/d", "clickhouse://h/d?connect_timeout=soon",
        "clickhouse://u:hunter2@h:1/d?nonsense=1",
    ],
)  # fmt: skip
def test_a_bad_dsn_is_told_without_its_password(dsn: str) -> None:
    with pytest.raises(BadDsnError) as told:
        connect(dsn)
    assert "hunter" not in str(told.value)


@pytest.mark.parametrize(
    ("dsn", "options", "scheme"),
    [
        ("clickhouse://127.0.0.1:{}/d", {}, b"GET "),
        ("clickhouse://127.0.0.1:{}/d", {"secure": True}, b"\x16\x03"),
        ("clickhouse://127.0.0.1:{}/d?secure=true", {"secure": False}, b"\x16\x03"),
        ("clickhouses://127.0.0.1:{}/d", {}, b"\x16\x03"),
        ("https://127.0.0.1:{}/d", {}, b"\x16\x03"),
    ],
)
def test_tls_is_spoken_when_asked_for(dsn: str, options: dict[str, Any], scheme: bytes) -> None:
    """The first bytes on the wire: a TLS handshake record, or plain HTTP."""
    script = (
        "import sys; from worker.clickhouse.writer import connect\n"
        "connect(sys.argv[1], connect_timeout=2, send_receive_timeout=2, secure=sys.argv[2] == 'True')"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        address = dsn.format(server.getsockname()[1])
        command = [sys.executable, "-c", script, address, str(options.get("secure", False))]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            accepted, _ = server.accept()
            with accepted:
                first = accepted.recv(64)
            process.kill()
    assert first.startswith((scheme, b"POST") if scheme == b"GET " else scheme)


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(
        StoreUnreachableError, match=rf"cannot reach ClickHouse at clickhouse://u:\*\*\*@127.0.0.1:{port}/d"
    ):
        connect(f"clickhouse://u:hunter2@127.0.0.1:{port}/d")


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        ("SELECT 1 AS a", b'{"a":1}\n'),
        ("SELECT 1 AS a;\n", b'{"a":1}\n'),
        ("SELECT 1 AS a -- so", b'{"a":1}\n'),
        ("/* so */ (SELECT 1 AS a) UNION ALL (SELECT 1)", b'{"a":1}\n{"a":1}\n'),
        ("SELECT 1 AS a FORMAT CSV", b"1\n"),
        ("SELECT 'x FORMAT CSV' AS a", b'{"a":"x FORMAT CSV"}\n'),
        ("WITH 1 AS a SELECT a", b'{"a":1}\n'),
        ("SELECT 'quote\\'s' AS a", b'{"a":"quote\'s"}\n'),
        ("EXISTS TABLE nothing", b'{"result":0}\n'),
        ("SHOW TABLES", b""),
    ],
)
def test_queries_are_answered_in_the_format_asked_for(
    store: Store, database: str, sql: str, answer: bytes, *, write: bool
) -> None:
    dsn = store.address.dsn(Role.WRITER if write else Role.READER, database)
    assert run_query(dsn, sql, "JSONEachRow", {}, write=write).body == answer


@pytest.mark.usefixtures("tables")
def test_a_query_that_inserts(store: Store, database: str) -> None:
    insert = "INSERT INTO findings (finding_uid) VALUES ('f')"
    dsn = store.address.dsn(Role.WRITER, database)
    assert run_query(dsn, insert, "CSV", {}, write=True) == QueryAnswer(b"", "")
    with pytest.raises(ClickHouseError, match="READONLY"):
        run_query(store.address.dsn(Role.READER, database), insert, "CSV", {})
    assert run_query(dsn, "SELECT finding_uid FROM findings", "CSV", {}) == QueryAnswer(b'"f"\n', "CSV")


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT nothing", "SELECT * FROM nowhere", "SELECT 1 FORMAT Nothing"])
def test_a_query_the_store_does_not_understand(store: Store, sql: str) -> None:
    with pytest.raises(ClickHouseError):
        run_query(store.dsn, sql, "CSV", {})
