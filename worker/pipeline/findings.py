"""Turns findings into rows, messages and counts, for both stages of the pipeline that find something."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from schemas.finding import Activity, Finding, Severity, Status
from worker.detections.registry import detection
from worker.pipeline.ports import Message
from worker.pipeline.rows import finding_row
from worker.sessions.budget import AlertRequest, Budget, decode_budget, encode_budget

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.pipeline.ports import BatchResult, Origin, Shard
    from worker.sessions.contracts import RuleEngine
    from worker.sessions.reorder import FindingChange
    from worker.sessions.state import Context


OVER_BUDGET = "alert-budget"
"""The suppressor of a finding that is not an alert only because its tenant's alert budget of the day is used up."""


class Cause(NamedTuple):
    """The record that caused a finding.

    Attributes:
        origin: topic, partition and offset of the original record.
        record_time: its timestamp, milliseconds.
        revision: the number of records applied to the state that the finding comes from.
    """

    origin: Origin
    record_time: int
    revision: int


class FindingCollector:
    """Collects the findings of one batch.

    Args:
        result: receives messages, counters and findings.
        topic: the topic of findings.
        engine_for: returns a tenant's rule engine, with its shadow detections and alert budget.
        shard: stores the alert counts of tenants that have a budget.
        quiet: alerts of one user this close to each other cost a budget once, milliseconds.
    """

    def __init__(
        self, result: BatchResult, topic: str, engine_for: Callable[[str], RuleEngine], shard: Shard, quiet: int
    ) -> None:
        self._result = result
        self._shard = shard
        self._quiet = quiet
        self._budgets: dict[str, Budget] = {}
        self._topic = topic
        self._engine_for = engine_for
        self._rows: dict[str, bytes] = {}

    def rows(self) -> list[bytes]:
        """Return one row for each finding: its last state."""
        return list(self._rows.values())

    def settle(self) -> None:
        """Write the alert counts to the shard and the result."""
        for tenant_id, budget in self._budgets.items():
            key, state = _budget_key(tenant_id), encode_budget(budget)
            self._shard.put(key, state)
            self._result.states[key] = state

    def count_user(self, tenant_id: str, user: bytes, time: int) -> None:
        """Count an active user of a tenant that has an alert budget."""
        self._budget(tenant_id).see(user, time)

    def _budget(self, tenant_id: str) -> Budget:
        budget = self._budgets.get(tenant_id)
        if budget is None:
            state = self._shard.get(_budget_key(tenant_id))
            budget = self._budgets[tenant_id] = Budget() if state is None else decode_budget(state)
        return budget

    def add(
        self,
        change: FindingChange,
        key: bytes,
        cause: Cause,
        after: Context | None = None,
        before: Context | None = None,
    ) -> None:
        """Add a finding that was created, updated or closed.

        Args:
            change: the finding and its change.
            key: the key of its message.
            cause: the record that caused it.
            after: the observed network, place, device and grant.
            before: those that they are compared with.
        """
        finding = self._finding(change, key, cause)
        self._result.findings.append(finding)
        self._rows[finding.uid] = finding_row(finding, after, before)
        if change.activity is not Activity.UPDATE or change.is_material or finding.count.bit_count() == 1:
            # Repeats are published only when the count doubles, so that a noisy session does not flood the topic.
            self._result.messages.append(Message(self._topic, key, finding.message()))
        if change.activity is Activity.CREATE:
            self._result.counters["finding", finding.detection, finding.severity.name.lower()] += 1

    def _finding(self, change: FindingChange, key: bytes, cause: Cause) -> Finding:
        engine = self._engine_for(change.tenant_id)
        finding = _finding(change, cause, shadow=engine.is_shadow(change.finding.detection))
        allowed = engine.policy.alert_budget
        if allowed is None or not finding.is_alert():
            return finding
        user = key if change.user_id else b""
        is_high = finding.severity >= Severity.HIGH
        alert = AlertRequest(finding.uid, user, finding.bucket_time, is_high, _is_exempt(finding))
        if self._budget(change.tenant_id).admit(alert, allowed, self._quiet):
            return finding
        self._result.counters["over-budget", finding.detection] += change.activity is Activity.CREATE
        return msgspec.structs.replace(finding, status=Status.SUPPRESSED, suppressed_by=(OVER_BUDGET,))


def _is_exempt(finding: Finding) -> bool:
    """Return whether a finding is exempt from the alert budget: a hard invariant, or critical."""
    return finding.severity >= Severity.CRITICAL or detection(finding.detection).invariant


def _budget_key(tenant_id: str) -> bytes:
    # Keys of users never begin with a slash, because tenants have names.
    return b"/budget/" + tenant_id.encode()


def _finding(change: FindingChange, cause: Cause, *, shadow: bool) -> Finding:
    found, about = change.finding, detection(change.finding.detection)
    return Finding(
        uid=change.uid,
        activity=change.activity,
        status=_status(change),
        detection=about.id,
        title=about.title,
        description=about.description,
        severity=Severity(found.severity),
        risk_score=found.score,
        attacks=about.attacks,
        runbook=about.runbook,
        tenant_id=change.tenant_id,
        user_id=change.user_id,
        session_uid=found.session,
        subject=found.subject,
        summary=found.summary,
        bucket_time=found.bucket,
        event_time=found.first,
        last_event_time=found.last,
        detected_at=cause.record_time,
        count=found.count,
        revision=cause.revision,
        suppressed_by=found.suppressed_by,
        shadow=shadow,
        evidence=found.evidence,
        source=cause.origin,
    )


def _status(change: FindingChange) -> Status:
    if change.activity is Activity.CLOSE:
        return Status.CLOSED
    if change.finding.suppressed_by:
        return Status.SUPPRESSED
    return Status.NEW if change.activity is Activity.CREATE else Status.UPDATED
