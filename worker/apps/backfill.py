"""`backfill`: evaluates stored events with the current detections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from worker.apps.build import usable_detections
from worker.apps.store import store_client
from worker.apps.stored_events import StoredEventReader, enabling, find_retroactively
from worker.clickhouse import migrations
from worker.detections.policies import BadPolicyError, Policies, parse_policy, read_policies
from worker.detections.registry import detection, detections
from worker.enrich.threat_lists import ThreatLists
from worker.pipeline.batch import Pipeline
from worker.pipeline.local import LocalPipeline
from worker.stream.policies import read_all
from worker.stream.state_store import MemoryShard

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from worker.apps.stored_events import BackfillRange, BackfillResult
    from worker.settings import Settings

log = structlog.get_logger(__name__)


def backfill(
    settings: Settings, asked: BackfillRange, *, policies: Path | None = None, dry_run: bool = False
) -> BackfillResult:
    """Evaluate stored events with the current detections; the state of the workers is not changed.

    Args:
        settings: of the store, and of Kafka for the policy topic; an embedded store has no policies.
        asked: the range.
        policies: a JSON list of policies, each with its `tenant_id`, instead of those on the topic.
        dry_run: store nothing.

    Raises:
        UnknownDetectionError: a requested detection does not exist.
        BadPolicyError: a policy cannot be used.
        StoreUnreachableError: ClickHouse does not answer.
        KafkaConnectionError: Kafka does not answer.
    """
    usable_detections(settings)
    for uid in asked.detections:
        detection(uid)
    engines = _engines(_policies(settings, policies), asked, skip_bad=policies is None)
    pipeline = Pipeline(
        reader=StoredEventReader(ThreatLists(settings.geo.threat_lists)),
        engine_for=engines.engine_for,
        topics=settings.topics,
        partition_of=lambda _key: 0,
        limits=settings.state.limits(),
        operator=settings.correlation.operator(),
    )
    with store_client(settings) as (ready, client):
        migrations.up(client, dry_run=dry_run, layout=migrations.layout_of(ready))
        return find_retroactively(
            client, LocalPipeline(pipeline, MemoryShard(), (settings.topics.starts,)), asked, dry_run=dry_run
        )


def _engines(documents: Mapping[str, bytes], asked: BackfillRange, *, skip_bad: bool) -> Policies:
    """Return the tenants' engines, with the requested detections enabled.

    An invalid policy on the topic is skipped, as in the workers; in a file it is an error.
    """
    engines = Policies(detections().values())
    for tenant, document in documents.items():
        try:
            parse_policy(document)
            engines.set(tenant, enabling(document, asked.detections))
        except BadPolicyError as error:
            if not skip_bad:
                raise
            log.warning("policy refused, the default is used for the tenant", tenant=tenant, why=str(error))
    return engines


def _policies(settings: Settings, file: Path | None) -> dict[str, bytes]:
    if file is not None:
        return read_policies(file.read_bytes())
    if settings.embedded_directory() is not None:
        return {}
    return asyncio.run(read_all(settings.kafka, settings.topics.policies))
