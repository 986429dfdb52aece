"""Requests to the embedded store over HTTP, as anybody on the machine may send them."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from tests.support.store_fixtures import Store


class Door(NamedTuple):
    """Where the store is served, and the token of a role."""

    port: int
    token: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: Any

    @property
    def code(self) -> str | None:
        found: str | None = self.headers.get("X-ClickHouse-Exception-Code")
        return found


def ask(
    endpoint: Door, sql: str | bytes | None = None, *, path: str = "/", body: bytes | None = None,
    method: str | None = None, headers: dict[str, str] | None = None, **arguments: str,
) -> Reply:  # fmt: skip
    if sql is not None:
        arguments["query"] = sql if isinstance(sql, str) else sql.decode()
    url = f"{endpoint.url}{path}?{urllib.parse.urlencode(arguments)}"
    given = {"X-ClickHouse-Key": endpoint.token, **(headers or {})}
    request = urllib.request.Request(url, data=body, headers=given, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Reply(answer.status, answer.read(), answer.headers)
    except urllib.error.HTTPError as error:
        return Reply(error.code, error.read(), error.headers)


@pytest.fixture
def writer(store: Store) -> Door:
    return Door(store.address.port, store.address.writer)


@pytest.fixture
def reader(store: Store) -> Door:
    return Door(store.address.port, store.address.reader)
