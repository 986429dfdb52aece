"""`unfamiliar-sign-in`: several things about a new session are new to its user."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import device_name, network_name, place_name
from worker.detections.novelty import Learning, is_learned, news, told_before


class UnfamiliarSignIn(Learning):
    """Parameters of `unfamiliar-sign-in`."""

    least: int = 2
    """How many of country, network and device must be new."""


def detect(view: View, parameters: UnfamiliarSignIn) -> Signal | None:
    """Count what is new of country, network and device."""
    if not is_learned(view, parameters) or len(new := news(view)) < parameters.least:
        return None
    context, history = view.context, view.user.baseline
    return Signal(
        summary=(
            f"new {' and '.join(new)}: {device_name(context.device)} at {network_name(context.network)}, "
            f"{place_name(context.place)}"
        ),
        observed={"new": new},
        expected={
            "countries": sorted(history.countries),
            "networks": sorted(history.networks),
            "devices": sorted(history.devices),
        },
        suppressed_by=told_before(view),
    )


DETECTION = Detection(
    id="unfamiliar-sign-in",
    title="Unfamiliar sign-in",
    description=(
        "At least two of country, network and device of a new session were never seen for this user before, after ten "
        "sessions or two weeks of learning. One of them changes now and then in everybody's life; two at once are what "
        "a sign-in with stolen credentials looks like. Its parts are reported as well."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=(Attack("T1078", "Valid Accounts"), Attack("T1078.004", "Valid Accounts: Cloud Accounts")),
    false_positives=(
        "A journey with a new device, or with a loaner laptop.",
        "The first day in a new office in another country.",
    ),
    runbook=(
        "Compare with the user's networks, countries and devices of before, in the evidence.",
        "Look at what the session did in its first 60 minutes: scopes, methods, further places.",
        "Ask the user; if it was not them, revoke the session and reset the credentials it was created with.",
    ),
    sources=(
        "Microsoft Entra ID Protection: unfamiliar sign-in properties.",
        "Auth0 adaptive MFA: new device, impossible travel and untrusted address combined.",
    ),
    triggers=Trigger.START,
    parameters=UnfamiliarSignIn(),
    detect=detect,
    needs=("place", "network", "device"),
)
