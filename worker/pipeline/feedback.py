"""Feedback on findings becomes rows and counts. No state is kept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from schemas.decoding import Rejected, RejectReason, rejection
from schemas.feedback import Feedback
from worker.detections.registry import detections
from worker.pipeline.ports import BatchResult, dead_letter
from worker.pipeline.rows import feedback_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.pipeline.ports import Record


def process_feedback(records: Sequence[Record], dlq: str, max_bytes: int) -> BatchResult:
    """Turn the feedback records of one partition into rows; unusable ones go to the dead letters.

    Args:
        records: of the feedback topic.
        dlq: topic of dead letters.
        max_bytes: longer ones are rejected without being parsed.
    """
    result, known, rows = BatchResult(record_time=records[0].timestamp), detections(), []
    for record in records:
        if record.value is None:
            result.counters["ignored", "tombstone"] += 1
            continue
        feedback = _read(record.value, max_bytes)
        if isinstance(feedback, Rejected):
            result.counters["rejected", feedback.reason] += 1
            result.messages.append(dead_letter(dlq, record, feedback.reason, feedback.message, feedback.field))
            continue
        # Only ids of the catalogue become labels, so that the number of label values is bounded.
        named = feedback.detection if feedback.detection in known else "unnamed"
        result.counters["feedback", named, feedback.verdict] += 1
        rows.append(feedback_row(feedback, (record.topic, record.partition, record.offset), record.timestamp))
    if rows:
        result.rows["feedback"] = rows
    return result


def _read(value: bytes, max_bytes: int) -> Feedback | Rejected:
    if len(value) > max_bytes:
        return Rejected(RejectReason.TOO_LARGE, "", f"longer than {max_bytes} bytes")
    try:
        return Feedback.model_validate_json(value)
    except ValidationError as error:
        return rejection(error, "")
