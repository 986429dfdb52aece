"""`feedback`: a verdict on a finding, published to the feedback topic."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from worker.apps.store import store_client
from worker.stream.produce import produce

if TYPE_CHECKING:
    from schemas.feedback import Feedback
    from worker.settings import Settings

_FIND = """
SELECT tenant_id, user_id, detection FROM findings FINAL
WHERE finding_uid = {uid:String} AND (tenant_id = {tenant:String} OR {tenant:String} = '')
LIMIT 2
"""


class UnknownFindingError(Exception):
    """The finding does not exist, or does not match the given fields; the message says what to do."""


class _About(NamedTuple):
    tenant_id: str
    user_id: str
    detection: str


def publish(settings: Settings, feedback: Feedback, *, force: bool = False) -> Feedback:
    """Publish feedback, completed with the finding's tenant, user and detection; return it.

    Args:
        settings: where Kafka and ClickHouse are.
        feedback: the given fields.
        force: publish it unchanged, without looking the finding up in ClickHouse.

    Raises:
        UnknownFindingError: there is no such finding, or it belongs to another user or detection.
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
        what = "several findings have the id" if found else "there is no finding"
        raise UnknownFindingError(f"{what} {uid}{of}; correct the id or --tenant, or use --force")
    for name, value in found[0]._asdict().items():
        given = getattr(feedback, name)
        if given and given != value:
            raise UnknownFindingError(f"finding {uid} has {name} {value!r}, not {given!r}; correct it, or use --force")
    return feedback.model_copy(update=found[0]._asdict())
