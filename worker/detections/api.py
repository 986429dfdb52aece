"""The form of a detection: metadata, typed parameters and one pure function.

A detection is one file in this folder, named like its id, that ends in `DETECTION = Detection(...)`. Others add
theirs through the entry-point group `sessionwatch.detections`, each entry naming such an object.
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
    """Base of a detection's parameters: typed, with defaults, overridable per tenant."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Scope(StrEnum):
    """What a finding is about, and so what repeats are grouped by."""

    SESSION = "session"
    USER = "user"


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """What a detection found in one event.

    Attributes:
        severity: overrides the detection's own.
        summary: one line, what was seen against what was expected; without the user's name.
        subject: what within the session (or user) it is about; repeats with the same subject are one finding.
        observed, expected: the evidence, JSON values.
        before: the context it is held against.
        suppressed_by: names of the reasons it is no alarm; such findings are stored, not raised.
        once: what it is raised once for, per user; repeats are stored as `told-before` while it keeps coming back.
            Empty: every occurrence is raised.
        renewed: raise it again although it was raised within the quarantine.
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
        severity: unless a signal says otherwise.
        score: base risk score, 0–100.
        attacks: MITRE ATT&CK techniques.
        false_positives: known benign causes.
        runbook: two or three steps for whoever is woken by it.
        sources: where logic and thresholds come from.
        triggers: the events it is asked about.
        needs: what of an event it cannot do without: `network`, `place`, `device`, `amr`; where that is unknown, the
            event is counted as not evaluated.
        sums_up: whether it is asked last, when `view.verdicts` holds what the others found of the event.
        invariant: whether it holds whatever the network: allow lists do not suppress its findings.
        casts_doubt: whether it casts doubt on who holds the session. Only such findings, from medium up, keep what the
            session shows out of the user's history for the quarantine, and are parts of `session-at-risk`. What is
            merely new to a user, or against a policy, casts none.
        covers: detections whose findings of the same event say no more than this one: beside it, from medium up, they
            are stored and not raised.
        tenant_wide: whether many users of a tenant may do it at once, such as when an administrator changes a setting.
            Its findings are written by the correlation stage, which suppresses those with the same subject once enough
            users have it (`tenant-wide-change`); the subject says what exactly was done.
        parameters: their defaults.
        detect: pure function of a view (its kind depends on the triggers) and the parameters in force; None when
            there is nothing to say.
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
