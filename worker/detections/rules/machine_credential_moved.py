"""`machine-credential-moved`: a machine's credential is used where, or by what, it never was."""

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
    """Days since the first event after which a machine's networks are known."""
    networks: int = 3
    """A machine that is known on more networks than these moves by design, and is not judged by its network."""


def detect(view: View, parameters: MachineCredentialMoved) -> Signal | None:
    """Hold network, country and client of a machine against where the credential was used before."""
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
    """Return whether the network is new and another operator's, or the same operator's in another country."""
    if before is None or not before.network.asn or not is_new_network(view):
        return False
    is_settled = len(view.user.baseline.networks) <= parameters.networks
    if not same_operator(before.network, view.context.network):
        return is_settled
    return False if before.network.kind else other_country(before.place, view.context.place)


def _last_used(view: View) -> Context | None:
    """Return the context of the credential's newest use on a network it is known on."""
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
        "An API key, service account or client credential is used from another operator's network than ever before, or "
        "by a browser. Machines do not travel: keys that leak through repositories, images and build logs are first "
        "seen from somewhere else. Networks of one operator are one, and machines that move by design (more than three "
        "known networks) are judged by their client alone."
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
        "A service that moves to another provider; told once, then its network is known.",
        "A developer who tries a service's key on a workstation.",
    ),
    runbook=(
        "Ask the owner of the service whether it was moved or whether somebody uses its key by hand.",
        "Look at what the credential did from the new network since, and search repositories and logs for it.",
        "Rotate the credential; restrict it to its networks where the identity provider can.",
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
