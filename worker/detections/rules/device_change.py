"""`device-change`: a session goes on from another device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import device_difference, is_other_mode, last_device
from worker.detections.evidence import device_name
from worker.detections.familiarity import is_hand_over, is_known_device, is_settled_network, is_usual_spot, pair
from worker.sessions.baseline import device_key

if TYPE_CHECKING:
    from worker.sessions.state import Context


class DeviceChange(Parameters):
    """`device-change` has no parameters."""


def detect(view: View, _parameters: DeviceChange) -> Signal | None:
    """Compare the event's device with the session's last known one."""
    before, after = last_device(view), view.context
    if before is None:
        return None
    difference = device_difference(before.device, after.device)
    if not difference:
        return None
    return Signal(
        severity=_severity(view, before),
        once=pair(device_key(before.device), device_key(after.device)),
        subject=f"{device_key(before.device)} > {device_key(after.device)}",
        summary=(f"session moved from {device_name(before.device)} to {device_name(after.device)} ({difference})"),
        observed={"device": device_name(after.device), "difference": difference},
        expected={"device": device_name(before.device)},
        before=before,
    )


def _severity(view: View, before: Context) -> Severity:
    """Return low for a hand-over, the other mode of a browser, or an expected second client on one network."""
    after, session = view.context, view.session
    if is_hand_over(view, before) or is_other_mode(before.device, after.device) or _is_own_program(view):
        return Severity.LOW
    if not after.network.prefix or before.network.prefix != after.network.prefix or session is None:
        return Severity.MEDIUM
    if is_settled_network(view, after.network) and not after.device.scripted:
        return Severity.LOW
    had = any(view.contexts[number].device == after.device for _, number in session.trail)
    # A browser hands its sign-in to a program by design; a program never hands its sign-in to a browser.
    begun = session.events == 1 and not (before.device.scripted and not after.device.scripted)
    return Severity.LOW if had or begun else Severity.MEDIUM


def _is_own_program(view: View) -> bool:
    """Return whether a sign-in is handed to a known program of the user, at a usual place."""
    after = view.context
    begun = view.session is not None and view.session.events == 1 and after.device.scripted
    return begun and is_usual_spot(view, after) and is_known_device(view, after.device)


DETECTION = Detection(
    id="device-change",
    title="Session moved to another device",
    description=(
        "The browser, operating system or device class of a session changes, or the browser's version becomes older. A "
        "session is stored in one browser; another client that has it usually has a copy. Each pair of devices is "
        "raised once. The severity is low in these cases: the two modes of one browser, such as the desktop site of a "
        "phone; a known program of the user that takes over a sign-in; and, on an unchanged network, the second client "
        "of a sign-in, a device that the session had before, and any browser on a network known for a day."
    ),
    severity=Severity.MEDIUM,
    score=47,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1539", "Steal Web Session Cookie"),
        Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),
    ),
    false_positives=(
        "Developer tools that emulate another device.",
        "A browser rolled back to an older version by its administrator.",
    ),
    runbook=(
        "Look for `ip-change` or `session-hijack` of the session within 60 minutes; both together mean a theft.",
        "If the network is unchanged, first ask the user about a second browser or an emulated device.",
        "If this does not explain it, revoke the session and look for traces of an infostealer on the first device.",
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
