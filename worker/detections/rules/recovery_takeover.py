"""`recovery-takeover`: an account is recovered, and then used with a new network, device or country."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schemas.vocabulary import SessionClass
from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger, View
from worker.detections.comparison import other_device, other_system
from worker.detections.evidence import device_name, duration_name, network_name, place_name
from worker.detections.novelty import news
from worker.sessions.limits import HOUR

if TYPE_CHECKING:
    from worker.sessions.state import Context

_RECOVERY = frozenset({SessionClass.RECOVERY, SessionClass.TEMPORARY})


class RecoveryTakeover(Parameters):
    """Parameters of `recovery-takeover`."""

    hours: float = 24.0
    """Hours after a recovery in which sessions are compared with the user's earlier ones."""


class _Recovery(NamedTuple):
    """The recovery that an event follows. `began`: its first context; None when the event itself is its start."""

    when: int
    session_type: str
    began: Context | None


def detect(view: View, parameters: RecoveryTakeover) -> Signal | None:
    """Flag what is new to the user in a recovery, later in its session, and in the sessions after it."""
    if not view.user.baseline.networks or not view.activity:
        return None
    recovery = _recovery(view, parameters.hours * HOUR)
    if recovery is None:
        return None
    new = _news(view, recovery)
    severity = _severity(new)
    return None if severity is None else _signal(view, recovery, new, severity)


def _recovery(view: View, within: float) -> _Recovery | None:
    """Return the recovery that an event belongs to or follows; None when there is none."""
    own = view.policy.vocabulary.session_class
    if view.session is None and own(view.context.session_type) in _RECOVERY:
        return _Recovery(view.now, view.context.session_type or "", None)
    found = None
    # A running session is compared only with its own start.
    for session in view.user.sessions.values() if view.session is None else (view.session,):
        if not 0 <= view.now - session.started <= within or (found is not None and session.started <= found.when):
            continue
        began = view.contexts[session.trail[0][1] if session.trail else session.context]
        if own(began.session_type) in _RECOVERY:
            found = _Recovery(session.started, began.session_type or "", began)
    return found


def _news(view: View, recovery: _Recovery) -> list[str]:
    """Return which parts of an event are new to the user: country, network, device, methods."""
    context, began = view.context, recovery.began
    new = news(view)
    if view.session is not None and began is not None:
        # In the session of the recovery, only parts that have changed since its start count.
        moved = other_system(began.network, context.network)
        new = [each for each in new if (moved if each != "device" else other_device(began.device, context.device))]
    words = set(context.amr or ())
    known = {word for each in view.user.sessions.values() for word in view.contexts[each.context].amr or ()}
    return [*new, "methods"] if words and known and not words & known else new


def _severity(new: list[str]) -> Severity | None:
    """Return the severity of new parts. A new device with new methods is a usual reason for a recovery, and low."""
    if "country" in new or {"network", "device"} <= set(new):
        return Severity.HIGH
    if "network" in new:
        return Severity.MEDIUM if "methods" in new else Severity.LOW
    return Severity.LOW if new else None


def _signal(view: View, recovery: _Recovery, new: list[str], severity: Severity) -> Signal:
    context = view.context
    after = f"{duration_name(view.now - recovery.when)} after" if recovery.began else "in"
    return Signal(
        severity=severity,
        subject=recovery.session_type,
        summary=(
            f"new {' and '.join(new)} {after} a recovery ({recovery.session_type}): {device_name(context.device)} at "
            f"{network_name(context.network)}, {place_name(context.place)}"
        ),
        observed={"new": new, "after_ms": view.now - recovery.when},
        expected={"networks": sorted(view.user.baseline.networks), "devices": sorted(view.user.baseline.devices)},
        before=recovery.began or view.before,
    )


DETECTION = Detection(
    id="recovery-takeover",
    title="Account taken over by recovery",
    description=(
        "A session of an account recovery, or of one-time or temporary access, or a session within a day after it, "
        "comes from a new network with a new device, or from a new country. Recovery replaces the credentials: with a "
        "hijacked mailbox or telephone number an attacker can take over the account. A new device or new methods alone "
        "are usual reasons for a recovery, and are low."
    ),
    severity=Severity.HIGH,
    score=73,
    scope=Scope.USER,
    attacks=(
        Attack("T1098", "Account Manipulation"),
        Attack("T1078", "Valid Accounts"),
        Attack("T1556.006", "Modify Authentication Process: Multi-Factor Authentication"),
    ),
    false_positives=(
        "A telephone lost on a journey, and the account recovered there with a new one.",
        "A help desk that gives one-time access to new employees.",
    ),
    runbook=(
        "Ask the user through another channel than that of the recovery (not the same mailbox or number).",
        "Check what changed within 24 hours after the recovery: methods enrolled, e-mail address, sessions ended.",
        "If it was not the user, secure the mailbox or number first, then end all sessions and undo the enrolments.",
    ),
    sources=(
        "NIST SP 800-63B-4 section 4.2: account recovery and its notices.",
        "OWASP Forgot Password Cheat Sheet; Okta: threats to account recovery.",
        "USSO account_recovery, credential_recovery and one_time_access; Ory Kratos link_recovery and code_recovery.",
    ),
    triggers=Trigger.START | Trigger.NETWORK | Trigger.DEVICE,
    parameters=RecoveryTakeover(),
    detect=detect,
    needs=("network", "device"),
)
