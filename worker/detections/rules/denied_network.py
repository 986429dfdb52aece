"""`denied-network`: a session comes from a network that the tenant's policy denies."""

from __future__ import annotations

from worker.detections.api import Detection, Scope, Severity, Signal, Trigger, View
from worker.detections.denial import ATTACKS, RUNBOOK, SOURCES, NoParameters, denied
from worker.detections.evidence import network_name
from worker.sessions.baseline import network_key


def detect(view: View, _parameters: NoParameters) -> Signal | None:
    """Compare the event's network with the tenant's lists."""
    if not view.is_denied():
        return None
    network = view.context.network
    return denied(network_key(network), network_name(network), {"ip": network.ip, "asn": network.asn}, view)


DETECTION = Detection(
    id="denied-network",
    title="Session from a denied network",
    description=(
        "A session starts on, or moves to, an address range or autonomous system that the tenant's own policy denies. "
        "The finding does not depend on the user's baseline: a denied network is reported even if it is usual."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=ATTACKS,
    false_positives=("An outdated list: address ranges change their owners.",),
    runbook=RUNBOOK,
    sources=SOURCES,
    triggers=Trigger.START | Trigger.NETWORK,
    parameters=NoParameters(),
    detect=detect,
    casts_doubt=False,
    invariant=True,
)
