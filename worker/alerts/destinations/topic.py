"""A Kafka topic that gets the OCSF documents unchanged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from worker.alerts.alert import Digest  # noqa: TC001  the port's signature
from worker.alerts.destinations.base import NOTHING
from worker.alerts.outcome import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.alerts.alert import Alert
    from worker.alerts.config import KafkaTopic


class TopicSender:
    """Publishes incidents with their id as key.

    Args:
        config: settings of the destination.
        options: connection options of aiokafka.
    """

    def __init__(self, config: KafkaTopic, options: Mapping[str, Any]) -> None:
        self._config = config
        self._options = options
        self._producer: AIOKafkaProducer | None = None

    async def send(self, alert: Alert) -> Result:
        """Publish one document and wait until the broker has acknowledged it."""
        key, headers = alert.incident.uid.encode(), [("id", alert.id.encode())]
        try:
            async with asyncio.timeout(self._config.timeout_s):
                producer = await self._started()
                await producer.send_and_wait(self._config.topic, alert.document, key, headers=headers)
        except MessageSizeTooLargeError:
            return Result(Outcome.REFUSED, error="the document is larger than the broker takes")
        except (KafkaError, TimeoutError, OSError) as error:
            return Result(Outcome.UNAVAILABLE, error=f"not published: {type(error).__name__}")
        return Result(Outcome.DELIVERED)

    async def send_digest(self, digest: Digest) -> Result:
        """Not called: machines get no digests."""
        del digest
        return NOTHING

    async def close(self) -> None:
        """Stop the producer."""
        if self._producer is not None:
            await self._producer.stop()

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(**self._options, acks="all", enable_idempotence=False)
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer
