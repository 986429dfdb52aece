"""Publishes one record, for commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer

from worker.stream.connection import aiokafka_options, explained

if TYPE_CHECKING:
    from worker.settings import KafkaSettings


async def produce(kafka: KafkaSettings, topic: str, key: str, value: bytes | None) -> None:
    """Publish a record, or a tombstone when `value` is None; return when it is durable."""
    options = aiokafka_options(kafka)
    async with explained(options), AIOKafkaProducer(**options, acks="all") as producer:
        await producer.send_and_wait(topic, value, key.encode())
