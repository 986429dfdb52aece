"""`sessionwatch alerts` beside a demo: a process of its own, with the demo's broker and settings."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel, SecretStr

from worker.embedded.broker import end_with_parent, free_port, wait_or_kill
from worker.settings import CONFIG_VARIABLE, NESTING, PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from worker.settings import Settings

STOP_SECONDS = 15.0
NONE_SET = "not delivered: alerts.destinations is empty"


@contextmanager
def alert_process(settings: Settings, tables: Future[None] | None = None) -> Iterator[str]:
    """Deliver the incidents on the broker of the settings; yield the names of the destinations.

    Args:
        settings: those of the process.
        tables: the process is started when this future is done; None: the store has its tables.
    """
    names = sorted(name for name, each in settings.alerts.destinations.items() if each.enabled)
    if not names:
        yield NONE_SET
        return
    if tables is not None:
        tables.result()
    with (settings.data_dir / "alerts.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "alerts"],
            env={**_foreign(), **environment(settings)}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            process_group=0, preexec_fn=end_with_parent(),  # noqa: PLW1509  one system call
        )  # fmt: skip
    try:
        yield ", ".join(names)
    finally:
        process.terminate()
        wait_or_kill(process, STOP_SECONDS)


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables that give the process these settings."""
    alerts = settings.alerts.model_copy(update={"web_port": free_port()})
    found = {
        **_variables("alerts", alerts),
        **_variables("kafka", settings.kafka),
        **_variables("topics", settings.topics),
        **_variables("stream", settings.stream),
    }
    return {**found, **_variables("clickhouse", settings.clickhouse)}


def _foreign() -> dict[str, str]:
    """Return the environment without our settings."""
    ours = {name for name in os.environ if name.upper().startswith(PREFIX)}
    return {name: value for name, value in os.environ.items() if name not in ours | {CONFIG_VARIABLE}}


def _variables(group: str, model: BaseModel) -> dict[str, str]:
    found = {}
    for name in type(model).model_fields:
        value = revealed(getattr(model, name))
        if value is not None:
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
            found[f"{PREFIX}{group}{NESTING}{name}".upper()] = text
    return found


def revealed(value: Any) -> Any:
    """Return a setting as JSON values, with secrets in clear text: only for the environment of our own process."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return {name: revealed(getattr(value, name)) for name in value.model_fields_set}
    if isinstance(value, dict):
        return {name: revealed(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [revealed(each) for each in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)
