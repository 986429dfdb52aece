"""`feedback`: a verdict on a finding or an incident, published to the feedback topic."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, NamedTuple

from schemas.feedback import MOST_FINDINGS
from worker.apps.directories import find_store
from worker.apps.embedded import at_broker_of
from worker.apps.store import store_client
from worker.stream.produce import produce

if TYPE_CHECKING:
    from schemas.feedback import Feedback
    from worker.settings import Settings

_FIND = """
SELECT tenant_id, user_id, detection, '' AS key, [finding_uid] AS uids FROM findings FINAL
WHERE startsWith(finding_uid, {uid:String}) AND (tenant_id = {tenant:String} OR {tenant:String} = '')
UNION ALL
SELECT tenant_id, user_id, detection, JSONExtractString(document, 'key') AS key, findings AS uids FROM incidents FINAL
WHERE startsWith(incident_uid, {uid:String}) AND (tenant_id = {tenant:String} OR {tenant:String} = '')
    AND notEmpty(findings)
LIMIT 2
"""
_FULL_ID = re.compile(r"[0-9a-f]{32}")


class UnknownFindingError(Exception):
    """The finding or incident does not exist, or does not match the given fields; the message says what to do."""


class _About(NamedTuple):
    tenant_id: str
    user_id: str
    detection: str
    key: str
    uids: list[str]


def publish(settings: Settings, feedback: Feedback, *, force: bool = False) -> Feedback:
    """Publish feedback, completed with tenant, user and detection of the finding; return it.

    When the id is an incident's, the feedback is about each of its alerting findings. Without `clickhouse.dsn`, the
    embedded store below `data_dir` is read, and its own broker is used if it has one, as that of a demo.

    Args:
        settings: where Kafka and ClickHouse are.
        feedback: what is given; the id may be the beginning of one.
        force: publish it as it is, without looking the id up in ClickHouse.

    Raises:
        UnknownFindingError: see there.
        NoDirectoryError: `clickhouse.dsn` is not set, and there is no embedded store either.
        StoreUnreachableError: ClickHouse cannot be reached.
        KafkaError: Kafka cannot be reached.
    """
    if force and not _FULL_ID.fullmatch(feedback.finding_uid):
        raise UnknownFindingError(f"--force takes the whole id, 32 hex digits, not {feedback.finding_uid!r}")
    settings = _located(settings, force=force)
    complete = feedback if force else _completed(settings, feedback)
    value = complete.model_dump_json().encode()
    asyncio.run(produce(settings.kafka, settings.topics.feedback, complete.finding_uid, value))
    return complete


def _located(settings: Settings, *, force: bool) -> Settings:
    """Return settings that name the store, and the broker that belongs to it."""
    if settings.clickhouse.dsn is not None or (force and "bootstrap_servers" in settings.kafka.model_fields_set):
        return settings
    return at_broker_of(settings, find_store(settings.data_dir))


def _completed(settings: Settings, feedback: Feedback) -> Feedback:
    uid, tenant = feedback.finding_uid, feedback.tenant_id
    with store_client(settings) as (_, client):
        found = [_About(*row) for row in client.query(_FIND, parameters={"uid": uid, "tenant": tenant}).result_rows]
    if len(found) != 1:
        of = f" of tenant {tenant!r}" if tenant else ""
        if found:
            what = f"several findings or incidents{of} have an id that begins with {uid}; give more of the id"
            raise UnknownFindingError(f"{what}, or --tenant")
        raise UnknownFindingError(
            f"no finding or incident{of} has an id that begins with {uid}; "
            "`sessionwatch incidents list --all` shows the ids of incidents; --force takes a whole id unchecked"
        )
    (about,) = found
    for name in ("tenant_id", "user_id", "detection"):
        given, value = getattr(feedback, name), getattr(about, name)
        if given and given != value:
            raise UnknownFindingError(f"{uid} has {name} {value!r}, not {given!r}; correct it, or use --force")
    return feedback.model_copy(update=_update(about))


def _update(about: _About) -> dict[str, object]:
    first, *others = about.uids
    # The detection of an incident is that of its leading finding: the others are counted without one.
    detection = "" if others else about.detection
    named = {"tenant_id": about.tenant_id, "user_id": about.user_id, "detection": detection, "incident_key": about.key}
    return {**named, "finding_uid": first, "more_findings": tuple(others[:MOST_FINDINGS])}
