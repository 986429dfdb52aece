"""`ip-change`: a session goes on from another network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import elsewhere, is_gone_private, other_network, other_system
from worker.detections.evidence import network_name, place_name
from worker.enrich.model import NetworkKind
from worker.sessions.baseline import network_key

if TYPE_CHECKING:
    from worker.enrich.model import Network
    from worker.sessions.state import Context


class IpChange(Parameters):
    """Parameters of `ip-change`."""

    area_km: float = 100.0
    """Two places closer than this are one area."""


def detect(view: View, parameters: IpChange) -> Signal | None:
    """Compare the event's network with the session's last of the same address family, else with its last."""
    before, after = view.same_family or _other_family(view), view.context
    if before is None or not _is_moved(before.network, after.network):
        return None
    return Signal(
        severity=_severity(view, before, parameters),
        subject=network_key(after.network),
        summary=(
            f"session moved from {network_name(before.network)}, {place_name(before.place)} "
            f"to {network_name(after.network)}, {place_name(after.place)}"
        ),
        observed={"network": network_key(after.network), "ip": after.network.ip},
        expected={"network": network_key(before.network), "ip": before.network.ip},
        before=before,
    )


def _other_family(view: View) -> Context | None:
    """Return the session's last context when the event is its first of an address family, and of another system."""
    before = view.before
    return before if before is not None and other_system(before.network, view.context.network) else None


def _is_moved(before: Network, after: Network) -> bool:
    return other_network(before, after) or other_system(before, after) or is_gone_private(before, after)


def _severity(view: View, before: Context, parameters: IpChange) -> Severity:
    old, new = before.network, view.context.network
    if view.is_machine():
        return _of_service(old, new)
    if is_gone_private(old, new):
        return Severity.LOW
    if not other_system(old, new) or _is_expected(view, new):
        return Severity.INFORMATIONAL
    risky = new.kind in (NetworkKind.HOSTING, NetworkKind.TOR)
    if risky or elsewhere(view, before, view.context, parameters.area_km):
        return Severity.MEDIUM
    return Severity.LOW


def _of_service(old: Network, new: Network) -> Severity:
    """Services should not move; where the system of either address is unknown, nothing tells that they did."""
    if not (old.asn and new.asn):
        return Severity.INFORMATIONAL
    return Severity.HIGH if other_system(old, new) else Severity.MEDIUM


def _is_expected(view: View, network: Network) -> bool:
    """Tell whether the user is known on a network, or it is everybody's: a private relay's egress."""
    return network.kind == NetworkKind.RELAY or network_key(network) in view.user.baseline.networks


DETECTION = Detection(
    id="ip-change",
    title="Session moved to another network",
    description=(
        "One session is used from another network than before. Sessions follow people between office, home and "
        "mobile networks, so a move alone is context rather than alarm; a move to another autonomous system in "
        "another place, or into hosting or Tor, is how a stolen session looks first."
    ),
    severity=Severity.LOW,
    score=21,
    scope=Scope.SESSION,
    attacks=(Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),),
    false_positives=(
        "Travelling, or switching between Wi-Fi, mobile carrier and a corporate VPN.",
        "A provider that moves customers between address blocks of two autonomous systems.",
    ),
    runbook=(
        "Compare the before and after in the evidence: same device and a network the user is known on is roaming.",
        "Look at the session's other findings of the last 60 minutes; with a device change treat it as a hijack.",
        "If the user does not recognise the network, revoke the session and its siblings of the last 24 hours.",
    ),
    sources=(
        "Okta Identity Threat Protection: session context change (new IP, new ASN) during a session.",
        "Microsoft Entra ID Protection: anomalous token, unfamiliar sign-in properties.",
    ),
    triggers=Trigger.NETWORK,
    parameters=IpChange(),
    detect=detect,
    needs=("network",),
)
