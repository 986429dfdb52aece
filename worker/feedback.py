"""What people made of findings: verdicts to rows and counts. No state is kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from schemas.feedback import Feedback
from schemas.inbound import Rejected, RejectReason, rejection
from schemas.keys import user_key
from worker.detections.catalogue import detections
from worker.incidents import VERDICT
from worker.outcome import Message, Outcome, dead_letter
from worker.rows import feedback_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from worker.outcome import Record

    class Topics(Protocol):
        """The names of the topics verdicts go to."""

        starts: str
        dlq: str


def take_feedback(
    records: Sequence[Record], topics: Topics, partition_of: Callable[[bytes], int], max_bytes: int
) -> Outcome:
    """Take in verdicts of one partition; those that cannot be used go to the dead letters.

    A verdict that names tenant and user is forwarded to where the user's incidents are kept.

    Args:
        records: of the feedback topic.
        topics: of dead letters, and of what the worker tells itself.
        partition_of: the partition a key hashes to.
        max_bytes: longer ones are rejected unread.
    """
    outcome, known, rows = Outcome(record_time=records[0].timestamp), detections(), []
    for record in records:
        if record.value is None:
            outcome.counters["ignored", "tombstone"] += 1
            continue
        feedback = _read(record.value, max_bytes)
        if isinstance(feedback, Rejected):
            outcome.counters["rejected", feedback.reason] += 1
            outcome.messages.append(dead_letter(topics.dlq, record, feedback.reason, feedback.message, feedback.field))
            continue
        # Only names of the catalogue become labels: others would make as many as anybody likes.
        named = feedback.detection if feedback.detection in known else "unnamed"
        outcome.counters["feedback", named, feedback.verdict] += 1
        if feedback.tenant_id and feedback.user_id:
            outcome.messages.append(_forwarded(feedback, record, topics.starts, partition_of))
        rows.append(feedback_row(feedback, (record.topic, record.partition, record.offset), record.timestamp))
    if rows:
        outcome.rows["feedback"] = rows
    return outcome


def _forwarded(feedback: Feedback, record: Record, topic: str, partition_of: Callable[[bytes], int]) -> Message:
    key = user_key(feedback.tenant_id, feedback.user_id)
    return Message(topic, VERDICT + key, record.value, partition=partition_of(key), timestamp=record.timestamp)


def _read(value: bytes, max_bytes: int) -> Feedback | Rejected:
    if len(value) > max_bytes:
        return Rejected(RejectReason.TOO_LARGE, "", f"longer than {max_bytes} bytes")
    try:
        return Feedback.model_validate_json(value)
    except ValidationError as error:
        return rejection(error, "")
