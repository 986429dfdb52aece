"""The embedded broker and store behind `demo` and `replay`."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from worker.apps.build import create_topics
from worker.clickhouse import migrations
from worker.clickhouse.writer import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.settings import Settings
EMBEDDED_SESSION_TIMEOUT = 6.0
"""Seconds. The embedded broker lets a new group form after half of it."""
EMBEDDED_FETCH_WAIT = 25
"""Milliseconds. The embedded broker delays every fetch answer by half of it, even when there is data."""


@contextmanager
def sql_endpoint(settings: Settings) -> Iterator[str]:
    """Serve the embedded store over HTTP; yield its URL."""
    from worker.embedded.http import HttpEndpoint  # noqa: PLC0415  an optional extra

    directory = Path(settings.store_dsn().removeprefix("chdb://"))
    directory.mkdir(parents=True, exist_ok=True)
    connect(settings.store_dsn()).close()
    with HttpEndpoint(directory) as endpoint:
        yield endpoint.url


@contextmanager
def embedded(settings: Settings) -> Iterator[tuple[Settings, dict[str, str]]]:
    """Start broker and store of one's own; give the settings that lead to them, and where they are served.

    Raises:
        worker.embedded.broker.BrokerError: the extra is not installed.
    """
    from worker.embedded.broker import EmbeddedBroker, usable_port  # noqa: PLC0415  an optional extra

    data_dir = settings.data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    dsn = f"chdb://{data_dir / 'store'}"
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker(data_dir / "broker.log"))
        kafka = settings.kafka.model_copy(
            update={"bootstrap_servers": broker.bootstrap_servers, "security_protocol": "PLAINTEXT"}
        )
        clickhouse = settings.clickhouse.model_copy(update={"dsn": SecretStr(dsn)})
        stream = settings.stream.model_copy(
            update={"session_timeout_s": EMBEDDED_SESSION_TIMEOUT, "fetch_max_wait_ms": EMBEDDED_FETCH_WAIT}
        )
        web = settings.web.model_copy(update={"port": usable_port(settings.web.host, settings.web.port)})
        changed = settings.model_copy(
            update={"kafka": kafka, "clickhouse": clickhouse, "stream": stream, "data_dir": data_dir, "web": web}
        )
        url = stack.enter_context(sql_endpoint(changed))
        with closing(connect(dsn)) as client:
            migrations.up(client, layout=migrations.layout_of(changed))
        asyncio.run(create_topics(changed))
        yield changed, {"sql": url, "kafka": broker.bootstrap_servers}
