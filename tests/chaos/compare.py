"""What came out of a world, and what that has more, less or otherwise than another."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.chaos.feed import EVENTS, FLOOD, LIMIT
from worker.clickhouse.rollups import differences
from worker.clickhouse.writer import connect
from worker.detections.registry import detections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.feed import Input
    from tests.chaos.world import World

KEYS = {
    "session_events": ("tenant_id", "user_id", "session_uid", "kafka_partition", "kafka_offset"),
    "sessions": ("tenant_id", "user_id", "session_uid"),
    "findings": ("finding_uid",),
    "incidents": ("incident_uid",),
}
# A finding across users is made of announcements out of several partitions. Which of them comes last has no order, and
# with it who brought the finding about and how often it was told: all else is the same.
ACROSS = ("owner-change", "network-many-users")
UNORDERED = ("revision", "detected_at", "kafka_topic", "kafka_partition", "kafka_offset", "status", "status_id",
             "activity_id")  # fmt: skip
# Findings that users of a tenant may share are written by the second stage, which tells one again when others join it:
# how often depends on the order of announcements, see decision 10.
RETOLD = frozenset(uid for uid, each in detections().items() if each.tenant_wide)
# Repeats of a finding are published when their number has doubled, so the newest state that incidents know of a finding
# depends on the order of arrival, and with it when an incident last changed. Its findings, severity and state do not.
TIMED = ("detected_at", "last_event_at", "document", "revision", "version")
# Incidents that were merged into others or lost all findings to late records came and went with the order of arrival.
STANDING = {"incidents": " AND resolution NOT IN ('merged', 'withdrawn')"}


class Everything(NamedTuple):
    """The tables by key, as `FINAL` shows them, how often keys stand twice, the ids published, the dead letters.

    `rollups`: rows of rollups that are not what the events say.
    """

    tables: dict[str, dict[tuple[Any, ...], tuple[Any, ...]]]
    twice: int
    published: frozenset[str]
    letters: list[tuple[int, int, bytes]]
    rollups: int


class Verdict(NamedTuple):
    """What differs. `example`: one difference, for a look."""

    rows_lost: int
    rows_doubled: int
    findings_lost: int
    findings_changed: int
    rows_changed: int
    letters: int
    rollups: int
    example: str

    @property
    def is_clean(self) -> bool:
        """Whether nothing differs."""
        return not any(self[:7])


def everything(world: World) -> Everything:
    """Read all that came out, but for what poison gave."""
    tables: dict[str, dict[tuple[Any, ...], tuple[Any, ...]]] = {}
    twice = 0
    with closing(connect(world.dsn(direct=True, database=True))) as client:
        for table, key in KEYS.items():
            standing = STANDING.get(table, "")
            found = client.query(
                f"SELECT * FROM {table} FINAL WHERE NOT startsWith(tenant_id, '{FLOOD}'){standing}"  # noqa: S608  ours
            )
            names = found.column_names
            rows = [_placed(dict(zip(names, row, strict=True)), world.source) for row in found.result_rows]
            by_key = {tuple(row[name] for name in key): _comparable(table, row) for row in rows}
            tables[table] = by_key
            twice += len(rows) - len(by_key)
        rollups = sum(differences(client).values())
    published = [each for each in world.findings() if not each["metadata"]["tenant_uid"].startswith(FLOOD)]
    letters = [
        (partition, world.source.without_flood(offset), value)
        for partition, offset, value in asyncio.run(world.dead_letters())
        if not world.source.is_flood(offset)
    ]
    return Everything(tables, twice, frozenset(each["finding_info"]["uid"] for each in published), letters, rollups)


def flooded(world: World, poison: str) -> None:
    """Hold what came of poison against what has to: rows of what are events, dead letters of all else."""
    if poison in EVENTS:
        query = (
            f"SELECT count(), uniqExact(session_uid) FROM session_events FINAL WHERE startsWith(tenant_id, '{FLOOD}')"  # noqa: S608  ours
        )
        with closing(connect(world.dsn(direct=True, database=True))) as client:
            rows, sessions = client.query(query).result_rows[0]
            over = "SELECT uniqExact(tenant_id) FROM findings FINAL WHERE detection = 'concurrent-sessions'"
            tenants = client.query(f"{over} AND startsWith(tenant_id, '{FLOOD}')").result_rows[0][0]
        assert rows == world.source.floods, f"{rows:,} rows of {world.source.floods:,}"
        if poison not in ("uids", "tenants", "limit"):
            return
        assert rows == sessions, f"{rows:,} rows of {sessions:,} sessions"
        expected = world.source.floods // (LIMIT + 1) if poison == "limit" else tenants
        assert tenants == expected, f"{tenants:,} of {expected:,} tenants were found to be over the limit"
        return
    letters = [offset for _, offset, _ in asyncio.run(world.dead_letters()) if world.source.is_flood(offset)]
    assert len(letters) == world.source.floods, f"{len(letters):,} dead letters"


def _placed(row: dict[str, Any], source: Input) -> dict[str, Any]:
    """Return a row as it would be, had the input another name and no poison."""
    if "kafka_offset" in row and row["kafka_topic"] == source.topic:
        row |= {"kafka_topic": "input", "kafka_offset": source.without_flood(row["kafka_offset"])}
    return row


def _comparable(table: str, row: dict[str, Any]) -> tuple[Any, ...]:
    left_out = TIMED if table == "incidents" else _unordered(row["detection"]) if table == "findings" else ()
    return tuple((name, _plain(value)) for name, value in row.items() if name not in left_out)


def _unordered(detection: str) -> tuple[str, ...]:
    return UNORDERED if detection in ACROSS else ("revision",) if detection in RETOLD else ()


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _differ(row: tuple[Any, ...], other: tuple[Any, ...], but: Sequence[str]) -> bool:
    return row != other and any(a != b and a[0] not in but for a, b in zip(row, other, strict=True))


def compare(reference: Everything, found: Everything, but: Sequence[str] = ()) -> Verdict:
    """Hold one run against another, columns of `sessions` excepted that may differ."""
    lost: Counter[str] = Counter()
    more: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    example = ""
    for table, rows in reference.tables.items():
        others = found.tables[table]
        lost[table] = len(rows.keys() - others.keys())
        more[table] = len(others.keys() - rows.keys())
        left_out = but if table == "sessions" else ()
        differing = [key for key in rows.keys() & others.keys() if _differ(rows[key], others[key], left_out)]
        changed[table] = len(differing)
        if (lost[table] or more[table]) and not example:
            example = f"{table} {min(map(str, rows.keys() ^ others.keys()))}"
        if differing and not example:
            pairs = zip(rows[differing[0]], others[differing[0]], strict=True)
            example = f"{table} {differing[0]}: " + ", ".join(f"{a} {b[1]}" for a, b in pairs if a != b)
    return Verdict(
        rows_lost=lost["session_events"] + lost["sessions"],
        rows_doubled=more["session_events"] + more["sessions"] + found.twice,
        findings_lost=lost["findings"] + lost["incidents"] + len(reference.published - found.published),
        findings_changed=sum(changed[each] + more[each] for each in ("findings", "incidents"))
        + len(found.published - reference.published),
        rows_changed=changed["session_events"] + changed["sessions"],
        letters=len(set(reference.letters) ^ set(found.letters)),
        rollups=found.rollups,
        example=example[:600],
    )
