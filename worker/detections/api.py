"""Interface of detections and plug-ins. A detection is metadata, typed parameters and one pure function.

A built-in detection is one file in `worker/detections/rules`, named like its id, that ends in
`DETECTION = Detection(...)`. Packages add detections through the entry-point group `sessionwatch.detections`; each
entry names such an object.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict

from schemas.finding import Attack, Severity
from worker.sessions.contracts import Trigger, View
from worker.sessions.state import Context

__all__ = ["Attack", "Detection", "Parameters", "Scope", "Severity", "Signal", "Trigger", "View"]


class Parameters(BaseModel):
    """Base class of a detection's parameters. They have types and defaults, and a tenant's policy can override them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Scope(StrEnum):
    """What a finding is about. Repeats are grouped by it."""

    SESSION = "session"
    USER = "user"


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """What a detection found in one event.

    Attributes:
        severity: overrides the detection's own.
        summary: one line with what was observed and what was expected, without the user's name.
        subject: what in the session or user it is about. Repeats with the same subject are one finding.
        observed, expected: the evidence, JSON values.
        before: the context that the event is compared with.
        suppressed_by: reasons to suppress the finding: it is stored and does not alert.
        once: value for which the finding is raised once per user; repeats are stored, suppressed by `told-before`.
            Empty: every occurrence is raised.
        renewed: raise it again even if it was raised within the quarantine.
    """

    summary: str
    severity: Severity | None = None
    subject: str = ""
    observed: dict[str, Any] = msgspec.field(default_factory=dict)
    expected: dict[str, Any] = msgspec.field(default_factory=dict)
    before: Context | None = None
    suppressed_by: tuple[str, ...] = ()
    once: str = ""
    renewed: bool = False


P = TypeVar("P", bound=Parameters)


class Detection(msgspec.Struct, Generic[P], frozen=True, kw_only=True):
    """A detection.

    Attributes:
        id: kebab-case, equal to the file's name with `-` for `_`.
        description: one paragraph: what it flags and why it matters.
        severity: severity of findings whose signal has none.
        score: base risk score, 0–100.
        attacks: MITRE ATT&CK techniques.
        false_positives: known benign causes.
        runbook: two or three steps for the analyst on call.
        sources: where the logic and the thresholds come from.
        triggers: the events that it is evaluated for.
        needs: parts of an event that it requires: `network`, `place`, `device`, `amr`. If one is unknown, the event is
            counted as not evaluated.
        sums_up: whether it is evaluated last, when `view.verdicts` holds the verdicts of the others on the event.
        invariant: whether its findings are raised on any network: allow lists do not suppress them.
        casts_doubt: whether it casts doubt on who holds the session. Such findings of medium severity and above keep
            the session's observations out of the user's baseline for the quarantine, and count for `session-at-risk`.
            A finding about something merely new to the user, or against a policy, casts no doubt.
        covers: detections whose findings on the same event add nothing to this one. If this finding has medium severity
            or above, and not less than theirs, they are stored and do not alert.
        tenant_wide: whether many users of a tenant may do it at once, for example because an administrator changes a
            setting. The correlation stage writes its findings. When enough users have findings with the same subject,
            it suppresses them (`tenant-wide-change`). The subject must say exactly what was done.
        parameters: default parameters.
        detect: pure function of a view (its type depends on the triggers) and the parameters in force. It returns None
            when there is no finding.
    """

    id: str
    title: str
    description: str
    severity: Severity
    score: int
    scope: Scope
    attacks: tuple[Attack, ...]
    false_positives: tuple[str, ...]
    runbook: tuple[str, ...]
    sources: tuple[str, ...]
    triggers: Trigger
    parameters: P
    detect: Callable[[Any, P], Signal | None]
    needs: tuple[str, ...] = ()
    sums_up: bool = False
    invariant: bool = False
    casts_doubt: bool = True
    covers: tuple[str, ...] = ()
    tenant_wide: bool = False
