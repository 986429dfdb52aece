"""`dlq`: read dead letters, and replay them once the cause is fixed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from worker.apps.build import build_decoder, source_decoders
from worker.apps.errors import CheckFailedError
from worker.stream import deadletters
from worker.stream.connection import aiokafka_options

if TYPE_CHECKING:
    from collections.abc import Collection

    from worker.settings import Settings
    from worker.stream.deadletters import DeadLetter, DeadLetterReplay


def dead_letters(settings: Settings, reason: str = "") -> list[DeadLetter]:
    """Return the dead letters with a reason, or all of them, in order of their timestamps.

    Raises:
        KafkaError: Kafka cannot be reached.
    """
    return sorted(asyncio.run(_read(settings, reason)), key=lambda letter: letter.time)


async def _read(settings: Settings, reason: str) -> list[DeadLetter]:
    found = deadletters.letters(aiokafka_options(settings.kafka), settings.topics.dlq)
    return [letter async for letter in found if not reason or letter.reason == reason]


def find(settings: Settings, uid: str) -> DeadLetter:
    """Return the dead letter with an id, `PARTITION:OFFSET`.

    Raises:
        CheckFailedError: there is no such dead letter.
        KafkaError: Kafka cannot be reached.
    """
    for letter in dead_letters(settings):
        if letter.uid == uid:
            return letter
    raise CheckFailedError(f"there is no dead letter {uid}; `sessionwatch dlq list` shows the ids")


def replay(settings: Settings, uids: Collection[str], reason: str = "") -> DeadLetterReplay:
    """Publish dead letters again as events; those that still cannot be used stay on the topic.

    Args:
        settings: where Kafka is, and how records are decoded.
        uids: ids of dead letters; none: all of them.
        reason: only dead letters with this reason, unless empty.

    Raises:
        KafkaError: Kafka cannot be reached.
    """
    chosen = [letter for letter in dead_letters(settings, reason) if not uids or letter.uid in uids]
    options, decoders = aiokafka_options(settings.kafka), (build_decoder(settings), source_decoders(settings))
    return asyncio.run(deadletters.replay(options, settings.topics, chosen, *decoders))
