"""`feedback`: a verdict on a finding or an incident, published to the feedback topic."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from schemas.feedback import MOST_FINDINGS
from worker.apps.store import store_client
from worker.stream.produce import produce

if TYPE_CHECKING:
    from schemas.feedback import Feedback
    from worker.settings import Settings

_FIND = """
SELECT tenant_id, user_id, detection, '' AS key, [finding_uid] AS uids FROM findings FINAL
WHERE finding_uid = {uid:String} AND (tenant_id = {tenant:String} OR {tenant:String} = '')
UNION ALL
SELECT tenant_id, user_id, detection, JSONExtractString(document, 'key') AS key, findings AS uids FROM incidents FINAL
WHERE incident_uid = {uid:String} AND (tenant_id = {tenant:String} OR {tenant:String} = '') AND notEmpty(findings)
LIMIT 2
"""


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

    When the id is an incident's, the feedback is about each of its alerting findings.

    Args:
        settings: where Kafka and ClickHouse are.
        feedback: what is given.
        force: publish it as it is, without looking the id up in ClickHouse.

    Raises:
        UnknownFindingError: see there.
        StoreUnreachableError: ClickHouse cannot be reached.
        KafkaError: Kafka cannot be reached.
    """
    complete = feedback if force else _completed(settings, feedback)
    value = complete.model_dump_json().encode()
    asyncio.run(produce(settings.kafka, settings.topics.feedback, complete.finding_uid, value))
    return complete


def _completed(settings: Settings, feedback: Feedback) -> Feedback:
    uid, tenant = feedback.finding_uid, feedback.tenant_id
    with store_client(settings) as (_, client):
        found = [_About(*row) for row in client.query(_FIND, parameters={"uid": uid, "tenant": tenant}).result_rows]
    if len(found) != 1:
        of = f" of tenant {tenant!r}" if tenant else ""
        what = "several findings or incidents have the id" if found else "there is no finding or incident"
        raise UnknownFindingError(f"{what} {uid}{of}; correct the id or --tenant, or use --force")
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
