"""`topics`: create the topics, and compare them with their required configuration."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from worker.stream import topics
from worker.stream.connection import aiokafka_options

if TYPE_CHECKING:
    from worker.settings import Settings
    from worker.stream.topics import Problem, TopicSpec


def required_topics(settings: Settings) -> list[TopicSpec]:
    """Return every topic that the settings name, with its required configuration."""
    return topics.specs(settings.topics, settings.stream.group_id)


async def create_topics(settings: Settings) -> list[str]:
    """Create the missing topics; return the names of the new ones.

    Raises:
        KafkaError: Kafka cannot be reached, or refuses a topic.
    """
    return await topics.create(aiokafka_options(settings.kafka), required_topics(settings))


def create(settings: Settings) -> list[str]:
    """Create the missing topics; return the names of the new ones.

    Raises:
        KafkaError: Kafka cannot be reached, or refuses a topic.
    """
    return asyncio.run(create_topics(settings))


def check(settings: Settings, timeout: float | None = None) -> list[Problem]:
    """Return how the topics differ from their required configuration.

    Args:
        settings: where Kafka is, and the topics.
        timeout: seconds; None: no limit.

    Raises:
        KafkaError: Kafka cannot be reached.
        TimeoutError: Kafka did not answer in time.
    """
    comparing = topics.check(aiokafka_options(settings.kafka), required_topics(settings))
    return asyncio.run(asyncio.wait_for(comparing, timeout))
