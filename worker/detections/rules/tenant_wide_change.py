"""`tenant-wide-change`: many users of a tenant make the same change within hours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger

if TYPE_CHECKING:
    from worker.sessions.announcements import DeedView


class TenantWideChange(Parameters):
    """Parameters of `tenant-wide-change`."""

    users: Annotated[int, Field(ge=2, le=16)] = 5
    """Least number of users in sessions without doubt, past their learning period or where nobody used the session."""
    hours: Annotated[int, Field(ge=1, le=24)] = 12
    """Window in which they are counted, in hours."""


def detect(view: DeedView, _parameters: TenantWideChange) -> Signal | None:
    """Summarise the hours of a day in which enough users made the same change."""
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
        "Many users of one tenant have the same finding within hours. For example, an administrator extended the "
        "lifetime of sessions, an application requests another scope, single sign-on was extended to another audience, "
        "or an application signs in with one program and goes on with another. One informational finding a day "
        "replaces those of the users, which are stored as suppressed by `tenant-wide`, as are later ones with the same "
        "subject. Users count if they are past their learning period or if their session's record changed without a "
        "use, their client is no script, their network belongs to the same operator as before or is known, and their "
        "session is without doubt."
    ),
    severity=Severity.LOW,
    score=21,
    scope=Scope.USER,
    attacks=(Attack("T1484", "Domain or Tenant Policy Modification"),),
    false_positives=("It is not an alert: an administrator made the change, or the application works that way.",),
    runbook=(
        "Ask the tenant's administrators whether they made the change in the 12 hours before the first finding.",
        "If not, read the identity provider's audit log; an attacker who changes policies controls every session.",
        "Review one of the suppressed findings of that day; to get all of them as alerts, disable this detection.",
    ),
    sources=(
        "MITRE ATT&CK T1484: domain or tenant policy modification shows as a change of many at once.",
        "Microsoft Entra ID: lifetimes of sessions and tokens are set by tenant-wide policies.",
    ),
    triggers=Trigger.DEED,
    parameters=TenantWideChange(),
    detect=detect,
)
