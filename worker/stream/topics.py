"""The topics: what they must be like, making them, and checking them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DAY_MS = 86_400_000
LARGEST = 8 << 20
"""Bytes a record may have, so that even what is far too large for a session finds its way to the dead letters."""


class TopicSettings(BaseModel):
    """Names and shape of the topics."""

    model_config = ConfigDict(extra="forbid")

    events: str = Field("auth.sessions", description="Input: session events.")
    by_user: str = Field("auth.sessions.by-user", description="Events forwarded to their user's partition.")
    dlq: str = Field("auth.sessions.dlq", description="Dead letters.")
    findings: str = Field("session.findings", description="Findings (OCSF).")
    policies: str = Field("session.policies", description="Tenant policies, compacted.")
    partitions: int = Field(4, ge=1, le=10_000, description="Partitions of the input and all that goes with it.")
    replication: int = Field(1, ge=1, description="Replicas of each partition.")
    retention_days: int = Field(7, ge=1, description="How long events, findings and dead letters are kept.")


class TopicSpec(NamedTuple):
    """What a topic must be like."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


class Problem(NamedTuple):
    """What is wrong with a topic, and what to do about it."""

    topic: str
    what: str
    advice: str


def changelog_name(group_id: str) -> str:
    """Return the name of the state's changelog topic."""
    return f"{group_id}-user-state-changelog"


def specs(settings: TopicSettings, group_id: str) -> list[TopicSpec]:
    """Return all topics; input, forwards and changelog have as many partitions each."""
    kept = {"cleanup.policy": "delete", "retention.ms": str(settings.retention_days * DAY_MS)}
    large = {"max.message.bytes": str(LARGEST)}
    compacted = {"cleanup.policy": "compact", "max.message.bytes": str(LARGEST)}

    def spec(name: str, config: Mapping[str, str], partitions: int = settings.partitions) -> TopicSpec:
        return TopicSpec(name, partitions, settings.replication, config)

    return [
        spec(settings.events, {**kept, **large}),
        spec(settings.by_user, {**kept, **large}),
        spec(settings.dlq, {**kept, **large}),
        spec(settings.findings, kept),
        spec(settings.policies, compacted, 1),
        spec(changelog_name(group_id), compacted),
    ]


async def create(options: Mapping[str, Any], wanted: Iterable[TopicSpec]) -> list[str]:
    """Create the topics that do not exist; return their names.

    Args:
        options: keyword arguments for aiokafka clients.
        wanted: the topics.

    Raises:
        KafkaError: Kafka is not reached, or refuses one.
    """
    async with _admin(options) as admin:
        existing = set(await admin.list_topics())
        missing = [spec for spec in wanted if spec.name not in existing]
        for spec in missing:
            await _create(admin, spec)
    return [spec.name for spec in missing]


async def _create(admin: AIOKafkaAdminClient, spec: TopicSpec) -> None:
    topic = NewTopic(spec.name, spec.partitions, spec.replication, topic_configs=dict(spec.config))
    response = await admin.create_topics([topic])
    for name, code, *rest in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error(f"topic {name}: {rest[0] if rest else 'refused'}")


async def check(options: Mapping[str, Any], wanted: Iterable[TopicSpec]) -> list[Problem]:
    """Compare the topics there are with those there should be.

    Raises:
        KafkaError: Kafka is not reached.
    """
    problems: list[Problem] = []
    async with _admin(options) as admin:
        existing = set(await admin.list_topics())
        for spec in wanted:
            if spec.name not in existing:
                problems.append(Problem(spec.name, "does not exist", "run `sessionwatch topics create`"))
                continue
            problems += await _compare(admin, spec)
    return problems


async def _compare(admin: AIOKafkaAdminClient, spec: TopicSpec) -> list[Problem]:
    (described,) = await admin.describe_topics([spec.name])
    problems = []
    count = len(described["partitions"])
    if count != spec.partitions:
        problems.append(
            Problem(
                spec.name,
                f"has {count} partitions, not {spec.partitions}",
                "state is kept by partition: set topics.partitions to what the topics have, or start a new group "
                "with new topics",
            )
        )
    actual = await _config(admin, spec.name)
    for name, value in spec.config.items():
        # The embedded broker reports few of them; what is not reported is not known to be wrong.
        if name in actual and actual[name] != value and name != "retention.ms":
            advice = f"kafka-configs --alter --topic {spec.name} --add-config {name}={value}"
            problems.append(Problem(spec.name, f"{name} is {actual[name]}, not {value}", advice))
    return problems


async def _config(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    try:
        responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    except KafkaError:
        return {}
    return {entry[0]: entry[1] for response in responses for *_, entries in response.resources for entry in entries}


class _admin:  # noqa: N801  used like a function
    def __init__(self, options: Mapping[str, Any]) -> None:
        self._client = AIOKafkaAdminClient(**options)

    async def __aenter__(self) -> AIOKafkaAdminClient:
        await self._client.start()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
