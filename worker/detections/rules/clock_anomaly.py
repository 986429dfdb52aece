"""`clock-anomaly`: the times of a session contradict each other or the record's timestamp."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import duration_name


class ClockAnomaly(Parameters):
    """`clock-anomaly` has no parameters; the skew is a setting of the state."""


def detect(view: View, _parameters: ClockAnomaly) -> Signal | None:
    """Flag a time ahead of the record's timestamp, or a last use before the creation, by more than the skew."""
    ahead = view.observation.future_by
    if ahead:
        return _signal(view, "future", f"a time of the session lies {duration_name(ahead)} ahead", {"ahead_ms": ahead})
    early = view.context.created_at - view.activity
    if not view.activity or early <= view.limits.clock_skew:
        return None
    summary = f"session was used {duration_name(early)} before it was created"
    return _signal(view, "before-creation", summary, {"before_creation_ms": early})


def _signal(view: View, subject: str, summary: str, observed: dict[str, int]) -> Signal:
    return Signal(subject=subject, summary=summary, observed=observed, expected={"skew_ms": view.limits.clock_skew})


DETECTION = Detection(
    id="clock-anomaly",
    title="Impossible times in a session",
    description=(
        "A session was last used before it was created, or one of its times is ahead of its record's timestamp. "
        "Either a clock is wrong, which makes every check that depends on time less reliable, or records are forged. "
        "A time ahead of the record's timestamp is replaced by that timestamp, so it cannot move event time forward."
    ),
    severity=Severity.LOW,
    score=21,
    scope=Scope.SESSION,
    attacks=(Attack("T1565.001", "Data Manipulation: Stored Data Manipulation"),),
    false_positives=("A host with a drifting clock.", "A producer that writes local time without a zone."),
    runbook=(
        "Group the findings of the last 24 hours by producer; many sessions of one producer mean a wrong clock.",
        "For a single session, compare created_at and last_used_at with the identity provider's own log.",
    ),
    sources=("Project definition; skew of 60 s as in RFC 7519 section 4.1.4's 'small leeway'.",),
    triggers=Trigger.CLOCK,
    parameters=ClockAnomaly(),
    detect=detect,
    casts_doubt=False,
)
