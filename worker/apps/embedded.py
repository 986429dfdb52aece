"""The embedded broker and store behind `demo`, `replay` and `worker --embedded`."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from pydantic import SecretStr

from worker.apps.directories import NoDirectoryError, writable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from worker.apps.directories import StoredAt
    from worker.embedded.store import Address, EmbeddedStore
    from worker.settings import Settings


class PortTakenError(Exception):
    """The web server's port is taken; the message says what to do."""


EMBEDDED_SESSION_TIMEOUT = 4.0
"""Seconds. The embedded broker lets a new group form after half of it."""
EMBEDDED_FETCH_WAIT = 25
"""Milliseconds. The embedded broker delays every fetch response by half of it, even when there is data."""

BROKER_FILE = "broker.address"
"""File beside an embedded store's directory: the address of its broker, for as long as that runs."""


@contextmanager
def served(settings: Settings) -> Iterator[Settings]:
    """Yield settings whose DSN is that of a server.

    A DSN `chdb:///directory` becomes that of the process which serves the directory: one that runs already, or one
    that is started here for as long as the context lasts.

    Raises:
        worker.settings.SettingsError: `clickhouse.dsn` is not set.
        worker.embedded.store.StoreProcessError: the embedded store did not start.
    """
    directory = settings.embedded_directory()
    if directory is None:
        yield settings
        return
    with _address(directory) as address:
        yield at_address(settings, address)


@contextmanager
def _address(directory: Path) -> Iterator[Address]:
    from worker.embedded.store import EmbeddedStore, running  # noqa: PLC0415  an optional extra

    found = running(directory)
    if found is not None:
        yield found
        return
    with EmbeddedStore(directory) as store:
        yield store.address


def at_address(settings: Settings, address: Address) -> Settings:
    """Return settings for the embedded store at an address: plain HTTP, without access management."""
    from worker.embedded.access import Role  # noqa: PLC0415  an optional extra

    plain = {"secure": False, "ca_cert": None, "client_cert": None, "client_key": None, "manage_access": False}
    changed = {"dsn": SecretStr(address.dsn(Role.WRITER)), **plain}
    return settings.model_copy(update={"clickhouse": settings.clickhouse.model_copy(update=changed)})


class Servers(NamedTuple):
    """An embedded broker with its topics, and an embedded store that may still be starting.

    Attributes:
        settings: settings with their addresses.
        addresses: their addresses by name, to show to the user.
        tables: a future that is done when the store serves and has its tables. It raises `StoreProcessError`,
            `StoreUnreachableError` or `MigrationError` when the store cannot start.
    """

    settings: Settings
    addresses: Mapping[str, str]
    tables: Future[None]


@contextmanager
def embedded(settings: Settings) -> Iterator[Servers]:
    """Run an embedded broker and store for as long as the context lasts.

    The store starts in another process, and its tables are created, while the caller continues.

    Raises:
        DirectoryError: the data directory cannot be written.
        worker.embedded.broker.BrokerError: the extra is not installed.
        worker.embedded.store.StoreProcessError: the same, or its directory cannot be created.
    """
    from worker.embedded.broker import EmbeddedBroker  # noqa: PLC0415  an optional extra
    from worker.embedded.store import EmbeddedStore  # noqa: PLC0415

    data_dir = writable(settings.data_dir.resolve())
    with ExitStack() as stack:
        # Left after the store has stopped, so that nothing waits for migrations when the caller is interrupted.
        executor = stack.enter_context(ThreadPoolExecutor(1))
        store = EmbeddedStore(data_dir / "store")
        stack.callback(store.stop)
        store.launch()
        broker = stack.enter_context(EmbeddedBroker(data_dir / "broker.log"))
        stack.enter_context(_told(data_dir / BROKER_FILE, broker.bootstrap_servers))
        changed = at_address(_at_broker(settings, broker.bootstrap_servers, data_dir), store.address)
        tables = executor.submit(_make_tables, store, changed)
        from worker.apps.topics import create_topics  # noqa: PLC0415  slow: imported while the store starts

        asyncio.run(create_topics(changed))
        yield Servers(changed, {"sql": store.address.shown, "kafka": broker.bootstrap_servers}, tables)


@contextmanager
def _told(path: Path, address: str) -> Iterator[None]:
    """Keep an address in a file while the context lasts."""
    path.write_text(address, encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def at_broker_of(settings: Settings, store: StoredAt) -> Settings:
    """Return settings for an embedded store, and for its own broker when it has one.

    Raises:
        NoDirectoryError: nothing serves the store, and the settings name no other broker.
    """
    path = store.directory.resolve().parent / BROKER_FILE
    dsn = SecretStr(f"chdb://{store.directory.resolve()}")
    placed = settings.model_copy(update={"clickhouse": settings.clickhouse.model_copy(update={"dsn": dsn})})
    if store.address is not None and path.is_file():
        return _at_broker(placed, path.read_text(encoding="utf-8"), settings.data_dir)
    if "bootstrap_servers" in settings.kafka.model_fields_set:
        return placed
    raise NoDirectoryError(
        f"no demo runs in {settings.data_dir}; start `sessionwatch demo`, or set kafka.bootstrap_servers and "
        "clickhouse.dsn (SESSIONWATCH_KAFKA__BOOTSTRAP_SERVERS and SESSIONWATCH_CLICKHOUSE__DSN)"
    )


def _at_broker(settings: Settings, bootstrap_servers: str, data_dir: Path) -> Settings:
    """Return settings for an embedded broker."""
    kafka = {"bootstrap_servers": bootstrap_servers, "security_protocol": "PLAINTEXT"}
    stream = {"session_timeout_s": EMBEDDED_SESSION_TIMEOUT, "fetch_max_wait_ms": EMBEDDED_FETCH_WAIT}
    changed = {
        "kafka": settings.kafka.model_copy(update=kafka),
        "stream": settings.stream.model_copy(update=stream),
        "data_dir": data_dir,
    }
    return settings.model_copy(update=changed)


def _make_tables(store: EmbeddedStore, settings: Settings) -> None:
    """Wait until a store that was launched serves, and apply the migrations."""
    from worker.clickhouse import migrations  # noqa: PLC0415  slow: imported while the store starts
    from worker.clickhouse.writer import connect  # noqa: PLC0415

    store.wait_ready()
    with closing(connect(settings.store_dsn())) as client:
        migrations.up(client, layout=migrations.layout_of(settings))


@contextmanager
def web_listener(settings: Settings, *, choose: bool = True) -> Iterator[tuple[Settings, socket.socket]]:
    """Bind the web server's port; yield settings that name it, and the socket.

    Args:
        settings: host and port.
        choose: use any free port when that one is in use.

    Raises:
        PortTakenError: it is in use, or may not be bound.
    """
    with _bound(settings.web.host, settings.web.port, choose=choose) as listener:
        web = settings.web.model_copy(update={"port": int(listener.getsockname()[1])})
        yield settings.model_copy(update={"web": web}), listener


def _bound(host: str, port: int, *, choose: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if choose and error.errno == errno.EADDRINUSE and port:
            return socket.create_server((host, 0), family=family)
        why = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else error.strerror
        raise PortTakenError(
            f"cannot listen on {host} port {port}: {why}; set web.host and web.port (port 0: any that is free)"
        ) from error
