"""`audience-change`: the audience of a session changes."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import other_device, other_network
from worker.detections.familiarity import is_known_device, is_known_network, pair


class AudienceChange(Parameters):
    """`audience-change` has no parameters."""


def detect(view: View, _parameters: AudienceChange) -> Signal | None:
    """Compare the event's audience with the session's last known one. An omitted audience is unknown."""
    before, after = view.before, view.context
    known = before and (before.aud or (view.session and view.session.aud))
    if not known or not after.aud or known == after.aud:
        return None
    return Signal(
        severity=_severity(view),
        subject=after.aud,
        once=pair(known, after.aud),
        summary=f"session issued for audience {known} is now used for {after.aud}",
        observed={"aud": after.aud},
        expected={"aud": known},
        before=before,
    )


def _severity(view: View) -> Severity:
    """Return low for people on a known device and network, because single sign-on looks like that; else medium."""
    before, after = view.before, view.context
    if before is None or view.is_machine():
        return Severity.MEDIUM
    moved = other_network(before.network, after.network) and not is_known_network(view, after.network)
    changed = other_device(before.device, after.device) and not is_known_device(view, after.device)
    return Severity.MEDIUM if moved or changed else Severity.LOW


DETECTION = Detection(
    id="audience-change",
    title="Session used for another audience",
    description=(
        "The audience of one session changed. The audience is fixed when a session is issued; another one under the "
        "same id means a confused deputy, an unauthorised token exchange, or a forged session record. On a known "
        "device and network of the user the severity is low, because single sign-on with one session record looks the "
        "same."
    ),
    severity=Severity.MEDIUM,
    score=47,
    scope=Scope.SESSION,
    attacks=(Attack("T1550.001", "Use Alternate Authentication Material: Application Access Token"),),
    false_positives=("An identity provider that reuses one session record for single sign-on to several clients.",),
    runbook=(
        "Check whether both audiences are clients of the tenant and belong to one single sign-on group.",
        "Look for scope or device changes of the session in the 60 minutes around the change.",
        "If the new audience is not expected, revoke the session and review the client's grants of the last 24 hours.",
    ),
    sources=("RFC 8725 section 3.9: use and validate audience.", "OWASP ASVS 5.0, V9: token audience."),
    triggers=Trigger.GRANT,
    parameters=AudienceChange(),
    detect=detect,
    casts_doubt=False,
    tenant_wide=True,
)
