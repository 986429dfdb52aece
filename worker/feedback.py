"""What people made of findings: verdicts to rows and counts. No state is kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from schemas.decoding import Rejected, RejectReason, rejection
from schemas.feedback import Feedback
from worker.detections.catalogue import detections
from worker.outcome import Outcome, dead_letter
from worker.rows import feedback_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.outcome import Record


def take_feedback(records: Sequence[Record], dlq: str, max_bytes: int) -> Outcome:
    """Take in verdicts of one partition; those that cannot be used go to the dead letters.

    Args:
        records: of the feedback topic.
        dlq: topic of dead letters.
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
            outcome.messages.append(dead_letter(dlq, record, feedback.reason, feedback.message, feedback.field))
            continue
        # Only names of the catalogue become labels: others would make as many as anybody likes.
        named = feedback.detection if feedback.detection in known else "unnamed"
        outcome.counters["feedback", named, feedback.verdict] += 1
        rows.append(feedback_row(feedback, (record.topic, record.partition, record.offset), record.timestamp))
    if rows:
        outcome.rows["feedback"] = rows
    return outcome


def _read(value: bytes, max_bytes: int) -> Feedback | Rejected:
    if len(value) > max_bytes:
        return Rejected(RejectReason.TOO_LARGE, "", f"longer than {max_bytes} bytes")
    try:
        return Feedback.model_validate_json(value)
    except ValidationError as error:
        return rejection(error, "")
