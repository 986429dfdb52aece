"""`phishing-proxy`: a session was issued through a proxy in a data centre to whoever relayed the sign-in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import same_operator
from worker.detections.evidence import device_name, network_name, place_name
from worker.detections.novelty import Learning, is_learned, is_new_network
from worker.enrich.model import NetworkKind
from worker.sessions.baseline import device_key, is_interactive, network_key

if TYPE_CHECKING:
    from worker.sessions.state import Context


class PhishingProxy(Learning):
    """Parameters of `phishing-proxy`: a browser's session from a data centre is unusual for users who are known."""

    sessions: int = 5
    """Sessions started before."""


def detect(view: View, parameters: PhishingProxy) -> Signal | None:
    """Look for a browser's session that begins on hosting, and for one that goes on elsewhere."""
    if view.is_machine() or not _is_browser(view.context) or not is_learned(view, parameters):
        return None
    return _begins(view) if view.session is None else _goes_on(view)


def _is_browser(context: Context) -> bool:
    return is_interactive(device_key(context.device))


def _begins(view: View) -> Signal | None:
    """A session that begins on hosting, of a user who was never there."""
    if view.context.network.kind != NetworkKind.HOSTING or not is_new_network(view):
        return None
    return _signal(view, Severity.MEDIUM, view.context, "began", None)


def _goes_on(view: View) -> Signal | None:
    """A session that began on hosting the user never was on, and goes on at another operator's network."""
    began = view.contexts[view.session.trail[0][1]] if view.session and view.session.trail else None
    if began is None or began.network.kind != NetworkKind.HOSTING or not _is_browser(began):
        return None
    after = view.context.network
    is_known = network_key(began.network) in view.user.baseline.networks
    if is_known or not after.asn or same_operator(began.network, after):
        return None
    return _signal(view, Severity.HIGH, began, "goes on elsewhere, and began", view.before)


def _signal(view: View, severity: Severity, began: Context, what: str, before: Context | None) -> Signal:
    context = view.context
    where = "" if before is None else f"; now {network_name(context.network)}, {place_name(context.place)}"
    return Signal(
        severity=severity,
        subject=network_key(began.network),
        summary=f"session of {device_name(began.device)} {what} in a data centre: {network_name(began.network)}{where}",
        observed={"began": network_key(began.network), "network": network_key(context.network)},
        expected={"networks": sorted(view.user.baseline.networks)},
        before=before,
    )


DETECTION = Detection(
    id="phishing-proxy",
    title="Sign-in relayed by a phishing proxy",
    description=(
        "A browser's session begins in a data centre that its user never came from (medium), and goes on elsewhere "
        "(high). Phishing kits such as Evilginx relay the victim's sign-in, second factor included, from a rented "
        "server with the victim's own user agent; the stolen session is then used from another place."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1557", "Adversary-in-the-Middle"),
        Attack("T1566.002", "Phishing: Spearphishing Link"),
        Attack("T1539", "Steal Web Session Cookie"),
    ),
    false_positives=(
        "A VPN or a company's egress on rented servers that no list knows; told once, then its network is known.",
        "Cloud desktops, and browsers that run in a data centre.",
    ),
    runbook=(
        "Ask the user which link they signed in by; look for mail with links to young domains in the last 24 hours.",
        "Compare the network with the egress of the user's company and its VPN.",
        "Revoke all of the user's sessions, reset the password, and look for the same network at other users.",
    ),
    sources=(
        "Microsoft: adversary-in-the-middle phishing (Storm-1167); Entra ID Protection: attacker in the middle.",
        "elastic/detection-rules#5626: sign-ins from hosting with a browser's agent.",
    ),
    triggers=Trigger.START | Trigger.NETWORK,
    parameters=PhishingProxy(),
    detect=detect,
    needs=("network", "device"),
)
