"""`machine-credential-moved`: a machine's credential is used from a new network or by a new kind of client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import other_country, same_operator
from worker.detections.evidence import device_name, network_name, place_name
from worker.detections.novelty import is_new_device, is_new_network
from worker.sessions.baseline import device_key, is_interactive, network_key
from worker.sessions.limits import DAY

if TYPE_CHECKING:
    from worker.sessions.state import Context


class MachineCredentialMoved(Parameters):
    """Parameters of `machine-credential-moved`."""

    days: float = 1.0
    """Days since the first event after which the machine's networks count as known."""
    networks: int = 3
    """A machine with more known networks than this moves by design: a new operator's network is no finding."""


def detect(view: View, parameters: MachineCredentialMoved) -> Signal | None:
    """Compare network, country and client of a machine with those of the credential's earlier uses."""
    if not view.is_machine() or view.now - view.user.baseline.first < parameters.days * DAY:
        return None
    by_person = is_interactive(device_key(view.context.device)) and _is_new_client(view)
    before = _last_used(view)
    away = _is_away(view, before, parameters)
    if not by_person and not away:
        return None
    severity = Severity.CRITICAL if by_person and away else Severity.HIGH
    return _signal(view, before, severity, by_person=by_person)


def _is_new_client(view: View) -> bool:
    return is_new_device(view) and not any(is_interactive(key) for key in view.user.baseline.devices)


def _is_away(view: View, before: Context | None, parameters: MachineCredentialMoved) -> bool:
    """Return whether the network is new and belongs to another operator, or to the same one in another country."""
    if before is None or not before.network.asn or not is_new_network(view):
        return False
    is_settled = len(view.user.baseline.networks) <= parameters.networks
    if not same_operator(before.network, view.context.network):
        return is_settled
    return False if before.network.kind else other_country(before.place, view.context.place)


def _last_used(view: View) -> Context | None:
    """Return the context of the credential's newest use on a known network."""
    known = view.user.baseline.networks
    sessions = sorted(view.user.sessions.items(), key=lambda item: (-item[1].seen, item[0]))
    contexts = (view.contexts[session.context] for _, session in sessions)
    return next((context for context in contexts if network_key(context.network) in known), view.before)


def _signal(view: View, before: Context | None, severity: Severity, *, by_person: bool) -> Signal:
    context, known = view.context, view.user.baseline
    where = f"{network_name(context.network)}, {place_name(context.place)}"
    return Signal(
        severity=severity,
        subject=f"{network_key(context.network)} {device_key(context.device)}",
        summary=f"credential of a machine is used by {device_name(context.device)} at {where}",
        observed={"network": network_key(context.network), "device": device_name(context.device), "person": by_person},
        expected={"networks": sorted(known.networks), "devices": sorted(known.devices)},
        before=before,
    )


DETECTION = Detection(
    id="machine-credential-moved",
    title="Machine's credential used elsewhere",
    description=(
        "An API key, service account or client credential is used from the network of a new operator, or by a browser. "
        "Machines do not travel; a key that leaked through a repository, an image or a build log first shows by its "
        "use from elsewhere. Networks of one operator count as one. For machines that move by design (more than three "
        "known networks) a new operator is no finding."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.USER,
    attacks=(
        Attack("T1552.001", "Unsecured Credentials: Credentials In Files"),
        Attack("T1078.004", "Valid Accounts: Cloud Accounts"),
        Attack("T1528", "Steal Application Access Token"),
    ),
    false_positives=(
        "A service that moves to another provider; after the first finding its network becomes known.",
        "A developer who tries a service's key on a workstation.",
    ),
    runbook=(
        "Ask the owner of the service whether it was moved, or whether a person uses its key.",
        "Check what the credential has done from the new network since, and search repositories and logs for the key.",
        "Rotate the credential; if the identity provider allows it, restrict the credential to its networks.",
    ),
    sources=(
        "Amazon GuardDuty: InstanceCredentialExfiltration.OutsideAWS.",
        "GitHub and GitLab on leaked tokens; Elastic: first time seen source for a service account.",
    ),
    triggers=Trigger.START | Trigger.NETWORK | Trigger.DEVICE,
    parameters=MachineCredentialMoved(),
    detect=detect,
    needs=("network",),
)
