"""`device-change`: a session goes on from another device."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import last_device, other_device
from worker.detections.evidence import device_name
from worker.sessions.baseline import device_key


class DeviceChange(Parameters):
    """`device-change` has no parameters."""


def detect(view: View, _parameters: DeviceChange) -> Signal | None:
    """Compare the event's device with the session's last known one."""
    before, after = last_device(view), view.context
    if before is None:
        return None
    difference = other_device(before.device, after.device)
    if not difference:
        return None
    return Signal(
        subject=f"{device_key(before.device)} > {device_key(after.device)}",
        summary=(f"session moved from {device_name(before.device)} to {device_name(after.device)} ({difference})"),
        observed={"device": device_name(after.device), "difference": difference},
        expected={"device": device_name(before.device)},
        before=before,
    )


DETECTION = Detection(
    id="device-change",
    title="Session moved to another device",
    description=(
        "One session is used by another browser, operating system or class of device than before, or by an older "
        "version of the same browser. A session lives in one browser's storage; another client holding it has "
        "usually been given a copy."
    ),
    severity=Severity.MEDIUM,
    score=47,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1539", "Steal Web Session Cookie"),
        Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),
    ),
    false_positives=(
        "A browser switched to its 'desktop site' mode, or developer tools emulating another device.",
        "A browser rolled back to an older version by its administrator.",
    ),
    runbook=(
        "Look for an `ip-change` or `session-hijack` of the session within 60 minutes: together they are a theft.",
        "From an unchanged network ask the user for a second browser or emulated device before acting.",
        "If neither explains it, revoke the session and look for infostealer traces on the first device.",
    ),
    sources=(
        "Auth0: session hijacking by user agent mismatch.",
        "OWASP Session Management Cheat Sheet: binding the session to other user properties.",
    ),
    triggers=Trigger.DEVICE,
    parameters=DeviceChange(),
    detect=detect,
    tenant_wide=True,
    needs=("device",),
)
