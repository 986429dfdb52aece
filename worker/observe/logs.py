"""Logging with structlog: readable on a terminal, JSON elsewhere, without secrets or personal data.

Lines that libraries (Faust, mode, aiokafka) log through `logging` are formatted in the same way.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog

from schemas.text import printable_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from structlog.typing import Processor

Format = Literal["auto", "json", "console"]
MASK = "***"

# `scheme://user:password@host`: the password is masked, the user is kept. This very text, an example, is not masked.
_DSN = re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)(?!password@host[:/])[^\s@]+(?=@)", re.IGNORECASE)
# `password=…`, `"sasl_plain_password": "…"`, `token: …` inside a line of text.
_ASSIGNED = re.compile(
    r"(?P<head>[\w.-]*(?:password|passwd|secret|token)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&}]+", re.IGNORECASE
)
_SECRET = re.compile(r"password|passwd|secret|token|credential", re.IGNORECASE)
# Personal data is in ClickHouse, under its access rules; logs have no access rules.
PERSONAL = frozenset(
    {"ip", "key", "location", "record", "session_uid", "user", "user_agent", "user_id", "value"}
)  # fmt: skip
# At INFO, these log one line for every topic, partition and heartbeat.
_QUIET = ("aiokafka", "faust", "mode", "aiohttp.access", "clickhouse_connect", "urllib3")

# Services of Faust log each start and stop: `[^--Recovery]: Starting...`.
_CHATTER = re.compile(r"^\[\^-*[^\]]*\]: (Starting|Stopping|Shutting down|Creating topic)")
# Mode measures how late its own timers are: on a busy machine, a line every few seconds that nobody can act on.
_LATE_TIMER = re.compile(r"^Timer .* is overlapping")
REPEAT_SECONDS = 10.0
"""A repeated line of a library is logged once in so many seconds: an unavailable broker must not fill the disk."""
# They warn of every failed request, and then raise the error, which their caller reports.
_RAISING = ("clickhouse_connect", "urllib3")
_REPEATING = ("aiokafka", "aiohttp", "asyncio")
_REPEATS = 512


class RepeatFilter(logging.Filter):
    """Logs a repeated line of a library once in `REPEAT_SECONDS`; drops starts and stops of services, and late timers.

    Our own lines always pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is logged."""
        if record.levelno <= logging.DEBUG:
            return True
        if record.levelno == logging.INFO and _CHATTER.match(record.getMessage()):
            return False
        if record.name.startswith(_RAISING) and record.levelno < logging.ERROR:
            return False
        if record.name == "mode.timers" and _LATE_TIMER.match(record.getMessage()):
            return False
        return not record.name.startswith(_REPEATING) or self._is_new(record)

    def _is_new(self, record: logging.LogRecord) -> bool:
        # asyncio writes the object concerned on the following lines.
        key = (record.name, str(record.msg).partition("\n")[0])
        if record.created - self._shown.get(key, 0.0) < REPEAT_SECONDS:
            return False
        if len(self._shown) >= _REPEATS:
            self._shown.clear()
        self._shown[key] = record.created
        return True


def masked(text: str) -> str:
    """Return the text with passwords in it masked.

    >>> masked("clickhouse://reader:hunter2@db:8123/x and sasl_password=hunter2")
    'clickhouse://reader:***@db:8123/x and sasl_password=***'
    """
    return _ASSIGNED.sub(rf"\g<head>{MASK}", _DSN.sub(rf"\g<head>{MASK}", text))


def mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Mask fields with the name of a secret, and passwords inside any text (structlog processor)."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = MASK if _SECRET.search(name) else masked(value)
        elif _SECRET.search(name) and value is not None:
            event[name] = MASK
    return event


def drop_personal(_logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Drop personal data above debug (structlog processor)."""
    if method != "debug":
        for name in PERSONAL & event.keys():
            del event[name]
    return event


def clean_controls(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Replace control characters (structlog processor); JSON escapes them by itself."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable_lines(value)
    return event


def shared_processors() -> list[Processor]:
    """Return the processors of every log line, ours and the libraries'."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
        drop_personal,
        mask_secrets,
    ]


def configure(level: str = "info", log_format: Format = "auto", stream: TextIO | None = None) -> None:
    """Send all logging of the process to `stream` (default: stderr).

    Args:
        level: `debug`, `info`, `warning` or `error`; the libraries in `_QUIET` log warnings only, except at `debug`.
        log_format: `auto` is `console` on a terminal and `json` elsewhere.
        stream: where lines go.
    """
    out = stream or sys.stderr
    handler = logging.StreamHandler(out)
    handler.setFormatter(_formatter(_renderers(log_format, out)))
    if level != "debug":
        handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel("DEBUG" if level == "debug" else "WARNING")
    structlog.configure(
        processors=[*shared_processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _formatter(renderers: list[Processor]) -> structlog.stdlib.ProcessorFormatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared_processors(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )


def _renderers(log_format: Format, out: TextIO) -> list[Processor]:
    if log_format == "json" or (log_format == "auto" and not out.isatty()):
        return [structlog.processors.EventRenamer("message"), structlog.processors.JSONRenderer()]
    return [clean_controls, structlog.dev.ConsoleRenderer(colors=out.isatty())]
