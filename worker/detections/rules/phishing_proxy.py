"""`phishing-proxy`: a sign-in was relayed through a proxy in a data centre."""

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
    """Parameters of `phishing-proxy`."""

    sessions: int = 5
    """Sessions admitted before."""


def detect(view: View, parameters: PhishingProxy) -> Signal | None:
    """Flag a browser's session that begins on a hosting network, and one that then goes on elsewhere."""
    if view.is_machine() or not _is_browser(view.context) or not is_learned(view, parameters):
        return None
    return _begins(view) if view.session is None else _goes_on(view)


def _is_browser(context: Context) -> bool:
    return is_interactive(device_key(context.device))


def _begins(view: View) -> Signal | None:
    """Return the signal for a session that begins on a hosting network new to the user."""
    if view.context.network.kind != NetworkKind.HOSTING or not is_new_network(view):
        return None
    return _signal(view, Severity.MEDIUM, view.context, "began", None)


def _goes_on(view: View) -> Signal | None:
    """Return the signal for a session that began on such a network and goes on on another operator's network."""
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
        "A browser's session begins in a data centre that is new to the user (medium), and goes on elsewhere (high). "
        "Phishing kits such as Evilginx relay the victim's sign-in, including the second factor, from a rented server "
        "with the victim's own user agent; the attacker then uses the stolen session from another place."
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
        "A VPN or company egress on rented servers that no list contains; after the first finding it becomes known.",
        "Cloud desktops, and browsers that run in a data centre.",
    ),
    runbook=(
        "Ask the user which link led to the sign-in; look for mail with links to new domains in the last 24 hours.",
        "Compare the network with the egress and the VPN of the user's company.",
        "Revoke all of the user's sessions, reset the password, and look for other users on the same network.",
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
