"""`unfamiliar-sign-in`: at least two of country, network and device of a session are new to its user."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import device_name, network_name, place_name
from worker.detections.familiarity import is_traveller
from worker.detections.novelty import Learning, is_learned, is_own_sign_in, news, told_before
from worker.sessions.baseline import device_key, network_key


class UnfamiliarSignIn(Learning):
    """Parameters of `unfamiliar-sign-in`."""

    least: int = 2
    """Least number of new parts among country, network and device."""
    known_sessions: int = 5
    """Number of admitted sessions below which a new device on a new network in a known country is low."""


def detect(view: View, parameters: UnfamiliarSignIn) -> Signal | None:
    """Count the new parts among country, network and device."""
    if not is_learned(view, parameters) or len(new := news(view)) < parameters.least:
        return None
    context, history = view.context, view.user.baseline
    told = told_before(view)
    return Signal(
        severity=_severity(view, new, parameters),
        once=f"{network_key(context.network)} {device_key(context.device)}",
        renewed=not told,
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
        suppressed_by=told,
    )


def _severity(view: View, new: list[str], parameters: UnfamiliarSignIn) -> Severity:
    """A new country always brings a new network; with the user's own device and a second factor it is a journey.

    Little is known of who was seen a few times: a new phone on its carrier, in the country of before, is low.
    """
    if "device" not in new:
        return Severity.LOW if is_own_sign_in(view) or is_traveller(view) else Severity.MEDIUM
    if "country" not in new and view.user.baseline.sessions < parameters.known_sessions:
        return Severity.LOW
    return Severity.HIGH


DETECTION = Detection(
    id="unfamiliar-sign-in",
    title="Unfamiliar sign-in",
    description=(
        "After a learning period of ten sessions or two weeks, a new session has at least two new parts among country, "
        "network and device. A sign-in with stolen credentials is typically from a new device on a new network. A new "
        "country always comes with a new network: with a known device this is medium, and low if the sign-in used two "
        "factors or the user is known to travel. For a user with few sessions, a new device on a new network in a "
        "known country is low. On the day of the first finding, the same device and network are raised again only if "
        "that session was ended."
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
        "Compare them with the user's known networks, countries and devices in the evidence.",
        "Check what the session did in its first 60 minutes: scopes, methods, further places.",
        "Ask the user; if it was not them, revoke the session and reset the credentials it was created with.",
    ),
    sources=(
        "Microsoft Entra ID Protection: unfamiliar sign-in properties.",
        "Auth0 adaptive MFA: new device, impossible travel and untrusted address combined.",
    ),
    triggers=Trigger.START,
    parameters=UnfamiliarSignIn(),
    detect=detect,
    covers=("new-country", "new-network", "new-device"),
    needs=("place", "network", "device"),
)
