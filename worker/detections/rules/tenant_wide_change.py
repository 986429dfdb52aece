"""`tenant-wide-change`: many users of a tenant did the same within hours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger

if TYPE_CHECKING:
    from worker.sessions.announcements import DeedView


class TenantWideChange(Parameters):
    """Parameters of `tenant-wide-change`."""

    users: Annotated[int, Field(ge=2, le=16)] = 5
    """Users from which on it is the tenant's doing: past their learning period or where nobody used the session, and in
    sessions nobody doubts."""
    hours: Annotated[int, Field(ge=1, le=24)] = 12
    """Within how many hours."""


def detect(view: DeedView, _parameters: TenantWideChange) -> Signal | None:
    """Sum up the hours of a day in which enough users did the same."""
    users = {name for names in view.hours.values() for name in names}
    if not users:
        return None
    return Signal(
        severity=Severity.INFORMATIONAL,
        subject=f"{view.detection} {view.subject}",
        summary=f"{len(users)} or more users of the tenant within hours, {view.detection}: {view.summary}",
        observed={"users_at_least": len(users), "detection": view.detection, "subject": view.subject},
        expected={"detection": "of single users"},
    )


DETECTION = Detection(
    id="tenant-wide-change",
    title="Change by the whole tenant",
    description=(
        "Many users of one tenant did the same within hours: an administrator lengthened the sessions, an application "
        "asks for another scope, single sign-on spread to another audience, or an application signs in with one "
        "program and goes on with another. One informational finding a day stands for all of theirs, which are kept "
        "as suppressed by `tenant-wide`, and so are later ones of the same subject. Users count whose habits are "
        "known, or whose session's record changed while nobody used it, with clients that are no scripts, on their "
        "operator's network of before, in sessions nobody doubts."
    ),
    severity=Severity.LOW,
    score=21,
    scope=Scope.USER,
    attacks=(Attack("T1484", "Domain or Tenant Policy Modification"),),
    false_positives=("It is no alarm: somebody made the change for the tenant, or the application works that way.",),
    runbook=(
        "Ask the tenant's administrators whether they made the change in the 12 hours before the first finding.",
        "If nobody did, read the identity provider's audit log: whoever changes policies owns every session.",
        "Review one of the suppressed findings of that day; to judge each by itself, disable this detection.",
    ),
    sources=(
        "MITRE ATT&CK T1484: domain or tenant policy modification shows as a change of many at once.",
        "Microsoft Entra ID: lifetimes of sessions and tokens are set by tenant-wide policies.",
    ),
    triggers=Trigger.DEED,
    parameters=TenantWideChange(),
    detect=detect,
)
