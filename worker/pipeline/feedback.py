"""Turns feedback on findings into rows and counts, without state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from schemas.decoding import Rejected, RejectReason, rejection
from schemas.feedback import Feedback
from schemas.keys import user_key
from worker.detections.registry import detections
from worker.pipeline.incidents import FEEDBACK_PREFIX
from worker.pipeline.ports import BatchResult, Message, dead_letter
from worker.pipeline.rows import feedback_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.pipeline.ports import Record


class FeedbackTopics(Protocol):
    """The names of the topics that feedback is written to."""

    starts: str
    dlq: str


def process_feedback(
    records: Sequence[Record], topics: FeedbackTopics, partition_of: Callable[[bytes], int], max_bytes: int
) -> BatchResult:
    """Turn the feedback records of one partition into rows; unusable ones go to the dead letters.

    Feedback that names its tenant, and its user or the key of an incident, is forwarded to the partition that keeps the
    incident.

    Args:
        records: records of the feedback topic.
        topics: the topics of dead letters and of forwarded feedback.
        partition_of: returns the partition of a key.
        max_bytes: longer records are rejected without being parsed.
    """
    result, known, rows = BatchResult(record_time=records[0].timestamp), detections(), []
    for record in records:
        if record.value is None:
            result.counters["ignored", "tombstone"] += 1
            continue
        feedback = _read(record.value, max_bytes)
        if isinstance(feedback, Rejected):
            result.counters["rejected", feedback.reason] += 1
            result.messages.append(dead_letter(topics.dlq, record, feedback.reason, feedback.message, feedback.field))
            continue
        # Only ids of the catalogue become label values, so that their number is bounded.
        named = feedback.detection if feedback.detection in known else "unnamed"
        result.counters["feedback", named, feedback.verdict] += len(feedback.findings)
        if feedback.tenant_id and (feedback.user_id or feedback.incident_key):
            result.messages.append(_forwarded(feedback, record, topics.starts, partition_of))
        origin = (record.topic, record.partition, record.offset)
        rows += [feedback_row(feedback, uid, origin, record.timestamp) for uid in feedback.findings]
    if rows:
        result.rows["feedback"] = rows
    return result


def _forwarded(feedback: Feedback, record: Record, topic: str, partition_of: Callable[[bytes], int]) -> Message:
    named = feedback.user_id
    key = user_key(feedback.tenant_id, named) if named else feedback.incident_key.encode("utf-8", "replace")
    return Message(topic, FEEDBACK_PREFIX + key, record.value, partition=partition_of(key), timestamp=record.timestamp)


def _read(value: bytes, max_bytes: int) -> Feedback | Rejected:
    if len(value) > max_bytes:
        return Rejected(RejectReason.TOO_LARGE, "", f"longer than {max_bytes} bytes")
    try:
        return Feedback.model_validate_json(value)
    except ValidationError as error:
        return rejection(error, "")
