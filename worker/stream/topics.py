"""Topics: their required configuration, creating them, and checking them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidConfigurationError,
    KafkaError,
    KafkaTimeoutError,
    TopicAlreadyExistsError,
    for_code,
)

from worker.stream.connection import explained

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from worker.settings import TopicSettings

DAY_MS = 86_400_000
VISIBLE_SECONDS = 15.0
POLL_SECONDS = 0.05
AHEAD_MAX, AHEAD_MAX_MS = "message.timestamp.after.max.ms", 3_600_000
"""How far ahead of the broker's clock a record's timestamp may be; the broker refuses others (KIP-937, Kafka 3.6).
After one record from the future, all later events of its user would be late."""
LARGEST = 8 << 20
"""Largest record, bytes: also a record that is too large for a session must fit on the dead-letter topic."""


class TopicSpec(NamedTuple):
    """The required configuration of a topic."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


class Problem(NamedTuple):
    """A problem of a topic, and how to fix it."""

    topic: str
    what: str
    advice: str


def changelog_name(group_id: str) -> str:
    """Return the name of the state's changelog topic."""
    return f"{group_id}-user-state-changelog"


def specs(settings: TopicSettings, group_id: str) -> list[TopicSpec]:
    """Return all topics; inputs and changelog have the same number of partitions."""
    kept = {"cleanup.policy": "delete", "retention.ms": str(settings.retention_days * DAY_MS)}
    large = {"max.message.bytes": str(LARGEST)}
    bounded = {AHEAD_MAX: str(AHEAD_MAX_MS)}
    compacted = {"cleanup.policy": "compact", "max.message.bytes": str(LARGEST)}

    def spec(name: str, config: Mapping[str, str], partitions: int = settings.partitions) -> TopicSpec:
        return TopicSpec(name, partitions, settings.replication, config)

    return [
        # Not on the topic of forwards: they keep the timestamps of records produced before the bound was set.
        *(spec(name, {**kept, **large, **bounded}) for name in (settings.events, *settings.sources)),
        spec(settings.by_user, {**kept, **large}),
        spec(settings.starts, kept),
        spec(settings.dlq, {**kept, **large}),
        spec(settings.findings, kept),
        spec(settings.incidents, {**kept, **large}),
        spec(settings.deliveries, compacted),
        spec(settings.feedback, kept),
        spec(settings.policies, compacted, 1),
        spec(changelog_name(group_id), compacted),
    ]


async def create(options: Mapping[str, Any], wanted: Iterable[TopicSpec]) -> list[str]:
    """Create the missing topics, wait until all are visible, and return the names of the new ones.

    Args:
        options: keyword arguments for aiokafka clients.
        wanted: the topics.

    Raises:
        KafkaError: Kafka cannot be reached, refuses a topic, or does not list it within `VISIBLE_SECONDS`.
    """
    wanted = list(wanted)
    async with _admin(options) as admin:
        existing = set(await admin.list_topics())
        created = [spec.name for spec in wanted if spec.name not in existing and await _create(admin, spec)]
        await _visible(admin, {spec.name for spec in wanted})
    return created


async def _create(admin: AIOKafkaAdminClient, spec: TopicSpec) -> bool:
    """Create a topic; return False when it was created by another process meanwhile."""
    name, code, rest = await _asked(admin, spec, spec.config)
    if for_code(code) is InvalidConfigurationError and AHEAD_MAX in spec.config:
        name, code, rest = await _asked(admin, spec, _before_3_6(spec.config))
    error = for_code(code)
    if code and error is not TopicAlreadyExistsError:
        raise error(f"topic {name}: {rest[0] if rest and rest[0] else 'refused'}")
    return not code


async def _asked(
    admin: AIOKafkaAdminClient, spec: TopicSpec, config: Mapping[str, str]
) -> tuple[str, int, Sequence[Any]]:
    topic = NewTopic(spec.name, spec.partitions, spec.replication, topic_configs=dict(config))
    ((name, code, *rest),) = (await admin.create_topics([topic])).topic_errors
    return name, code, rest


def _before_3_6(config: Mapping[str, str]) -> dict[str, str]:
    """Return a topic's configuration for Kafka before 3.6, whose one bound holds for both directions of time."""
    older = {name: value for name, value in config.items() if name != AHEAD_MAX}
    return {**older, "message.timestamp.difference.max.ms": config["retention.ms"]}


async def _visible(admin: AIOKafkaAdminClient, names: set[str]) -> None:
    """Wait until the metadata lists the topics, which on Apache Kafka happens some time after their creation."""
    try:
        async with asyncio.timeout(VISIBLE_SECONDS):
            while not names.issubset(await admin.list_topics()):  # noqa: ASYNC110  it happens in the broker
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as error:
        raise KafkaTimeoutError(
            f"the topics were created, but the brokers did not list them within {VISIBLE_SECONDS:g} s"
        ) from error


async def check(options: Mapping[str, Any], wanted: Iterable[TopicSpec]) -> list[Problem]:
    """Compare the existing topics with the required ones.

    A setting that a broker does not report (the embedded broker reports few) is not a problem.

    Raises:
        KafkaError: Kafka cannot be reached.
    """
    problems: list[Problem] = []
    async with _admin(options) as admin:
        brokers = len((await admin.describe_cluster())["brokers"])
        # The embedded broker creates a topic when its description is requested.
        existing = set(await admin.list_topics())
        for spec in wanted:
            if spec.name in existing:
                (described,) = await admin.describe_topics([spec.name])
                problems += compare(spec, described["partitions"], await _config(admin, spec.name))
            else:
                problems += absent(spec, brokers)
    return problems


def absent(spec: TopicSpec, brokers: int) -> list[Problem]:
    """Return the problems of a missing topic, on a cluster of so many brokers."""
    problems = [Problem(spec.name, "does not exist", "run `sessionwatch topics create`")]
    if spec.replication > brokers:
        what = f"is to have {spec.replication} replicas, but there are {brokers} brokers"
        problems.append(Problem(spec.name, what, "lower topics.replication, or add brokers"))
    return problems


def compare(
    spec: TopicSpec, partitions: Sequence[Mapping[str, Any]], config: Mapping[str, str | None]
) -> list[Problem]:
    """Return the problems of a topic.

    Args:
        spec: its required configuration.
        partitions: its partitions as Kafka's metadata describes them.
        config: its settings, as far as the broker reports them.
    """
    found = [_count(spec, len(partitions)), _replication(spec, partitions), _leaders(spec, partitions)]
    found += [_setting(spec, name, config.get(name)) for name in spec.config]
    return [problem for problem in found if problem]


def _count(spec: TopicSpec, count: int) -> Problem | None:
    if count == spec.partitions:
        return None
    advice = "state is kept by partition: set topics.partitions to that, or start a new group with new topics"
    return Problem(spec.name, f"has {count} partitions, not {spec.partitions}", advice)


def _replication(spec: TopicSpec, partitions: Sequence[Mapping[str, Any]]) -> Problem | None:
    fewest = min((len(partition["replicas"]) for partition in partitions), default=spec.replication)
    if fewest >= spec.replication:
        return None
    advice = "kafka-reassign-partitions, or set topics.replication to what the topic has"
    return Problem(spec.name, f"has {fewest} replicas, not {spec.replication}", advice)


def _leaders(spec: TopicSpec, partitions: Sequence[Mapping[str, Any]]) -> Problem | None:
    without = sorted(partition["partition"] for partition in partitions if partition["leader"] < 0)
    if not without:
        return None
    numbers = ", ".join(map(str, without))
    return Problem(spec.name, f"has no leader for partitions {numbers}", "start the brokers that hold them")


def _setting(spec: TopicSpec, name: str, actual: str | None) -> Problem | None:
    wanted = spec.config[name]
    if actual is None or actual == wanted or (name == "max.message.bytes" and int(actual) >= int(wanted)):
        return None
    advice = f"kafka-configs --alter --entity-type topics --entity-name {spec.name} --add-config {name}={wanted}"
    return Problem(spec.name, f"{name} is {actual}, not {wanted}", advice)


async def _config(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str | None]:
    try:
        responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    except KafkaError:
        return {}
    return {entry[0]: entry[1] for response in responses for *_, entries in response.resources for entry in entries}


@asynccontextmanager
async def _admin(options: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(**options)
    try:
        async with explained(options):
            await client.start()
        yield client
    finally:
        await client.close()
