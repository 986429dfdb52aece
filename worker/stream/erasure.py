"""Erases a user from the state of the workers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.keys import user_key
from worker.pipeline.privacy import home_partitions
from worker.stream.connection import explained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.settings import TopicSettings

POLL_SECONDS = 0.2


async def forget(
    options: Mapping[str, Any],
    topics: TopicSettings,
    group_id: str,
    tenant_id: str,
    names: Sequence[str],
    patience: float,
) -> bool:
    """Ask the workers to erase a user; return whether they have. Rows that were in flight before it are durable then.

    Args:
        options: aiokafka connection options.
        topics: names and partitions.
        group_id: consumer group of the workers.
        tenant_id: the user's tenant.
        names: all ids under which the user may be kept; the last is the one that producers use, if it is known.
        patience: seconds to wait for the workers; they erase the user when they read the request, however late.

    Raises:
        KafkaError: Kafka cannot be reached.
    """
    sent: dict[TopicPartition, int] = {}
    async with explained(options), AIOKafkaProducer(**options, acks="all") as producer:
        # Events are in the partition of the user id that producers use, findings in that of the id in use.
        homes = {each for name in names for each in home_partitions(tenant_id, name, topics.partitions)}
        for partition in sorted(homes):
            for name in names:
                done = await producer.send_and_wait(topics.by_user, None, user_key(tenant_id, name), partition)
                sent[TopicPartition(topics.by_user, partition)] = done.offset
    async with AIOKafkaConsumer(**options, group_id=group_id, enable_auto_commit=False) as consumer:
        consumer.assign(list(sent))
        try:
            async with asyncio.timeout(patience):
                for tp, offset in sent.items():
                    while (await consumer.committed(tp) or 0) <= offset:  # noqa: ASYNC110  others commit
                        await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            return False
    return True
