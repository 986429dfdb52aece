"""`policy`: tenant policies on their compacted topic."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from worker.detections.policies import BadPolicyError, check_policy, read_policies, unknown_countries
from worker.stream.policies import read_all
from worker.stream.produce import produce

if TYPE_CHECKING:
    from worker.settings import Settings


def published(settings: Settings) -> dict[str, bytes]:
    """Return the policies on the topic, by tenant, in order of tenants.

    Raises:
        KafkaError: Kafka cannot be reached.
    """
    return dict(sorted(asyncio.run(read_all(settings.kafka, settings.topics.policies)).items()))


def publish(settings: Settings, document: bytes, tenant: str = "", *, force: bool = False) -> list[str]:
    """Check the policies of a document and publish them all, or none; return their tenants.

    Args:
        settings: where Kafka is.
        document: see `read_policies`.
        tenant: the tenant of a policy that names none; policies of other tenants are refused.
        force: publish policies that list countries which do not exist.

    Raises:
        BadPolicyError: a policy cannot be used, or lists a country that does not exist.
        KafkaError: Kafka cannot be reached.
    """
    documents = read_policies(document, tenant)
    for name, each in documents.items():
        if tenant and name != tenant:
            raise BadPolicyError(f"tenant_id: the document is for tenant {name!r}, but --tenant is {tenant!r}")
        unknown = [] if force else unknown_countries(each)
        if unknown:
            raise BadPolicyError(
                f"tenant {name}: there is no country {', '.join(unknown)}; correct the code, or use --force"
            )
    for name, each in documents.items():
        asyncio.run(produce(settings.kafka, settings.topics.policies, name, each))
    return list(documents)


def unset(settings: Settings, tenant: str) -> None:
    """Delete a tenant's policy.

    Raises:
        KafkaError: Kafka cannot be reached.
    """
    asyncio.run(produce(settings.kafka, settings.topics.policies, tenant, None))


def refusal(document: bytes) -> str:
    """Return why workers refuse a document; empty when they do not."""
    try:
        check_policy(document)
    except BadPolicyError as error:
        return str(error)
    return ""
