"""Findings on their way out: rows, messages and counts, the same for both stages of the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from schemas.finding import Activity, Finding, Severity, Status
from worker.detections.catalogue import detection
from worker.outcome import Message
from worker.rows import finding_row
from worker.sessions.budget import Budget, decode_budget, encode_budget

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.outcome import Outcome, Shard
    from worker.sessions.state import Context
    from worker.sessions.user import Change
    from worker.sessions.view import Judge

    Origin = tuple[str, int, int]


OVER_BUDGET = "alert-budget"
"""The suppressor of a finding that would be an alert, were there not enough of them that day."""


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
        judge: of a tenant, for what runs in shadow and how many alerts are allowed.
        shard: where alerts are counted of tenants that have a budget for them.
    """

    def __init__(self, outcome: Outcome, topic: str, judge: Callable[[str], Judge], shard: Shard) -> None:
        self._outcome = outcome
        self._shard = shard
        self._budgets: dict[str, Budget] = {}
        self._topic = topic
        self._judge = judge
        self._rows: dict[str, bytes] = {}

    def rows(self) -> list[bytes]:
        """Return the rows, the last word of each finding."""
        return list(self._rows.values())

    def settle(self) -> None:
        """Put what was counted into the shard and the outcome."""
        for tenant_id, budget in self._budgets.items():
            key, state = _budget_key(tenant_id), encode_budget(budget)
            self._shard.put(key, state)
            self._outcome.states[key] = state

    def see(self, tenant_id: str, user: bytes, time: int) -> None:
        """Take in that a user of a tenant with an alert budget was active."""
        self._budget(tenant_id).see(user, time)

    def _budget(self, tenant_id: str) -> Budget:
        budget = self._budgets.get(tenant_id)
        if budget is None:
            state = self._shard.get(_budget_key(tenant_id))
            budget = self._budgets[tenant_id] = Budget() if state is None else decode_budget(state)
        return budget

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
        finding = self._finding(change, named, cause)
        self._outcome.findings.append(finding)
        self._rows[finding.uid] = finding_row(finding, after, before)
        if change.activity is not Activity.UPDATE or change.is_news or group.count.bit_count() == 1:
            # Mere repeats are published at every doubling, so that a noisy session does not become a noisy topic.
            self._outcome.messages.append(Message(self._topic, key, finding.message()))
        if change.activity is Activity.CREATE:
            self._outcome.counters["finding", group.detection, Severity(group.severity).name.lower()] += 1

    def _finding(self, change: Change, named: Named, cause: tuple[Origin, int]) -> Finding:
        judge, group = self._judge(named.tenant_id), change.group
        finding = _finding(change, named, *cause, shadow=judge.is_shadow(group.detection))
        allowed = judge.policy.alert_budget
        if allowed is None or not finding.is_alert() or detection(group.detection).invariant:
            return finding
        if self._budget(named.tenant_id).admit(finding.uid, group.bucket, allowed):
            return finding
        self._outcome.counters["over-budget", group.detection] += change.activity is Activity.CREATE
        return msgspec.structs.replace(finding, status=Status.SUPPRESSED, suppressed_by=(OVER_BUDGET,))


def _budget_key(tenant_id: str) -> bytes:
    # It begins with a slash, as no user's does: tenants have names.
    return b"/budget/" + tenant_id.encode()


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
