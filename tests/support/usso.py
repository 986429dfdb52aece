"""A USSO Lite server on loopback, and its session rows as a change capture and as its own dump tell them."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from fastapi import FastAPI
from usso.lite import EXCEPTION_HANDLERS, LiteConfig, create_lite_router
from usso.lite.models import LocalSession

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JSON_COLUMNS = ("scopes", "roles", "amr", "meta_data")
TIMES = ("created_at", "updated_at", "last_used_at")
FLAGS = ("is_deleted", "is_active")


@contextmanager
def usso_server(directory: Path) -> Iterator[UssoServer]:
    """Run a server; it believes the proxy before it about the client's address."""
    database = directory / "usso.db"
    config = LiteConfig(
        database_url=f"sqlite+aiosqlite:///{database}",
        expose_otp_in_response=True,
        session_max_age_minutes=60,
        otp_request_limit=50,
        registration_limit=50,
    )
    app = FastAPI()
    app.include_router(create_lite_router(config))
    for kind, handler in EXCEPTION_HANDLERS.items():
        app.add_exception_handler(kind, handler)
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    options = uvicorn.Config(app, log_level="warning", proxy_headers=True, forwarded_allow_ips="*")
    server = uvicorn.Server(options)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{bound.getsockname()[1]}", transport=httpx.HTTPTransport(retries=20)
        ) as client:
            yield UssoServer(client, database)
    finally:
        server.should_exit = True
        thread.join(10)


class UssoServer:
    """What users do, and what a change capture sees of it.

    Args:
        client: of the server.
        database: its SQLite file.

    Attributes:
        changes: rows of sessions before and after each step that changed one, as SQLite holds them.
    """

    def __init__(self, client: httpx.Client, database: Path) -> None:
        self.client = client
        self.changes: list[tuple[dict[str, Any] | None, dict[str, Any] | None]] = []
        self._database = database
        self._known: dict[str, dict[str, Any]] = {}

    def post(self, path: str, body: dict[str, Any], *, agent: str = "", address: str = "") -> dict[str, Any]:
        """Do one step over HTTP, and capture what it changed."""
        headers = {"user-agent": agent or "httpx", **({"x-forwarded-for": address} if address else {})}
        answer = self.client.post(path, json=body, headers=headers)
        answer.raise_for_status()
        self.capture()
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def execute(self, statement: str, *values: Any) -> None:
        """Change the database behind the server's back, and capture it."""
        with sqlite3.connect(self._database) as connection:
            connection.execute(statement, values)
        connection.close()
        self.capture()

    def capture(self) -> None:
        """Compare the table with what it was, as Debezium does by the log."""
        with sqlite3.connect(self._database) as connection:
            connection.row_factory = sqlite3.Row
            rows = {row["uid"]: dict(row) for row in connection.execute("SELECT * FROM localsession")}
        connection.close()
        for uid in rows.keys() | self._known.keys():
            before, after = self._known.get(uid), rows.get(uid)
            if before != after:
                self.changes.append((before, after))
        self._known = rows


def as_if_minutes_passed(changes: list[Any], minutes: int = 5) -> list[Any]:
    """Return changes as if so many minutes had passed between each two; the last is now."""
    steps = len(changes)
    rows: dict[tuple[str, str], int] = {}
    spread = []
    for number, (before, after) in enumerate(changes):
        pair = []
        for row in (before, after):
            moved = None if row is None else dict(row)
            for name in TIMES if moved is not None else ():
                # A time belongs to the step in which it was first seen.
                step = rows.setdefault((name, row["uid"] + row[name]), number)
                moment = datetime.fromisoformat(row[name]) - timedelta(minutes=minutes * (steps - step))
                moved[name] = moment.isoformat(" ")
            pair.append(moved)
        spread.append(tuple(pair))
    return spread


def debezium(before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
    """Return a change event with the columns as they are: JSON is text, truth is 0 and 1."""
    row = after or before or {}
    moment = datetime.fromisoformat(max(row[name] for name in TIMES)).replace(tzinfo=UTC)
    operation = "c" if before is None else "d" if after is None else "u"
    return {
        "before": before,
        "after": after,
        "source": {"version": "2.7.0.Final", "connector": "jdbc", "name": "usso", "table": "localsession"},
        "op": operation,
        "ts_ms": int(moment.timestamp() * 1000),
    }


def snapshot(row: dict[str, Any]) -> dict[str, Any]:
    """Return what USSO's own `dump` makes of a row."""
    values = {name: json.loads(value) if name in JSON_COLUMNS and value else value for name, value in row.items()}
    values |= {name: datetime.fromisoformat(row[name]) for name in TIMES}
    values |= {name: bool(row[name]) for name in FLAGS}
    return LocalSession(**values).dump()
