"""Evaluates stored events; new findings are marked retroactive.

The pipeline is that of the worker. Its state is empty at first, so it starts with some history before the range. A
finding has the id that it would have had live: findings of the worker are not changed, and a second run replaces the
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson

from schemas.clickhouse.tables import FINDINGS
from schemas.event import EventKind, SessionEvent, Shape
from worker.clickhouse.writer import write_rows
from worker.enrich.model import Device, Enrichment, Network, Place
from worker.enrich.threat_lists import ThreatLists
from worker.pipeline.local import batches
from worker.sessions.limits import DAY, HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from clickhouse_connect.driver.client import Client

    from schemas.decoding import Ignored, Rejected
    from worker.pipeline.local import LocalPipeline
    from worker.pipeline.ports import Record


_TIMES = frozenset({"event_time", "activity_time", "created_at", "updated_at", "last_used_at", "record_time"})
_COLUMNS = (
    "tenant_id", "user_id", "session_uid", "uid_derived", "kind", "shape", "event_time", "activity_time", "created_at",
    "updated_at", "last_used_at", "future_by", "is_deleted", "max_age_minutes", "user_agent", "location",
    "scopes", "has_scopes", "amr", "has_amr", "aud", "workspace_id", "session_type", "meta_data", "repaired",
    "kafka_topic", "kafka_partition", "kafka_offset", "record_time",
    "ip", "family", "prefix", "asn", "as_org", "network_kind", "threat_list",
    "country", "city", "latitude", "longitude", "place_radius_km", "place_source",
    "stated_country",
    "ua_family", "ua_major", "os_family", "os_major", "device", "is_scripted",
)  # fmt: skip
_WHENCE = _COLUMNS.index("kafka_topic")
_PARTS = [_COLUMNS.index(name) for name in ("ip", "country", "ua_family")] + [len(_COLUMNS)]
_OPTIONAL = ("location", "aud", "workspace_id", "session_type", "meta_data")
_MOMENT = "fromUnixTimestamp64Milli({%s:Int64}, 'UTC')"
_SINCE, _UNTIL = _MOMENT % "since", _MOMENT % "until"
_ONE_TENANT = "({tenant:String} = '' OR tenant_id = {tenant:String})"
_SELECTED = ", ".join(f"toUnixTimestamp64Milli(e.{name})" if name in _TIMES else f"e.{name}" for name in _COLUMNS)
# Roughly in the order of arrival, which verdicts do not depend on.
_EVENTS = f"""
SELECT {_SELECTED} FROM session_events AS e FINAL
WHERE e.event_time >= {_SINCE} AND e.event_time < {_UNTIL} AND {_ONE_TENANT} AND (NOT e.is_late OR {{late:Bool}})
ORDER BY e.record_time, e.kafka_topic, e.kafka_partition, e.kafka_offset
"""  # noqa: S608  names of our own
_KNOWN = f"""
SELECT finding_uid, is_retroactive, status FROM findings FINAL
WHERE event_time >= {_SINCE} AND event_time < {_UNTIL} AND bucket_time >= {_SINCE} - INTERVAL 1 HOUR AND {_ONE_TENANT}
    AND (empty({{detections:Array(String)}}) OR has({{detections:Array(String)}}, detection))
"""  # noqa: S608  as above
_CLOSE = """
INSERT INTO findings
SELECT * REPLACE ('closed' AS status, 4 AS status_id, 3 AS activity_id, false AS is_alert) FROM findings FINAL
WHERE has({uids:Array(String)}, finding_uid)
"""
_NAMES = tuple(column.name for column in FINDINGS.columns)
_HEADER = b"\xdc" + len(_NAMES).to_bytes(2, "big")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode


class BackfillRange(NamedTuple):
    """The events and findings to look at.

    Attributes:
        since, until: times of the first occurrence of findings, milliseconds; `until` is exclusive.
        history: how long before `since` the state begins, milliseconds.
        tenant: one tenant; `""` is all.
        detections: ids; none: all that the policies enable.
        late: also evaluate events that arrived too late for the worker.
    """

    since: int
    until: int
    history: int = 30 * DAY
    tenant: str = ""
    detections: tuple[str, ...] = ()
    late: bool = False


class BackfillResult(NamedTuple):
    """The number of events, and of findings that are new, known, or closed because they were not found again."""

    events: int
    new: int
    known: int
    closed: int


class StoredEvent(msgspec.Struct):
    """A row of `session_events` as a record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    event: SessionEvent
    known: Enrichment
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class StoredEventReader:
    """Reads events that were decoded and enriched before; the port is `worker.pipeline.readers.EventReader`.

    Args:
        threats: the current threat lists, which the stored addresses are checked against.
    """

    may_repeat = False

    def __init__(self, threats: ThreatLists | None = None) -> None:
        self._threats = threats or ThreatLists()

    def decode(self, record: Record) -> SessionEvent | Ignored | Rejected:
        """Return the event."""
        return record.event  # type: ignore[attr-defined,no-any-return]  # only `StoredEvent`s come here

    def enrich(self, record: Record, event: SessionEvent) -> Enrichment:  # noqa: ARG002  it stands in the record
        """Return the stored enrichment, with the threat lists that contain the network now."""
        known: Enrichment = record.known  # type: ignore[attr-defined]  # as above
        network = known.network
        lists = self._threats.find(network.ip, network.asn)
        if not lists:
            return known
        names = " ".join(dict.fromkeys((*network.threat_list.split(), *lists.split())))
        return known._replace(network=msgspec.structs.replace(network, threat_list=names))


def stored_event(row: Sequence[Any]) -> StoredEvent:
    """Return the event of a row with the columns of `_COLUMNS`."""
    known = dict(zip(_COLUMNS, row, strict=True))
    known |= {name: known[name] or None for name in _OPTIONAL}
    known |= {"kind": EventKind(known["kind"]), "shape": Shape(known["shape"])}
    for name in ("scopes", "amr"):
        known[name] = tuple(known[name]) if known[f"has_{name}"] else None
    # Matches with threat lists are not stored for addresses that are pseudonyms.
    event = SessionEvent(**{name: known[name] for name in SessionEvent.__struct_fields__ if name in known})
    topic, partition, offset, record_time = row[_WHENCE : _WHENCE + 4]
    network, place, device = (row[start:end] for start, end in pairwise(_PARTS))
    enrichment = Enrichment(Network(*network), Place(*place), Device(*device))
    return StoredEvent(topic, partition, offset, record_time, event, enrichment)


def stored_events(client: Client, asked: BackfillRange) -> Iterator[Record]:
    """Yield the events of a range and its history, day by day of event time."""
    for since in range(asked.since - asked.history, asked.until + HOUR, DAY):
        until = min(since + DAY, asked.until + HOUR)
        limits = {"since": since, "until": until, "tenant": asked.tenant, "late": asked.late}
        with client.query_row_block_stream(_EVENTS, parameters=limits) as blocks:
            for block in blocks:
                yield from map(stored_event, block)


def find_retroactively(
    client: Client, local: LocalPipeline, asked: BackfillRange, *, dry_run: bool = False
) -> BackfillResult:
    """Run the pipeline over stored events; store the findings that the worker did not have.

    Args:
        client: the store.
        local: the pipeline, reading from `StoredEventReader`, with an empty state.
        asked: the range.
        dry_run: store nothing.

    Raises:
        ClickHouseError: the store refuses.
    """
    events, found = 0, dict[str, list[Any]]()
    for records in batches(stored_events(client, asked)):
        for outcome in local.process(records):
            found.update(_findings(outcome.rows.get("findings", ())))
        local.fire_timers(records[-1].timestamp)
        events += len(records)
    standing = {uid: row for uid, row in found.items() if _is_asked_for(dict(zip(_NAMES, row, strict=True)), asked)}
    live, retroactive = _known(client, asked)
    new = [_retroactive(row) for uid, row in standing.items() if uid not in live]
    gone = sorted(retroactive - standing.keys())
    if not dry_run:
        if new:
            write_rows(client, FINDINGS.name, new)
        if gone:
            client.command(_CLOSE, parameters={"uids": gone})
    fresh = len(standing.keys() - live - retroactive)
    return BackfillResult(events, fresh, len(standing) - fresh, len(gone))


def _findings(rows: Iterable[bytes]) -> Iterator[tuple[str, list[Any]]]:
    for row in rows:
        values = _decode(_HEADER + row)
        yield values[0], values


def _is_asked_for(row: Mapping[str, Any], asked: BackfillRange) -> bool:
    chosen = not asked.detections or row["detection"] in asked.detections
    return chosen and asked.since <= row["event_time"] < asked.until and row["status"] != "closed"


def _known(client: Client, asked: BackfillRange) -> tuple[set[str], set[str]]:
    """Return the ids of the findings in the range: those of the worker, and those of earlier backfills."""
    rows = client.query(_KNOWN, parameters={**asked._asdict(), "detections": list(asked.detections)}).result_rows
    live = {uid for uid, is_retroactive, _ in rows if not is_retroactive}
    return live, {uid for uid, is_retroactive, status in rows if is_retroactive and status != "closed"}


def _retroactive(row: list[Any]) -> bytes:
    """Return a finding's row marked as retroactive, at revision 0, so that a state from the worker replaces it."""
    changed = dict(zip(_NAMES, row, strict=True)) | {"revision": 0, "is_retroactive": True}
    return _encode(tuple(changed.values()))[3:]


def enabling(document: bytes, detections: Iterable[str]) -> bytes:
    """Return a policy document in which detections are enabled, even if it disables them."""
    policy = orjson.loads(document)
    for uid in detections:
        policy.setdefault("detections", {}).setdefault(uid, {})["enabled"] = True
    return orjson.dumps(policy)
