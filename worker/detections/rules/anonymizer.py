"""`anonymizer`: a person's session comes through a VPN, a hosting network, Tor, a gateway or a relay."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import other_country
from worker.detections.evidence import network_name
from worker.detections.familiarity import is_known_network, is_known_user
from worker.enrich.model import NetworkKind
from worker.sessions.baseline import network_key

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
    """Check the kind of network that an interactive session begins on or moves to."""
    network = view.context.network
    severity = SEVERITY.get(NetworkKind(network.kind))
    was = view.before.network.kind if view.before else ""
    if severity is None or view.is_machine() or was == network.kind:
        return None
    abroad, born = _goes_abroad(view), network.kind == NetworkKind.HOSTING and _is_born_there(view)
    return Signal(
        severity=max(severity, Severity.MEDIUM) if abroad or born else severity,
        once=network_key(network) if born else "",
        subject=f"{network.kind} {view.context.place.country}" if abroad else network.kind,
        summary=(
            f"interactive session through {network_name(network)}"
            + (f", which leaves in {view.context.place.country}" if abroad else "")
        ),
        observed={"network_kind": network.kind, "ip": network.ip, "abroad": abroad},
        expected={"network_kind": was or "isp, mobile or private"},
        before=view.before,
    )


def _is_born_there(view: View) -> bool:
    """Return whether a person's session begins on a hosting network that is new to the user.

    Phishing proxies sign in from such networks with the credentials they relay.
    """
    new = view.session is None and not is_known_network(view, view.context.network)
    return new and not view.context.device.scripted and is_known_user(view)


def _goes_abroad(view: View) -> bool:
    """Return whether a running session moves behind a private relay in a country that is new to the user.

    The exit of a private relay is in the user's own country. `location-change` handles relays that are new to the user,
    and VPNs, whose users choose the country.
    """
    context, before, history = view.context, view.before, view.user.baseline
    if context.network.kind != NetworkKind.RELAY or before is None or not other_country(before.place, context.place):
        return False
    is_known = network_key(context.network) in history.networks
    return is_known and bool(history.countries) and context.place.country not in history.countries


DETECTION = Detection(
    id="anonymizer",
    title="Session through an anonymiser",
    description=(
        "An interactive session begins on, or moves to, a VPN, a hosting provider or Tor, so its place is not that of "
        "its user. VPNs have many legitimate uses, Tor few. Private relays are on by default on many phones and are "
        "informational. Severity is medium if a person whose habits are known starts a session on a hosting network "
        "that is new to them, because phishing proxies sign in from there. It is also medium if a running session "
        "moves behind a relay in a country that is new to the user, because a relay's exit is in the user's own "
        "country."
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
        "Look for other findings of the session in the same hour; a new device makes an attack more likely.",
        "If the network is the tenant's own, add it to `allowed_networks` in the tenant's policy.",
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
