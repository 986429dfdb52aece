"""`new-device`: a session begins with a device the user was never seen on."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import device_name
from worker.detections.novelty import Learning, is_learned, is_new_device
from worker.sessions.baseline import device_key


class NewDevice(Learning):
    """Parameters of `new-device`."""


def detect(view: View, parameters: NewDevice) -> Signal | None:
    """Hold the device against those the user is known by."""
    if not is_new_device(view) or not is_learned(view, parameters):
        return None
    return Signal(
        subject=device_key(view.context.device),
        summary=f"first session with {device_name(view.context.device)}",
        observed={"device": device_key(view.context.device)},
        expected={"devices": sorted(view.user.baseline.devices)},
        once=device_key(view.context.device),
    )


DETECTION = Detection(
    id="new-device",
    title="Sign-in with a new device",
    description=(
        "After a learning period of ten sessions or two weeks, a user starts a session with a combination of browser "
        "family, operating system and device class that is new to the user. Versions are ignored, so upgrades are not "
        "new."
    ),
    severity=Severity.LOW,
    score=21,
    scope=Scope.USER,
    attacks=(Attack("T1078", "Valid Accounts"),),
    false_positives=(
        "A new phone or laptop.",
        "A second browser.",
    ),
    runbook=(
        "Look for a new country or a new network in the same session of that hour.",
        "If the client is scripted and new to the user, ask the user at once.",
    ),
    sources=(
        "Microsoft Entra ID Protection: unfamiliar sign-in properties, learned for 5 to 14 days.",
        "Okta: new device behaviour detection.",
    ),
    triggers=Trigger.START,
    parameters=NewDevice(),
    detect=detect,
    casts_doubt=False,
    needs=("device",),
)
