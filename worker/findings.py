"""Findings on their way out: rows, messages and counts, the same for both stages of the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schemas.finding import Activity, Finding, Severity, Status
from worker.detections.catalogue import detection
from worker.outcome import Message
from worker.rows import finding_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.outcome import Outcome
    from worker.sessions.state import Context
    from worker.sessions.user import Change
    from worker.sessions.view import Judge

    Origin = tuple[str, int, int]


class Named(NamedTuple):
    """Whom a finding names, and how many records were applied to the state it comes from."""

    tenant_id: str
    user_id: str
    revision: int


class Told:
    """Takes in findings of one batch.

    Args:
        outcome: what they are added to.
        topic: where they are published.
        judge: of a tenant, for what runs in shadow.
    """

    def __init__(self, outcome: Outcome, topic: str, judge: Callable[[str], Judge]) -> None:
        self._outcome = outcome
        self._topic = topic
        self._judge = judge
        self._rows: dict[str, bytes] = {}

    def rows(self) -> list[bytes]:
        """Return the rows, the last word of each finding."""
        return list(self._rows.values())

    def add(
        self,
        change: Change,
        named: Named,
        key: bytes,
        cause: tuple[Origin, int],
        after: Context | None = None,
        before: Context | None = None,
    ) -> None:
        """Take in a finding that came, grew or went.

        Args:
            change: what happened to it.
            named: whom it names.
            key: of its message.
            cause: the record that brought it about: topic, partition and offset, and its timestamp.
            after: what was seen.
            before: what it is held against.
        """
        group = change.group
        finding = _finding(change, named, *cause, shadow=self._judge(named.tenant_id).is_shadow(group.detection))
        self._outcome.findings.append(finding)
        self._rows[finding.uid] = finding_row(finding, after, before)
        if change.activity is not Activity.UPDATE or group.count.bit_count() == 1:
            # Repeats are told at every doubling, so that a noisy session does not become a noisy topic.
            self._outcome.messages.append(Message(self._topic, key, finding.message()))
        if change.activity is Activity.CREATE:
            self._outcome.counters["finding", group.detection, Severity(group.severity).name.lower()] += 1


def _finding(change: Change, named: Named, origin: Origin, detected_at: int, *, shadow: bool) -> Finding:
    group, about = change.group, detection(change.group.detection)
    return Finding(
        uid=change.uid,
        activity=change.activity,
        status=_status(change),
        detection=about.id,
        title=about.title,
        description=about.description,
        severity=Severity(group.severity),
        risk_score=group.score,
        attacks=about.attacks,
        runbook=about.runbook,
        tenant_id=named.tenant_id,
        user_id=named.user_id,
        session_uid=group.session,
        subject=group.subject,
        summary=group.summary,
        bucket_time=group.bucket,
        event_time=group.first,
        last_event_time=group.last,
        detected_at=detected_at,
        count=group.count,
        revision=named.revision,
        suppressed_by=group.suppressed_by,
        shadow=shadow,
        evidence=group.evidence,
        source=origin,
    )


def _status(change: Change) -> Status:
    if change.activity is Activity.CLOSE:
        return Status.CLOSED
    if change.group.suppressed_by:
        return Status.SUPPRESSED
    return Status.NEW if change.activity is Activity.CREATE else Status.UPDATED
