"""`listed-network`: a session begins on, or moves to, a network that is on a threat list."""

from __future__ import annotations

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.evidence import network_name, place_name


class ListedNetwork(Parameters):
    """`listed-network` has no parameters; lists are in the settings (`geo.threat_lists`) and the tenant's policy."""


OWN_LIST = "policy"
"""Name of the tenant's own list."""


def detect(view: View, _parameters: ListedNetwork) -> Signal | None:
    """Check the network against the threat lists as of the event, and against the tenant's own list."""
    network, before = view.context.network, view.before
    names = [*network.threat_list.split(), *([OWN_LIST] if view.is_listed() else ())]
    if not names or (before is not None and before.network == network):
        return None
    moved = before is not None and not before.network.threat_list and before.network.prefix != network.prefix
    return Signal(
        severity=Severity.HIGH if moved else Severity.MEDIUM,
        subject=network.prefix or network.ip,
        summary=(
            f"session {'moved to' if moved else 'is used from'} {network_name(network)}, "
            f"{place_name(view.context.place)}, which is on the threat list {', '.join(names)}"
        ),
        observed={"lists": names, "ip": network.ip},
        expected={"lists": 0},
        before=before,
    )


DETECTION = Detection(
    id="listed-network",
    title="Network on a threat list",
    description=(
        "A session begins on a network that is on a threat list of the operator or the tenant (medium), or a running "
        "session moves to it (high). Threat lists contain networks seen in attacks: credential stuffing, command and "
        "control, hijacked address space. The worker checks each event on arrival and reloads changed lists while it "
        "runs. `sessionwatch backfill` checks stored events."
    ),
    severity=Severity.MEDIUM,
    score=47,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1078", "Valid Accounts"),
        Attack("T1110.004", "Brute Force: Credential Stuffing"),
        Attack("T1583.003", "Acquire Infrastructure: Virtual Private Server"),
    ),
    false_positives=(
        "An address that has a new owner since it was listed: lists are outdated within days.",
        "A carrier's shared address that is listed because of one of its thousands of users.",
    ),
    runbook=(
        "The evidence names the list; check what the list contains.",
        "Look for other users on the network within 24 hours; several users mean credential stuffing.",
        "If the network is not the user's own, revoke the session and reset the password.",
    ),
    sources=(
        "Microsoft Entra ID Protection: malicious IP address; Auth0: suspicious IP throttling.",
        "Spamhaus DROP, FireHOL netsets: the form of the lists.",
    ),
    triggers=Trigger.START | Trigger.NETWORK,
    parameters=ListedNetwork(),
    detect=detect,
    needs=("network",),
)
