"""`denied-network`: a session comes from a network that the tenant's policy denies."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import network_name
from worker.sessions.baseline import network_key


class DeniedNetwork(Parameters):
    """`denied-network` has no parameters; what is denied is in the tenant's policy."""


def detect(view: View, _parameters: DeniedNetwork) -> Signal | None:
    """Hold the event against the tenant's lists."""
    if not view.is_denied():
        return None
    network = view.context.network
    return Signal(
        subject=network_key(network),
        summary=f"session comes from {network_name(network)}, which the tenant denies",
        observed={"ip": network.ip, "asn": network.asn},
        expected={"denied": "by the tenant's policy"},
        before=view.before,
    )


DETECTION = Detection(
    id="denied-network",
    title="Session from a denied network",
    description=(
        "An event of a session comes from an address range or autonomous system that the tenant's own policy denies, "
        "at its start or later. What the tenant has ruled out needs no baseline: it is reported whatever is usual."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=(Attack("T1078", "Valid Accounts"), Attack("T1090", "Proxy")),
    false_positives=("A list that is out of date: ranges change hands.",),
    runbook=(
        "Check who uses the session: the tenant's policy says nobody should from there.",
        "Look at the user's other sessions of the last 24 hours, and at others from the same place.",
        "Revoke the session; if it was legitimate, correct the tenant's lists.",
    ),
    sources=(
        "Okta network zones and Microsoft Entra conditional access: blocked locations.",
        "Panther: sign-in from a forbidden place.",
    ),
    triggers=Trigger.START | Trigger.NETWORK,
    parameters=DeniedNetwork(),
    detect=detect,
    invariant=True,
)
