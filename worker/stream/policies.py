"""Tenant policies: a compacted topic that every worker reads from the beginning, for as long as it runs.

It has its own consumer without a group instead of a Faust `GlobalTable`, because a global table takes part in each
rebalance and in recovery, and would have to be recovered through the batch transport, for a topic of a few records.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from mode import get_logger

from worker.stream.connection import aiokafka_options, explained

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from worker.settings import KafkaSettings

log = get_logger(__name__)

RETRY_SECONDS = 1.0


class PolicyReader:
    """Reads the policy topic.

    Args:
        options: aiokafka connection options.
        topic: the topic; key = tenant id (UTF-8), value = the policy, None when it was deleted.
        on_policy: called with tenant and value, in order for each tenant.
        patient: wait without limit for brokers that do not answer, and for the topic.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        topic: str,
        on_policy: Callable[[str, bytes | None], None],
        *,
        patient: bool = True,
    ) -> None:
        self._patient = patient
        self._options = {**options, "auto_offset_reset": "earliest", "group_id": None, "enable_auto_commit": False}
        self._topic = topic
        self._on_policy = on_policy
        self._current = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._problem = ""

    @property
    def problem(self) -> str:
        """Why policies may be out of date; empty while the topic is being read."""
        if self._task is not None and self._task.done():
            return "the reader of tenant policies has stopped"
        return self._problem

    async def start(self) -> None:
        """Return when everything in the topic at this moment has been read; keep reading after that.

        Raises:
            KafkaError: Kafka does not answer, and the reader is not patient.
        """
        self._task = asyncio.create_task(self._read_forever())
        current = asyncio.create_task(self._current.wait())
        await asyncio.wait([current, self._task], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            current.cancel()
            await self._task

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read_forever(self) -> None:
        while True:
            error = await _error_of(self._read_once())
            if error is not None:
                if not self._patient:
                    raise error
                if not self._problem:
                    log.warning("Tenant policies cannot be read, the reader starts again: %r", error)
                reason = str(error) or type(error).__name__
                self._problem = f"tenant policies cannot be read from topic {self._topic}: {reason}"
            await asyncio.sleep(RETRY_SECONDS)

    async def _read_once(self) -> None:
        consumer = AIOKafkaConsumer(**self._options)
        try:
            await consumer.start()
            await self._read(consumer)
        finally:
            # Without an assignment `stop` raises `CancelledError` instead of the actual error.
            await _error_of(consumer.stop())

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        tps = await self._partitions(consumer)
        if not tps:
            self._current.set()
            return
        # Asked before anything is fetched: a fetch that waits for records holds up all that is asked after it.
        begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        is_current = begins == ends
        if is_current:
            self._now_current()
        consumer.assign(tps)
        while True:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    self._apply(record.key, record.value)
            if not is_current and await _reached(consumer, ends):
                is_current = True
                self._now_current()

    def _now_current(self) -> None:
        self._problem = ""
        self._current.set()

    async def _partitions(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        consumer.subscribe([self._topic])
        await consumer._client.force_metadata_update()  # noqa: SLF001  what was just subscribed to is not known yet
        while not (found := consumer.partitions_for_topic(self._topic)) and self._patient:  # noqa: ASYNC110  see above
            await asyncio.sleep(RETRY_SECONDS / 10)
        consumer.unsubscribe()
        return [TopicPartition(self._topic, partition) for partition in sorted(found or ())]

    def _apply(self, key: bytes | None, value: bytes | None) -> None:
        """Pass on one record. An error of its document must not stop the reading of the others."""
        try:
            self._on_policy((key or b"").decode(), value)
        except Exception as error:  # noqa: BLE001  see above
            log.warning("A policy was refused: %r", error)


async def _error_of(work: Coroutine[Any, Any, None]) -> BaseException | None:
    """Await something in a task of its own, and return what it raised; if the caller is cancelled, so is the task."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()
        await asyncio.wait([task])
    return asyncio.CancelledError("reading was cancelled") if task.cancelled() else task.exception()


async def read_all(kafka: KafkaSettings, topic: str) -> dict[str, bytes]:
    """Return the policies on the topic by tenant; none when there is no such topic.

    Raises:
        KafkaError: Kafka does not answer.
    """
    found: dict[str, bytes] = {}

    def keep(tenant: str, document: bytes | None) -> None:
        if document is None:
            found.pop(tenant, None)
        else:
            found[tenant] = document

    options = aiokafka_options(kafka)
    reader = PolicyReader(options, topic, keep, patient=False)
    async with explained(options):
        await reader.start()
    await reader.stop()
    return found


async def _reached(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    return all([await consumer.position(tp) >= end for tp, end in ends.items()])
