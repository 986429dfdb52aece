"""The erasure of a user from the state the workers keep."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from worker.pipeline import user_key
from worker.stream.publisher import partition_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.stream.topics import TopicSettings

POLL_SECONDS = 0.2


async def forget(
    options: Mapping[str, Any], topics: TopicSettings, group_id: str, tenant_id: str, user_id: str, patience: float
) -> bool:
    """Have the workers erase a user; tell whether they have, rows under way before it being durable by then.

    Args:
        options: aiokafka connection options.
        topics: names and partitions.
        group_id: of the workers.
        tenant_id: whose user.
        user_id: whom.
        patience: seconds to wait for the workers; they do it in any case, when they get there.

    Raises:
        KafkaError: Kafka is not reached.
    """
    key = user_key(tenant_id, user_id)
    partition = partition_of(key, topics.partitions)
    async with AIOKafkaProducer(**options, acks="all") as producer:
        sent = await producer.send_and_wait(topics.by_user, None, key, partition)
    tp = TopicPartition(topics.by_user, partition)
    async with AIOKafkaConsumer(**options, group_id=group_id, enable_auto_commit=False) as consumer:
        consumer.assign([tp])
        try:
            async with asyncio.timeout(patience):
                while (await consumer.committed(tp) or 0) <= sent.offset:  # noqa: ASYNC110  others commit
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            return False
    return True
