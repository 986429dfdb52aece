"""`new-network`: a session begins on a network the user was never seen on."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import network_name
from worker.detections.novelty import Learning, is_learned, is_new_network
from worker.sessions.baseline import network_key


class NewNetwork(Learning):
    """Parameters of `new-network`."""


def detect(view: View, parameters: NewNetwork) -> Signal | None:
    """Compare the network with the known networks of the user."""
    if not is_new_network(view) or not is_learned(view, parameters):
        return None
    return Signal(
        subject=network_key(view.context.network),
        summary=f"first session from {network_name(view.context.network)}",
        observed={"network": network_key(view.context.network)},
        expected={"networks": sorted(view.user.baseline.networks)},
        once=network_key(view.context.network),
    )


DETECTION = Detection(
    id="new-network",
    title="Sign-in from a new network",
    description=(
        "After a learning period of ten sessions or two weeks, a user starts a session from an autonomous system that "
        "is new to the user. Alone, it is only context; it matters together with a new country or a new device."
    ),
    severity=Severity.LOW,
    score=21,
    scope=Scope.USER,
    attacks=(Attack("T1078", "Valid Accounts"),),
    false_positives=(
        "A new provider, a hotel or a friend's Wi-Fi.",
        "A provider that merged its autonomous systems.",
    ),
    runbook=(
        "Check the kind and organisation of the network; people seldom use a hosting network.",
        "Look for a new country or a new device in the same session of that hour.",
    ),
    sources=(
        "Microsoft Entra ID Protection: unfamiliar sign-in properties, learned for 5 to 14 days.",
        "Elastic: first time seen autonomous system for a user.",
    ),
    triggers=Trigger.START,
    parameters=NewNetwork(),
    detect=detect,
    casts_doubt=False,
    needs=("network",),
)
