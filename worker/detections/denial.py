"""Common parts of `denied-country` and `denied-network`."""

from __future__ import annotations

from typing import Any

from worker.detections.api import Attack, Parameters, Signal, View

ATTACKS = (Attack("T1078", "Valid Accounts"), Attack("T1090", "Proxy"))
RUNBOOK = (
    "Check who uses the session: the tenant's policy does not allow sessions from there.",
    "Look at the user's other sessions of the last 24 hours, and at other sessions from the same country or network.",
    "Revoke the session; if it was legitimate, correct the tenant's lists.",
)
SOURCES = (
    "Okta network zones and Microsoft Entra conditional access: blocked locations.",
    "Panther: sign-in from a forbidden place.",
)


class NoParameters(Parameters):
    """No parameters: the tenant's policy contains what is denied."""


def denied(subject: str, name: str, observed: dict[str, Any], view: View) -> Signal:
    """Return the signal about a denied subject. `name` is its name for people."""
    return Signal(
        subject=subject,
        summary=f"session comes from {name}, which the tenant denies",
        observed=observed,
        expected={"denied": "by the tenant's policy"},
        before=view.before,
    )
