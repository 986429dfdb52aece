"""`anonymizer`: people come through a VPN, hosting, Tor, a gateway or a relay."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import network_name
from worker.enrich.model import NetworkKind

SEVERITY = {
    NetworkKind.VPN: Severity.LOW,
    NetworkKind.HOSTING: Severity.LOW,
    NetworkKind.TOR: Severity.MEDIUM,
    NetworkKind.RELAY: Severity.INFORMATIONAL,
    NetworkKind.PROXY: Severity.INFORMATIONAL,
}


class Anonymizer(Parameters):
    """`anonymizer` has no parameters."""


def detect(view: View, _parameters: Anonymizer) -> Signal | None:
    """Look at the kind of network an interactive session begins on or moves to."""
    network = view.context.network
    severity = SEVERITY.get(NetworkKind(network.kind))
    was = view.before.network.kind if view.before else ""
    if severity is None or view.is_machine() or was == network.kind:
        return None
    return Signal(
        severity=severity,
        subject=network.kind,
        summary=f"interactive session through {network_name(network)}",
        observed={"network_kind": network.kind, "ip": network.ip},
        expected={"network_kind": was or "isp, mobile or private"},
        before=view.before,
    )


DETECTION = Detection(
    id="anonymizer",
    title="Session through an anonymiser",
    description=(
        "An interactive session begins on, or moves to, a VPN, a hosting provider or Tor: its place is not its user's. "
        "Many people have good reasons for a VPN, hardly anybody works through Tor; private relays are on by default "
        "on many phones and are noted only."
    ),
    severity=Severity.LOW,
    score=21,
    scope=Scope.SESSION,
    attacks=(Attack("T1090.003", "Proxy: Multi-hop Proxy"), Attack("T1078", "Valid Accounts")),
    false_positives=(
        "Private VPNs, and corporate ones that the tenant's policy does not list.",
        "Cloud desktops and browsers that run in a data centre.",
    ),
    runbook=(
        "Check whether the user has come through the same network before.",
        "Look for other findings of the session in the same hour: with a new device it weighs more.",
        "List the network in the tenant's policy if it is the tenant's own.",
    ),
    sources=(
        "Microsoft Entra ID Protection: anonymous IP address.",
        "Auth0: untrusted IP; ranges as published by the providers (iporigin).",
    ),
    triggers=Trigger.START | Trigger.NETWORK,
    parameters=Anonymizer(),
    detect=detect,
    needs=("network",),
)
