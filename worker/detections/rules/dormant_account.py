"""`dormant-account`: an account that was not used for months is used again."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import duration_name
from worker.sessions.limits import DAY


class DormantAccount(Parameters):
    """Parameters of `dormant-account`."""

    days: float = 90.0
    """Days without any event after which an account is dormant; must be shorter than the state's `idle_ttl`."""


def detect(view: View, parameters: DormantAccount) -> Signal | None:
    """Compare the start of a session with the user's last event. Other findings of the start raise the severity."""
    last = last_event(view)
    if not last or view.now - last < parameters.days * DAY:
        return None
    others = sorted({verdict.detection for verdict in view.verdicts if not verdict.suppressed_by})
    return Signal(
        severity=Severity.MEDIUM if others else Severity.LOW,
        summary=f"first session after {duration_name(view.now - last)}{', with ' if others else ''}{', '.join(others)}",
        observed={"idle_ms": view.now - last, "findings": others},
        expected={"idle_days_below": parameters.days},
    )


def last_event(view: View) -> int:
    """Return the time of the user's last event before this one that is in the state; 0 for none."""
    seen = [session.seen for session in view.user.sessions.values()]
    return max([view.user.baseline.last_session, *seen])


DETECTION = Detection(
    id="dormant-account",
    title="Dormant account used",
    description=(
        "A user starts a session after 90 days without any event. The takeover of an unused account goes unnoticed: "
        "accounts of people who have left, test accounts, seasonal staff. The severity is medium if the start of the "
        "session has any other finding."
    ),
    severity=Severity.LOW,
    score=21,
    scope=Scope.USER,
    attacks=(Attack("T1078", "Valid Accounts"),),
    false_positives=("Return from parental or sick leave.", "An account used once a quarter."),
    runbook=(
        "Check in the directory whether the account should still exist.",
        "Compare network, country and device with the user's earlier ones.",
        "If the owner does not confirm the sign-in within 24 hours, disable the account.",
    ),
    sources=(
        "CISA and NIST SP 800-53 AC-2(3): disable inactive accounts, 90 days.",
        "Okta: dormant account behaviour.",
    ),
    triggers=Trigger.START,
    parameters=DormantAccount(),
    detect=detect,
    casts_doubt=False,
    sums_up=True,
)
