"""`owner-change`: one session is claimed by two users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger

if TYPE_CHECKING:
    from worker.sessions.announcements import Claimant, ClaimView


class OwnerChange(Parameters):
    """`owner-change` has no parameters."""


def detect(view: ClaimView, _parameters: OwnerChange) -> Signal | None:
    """Return a signal that names both users and, if the finding is the operator's, their tenants."""
    first, claim = view.first, view.claim
    across = first.tenant_id != claim.tenant_id
    severity, reason = (None, "") if across else _weight(view)
    whose, earlier = (_name(each, across=across) for each in (claim, first))
    tenants = [{"tenant": each.tenant_id} if across else {} for each in (claim, first)]
    return Signal(
        severity=severity,
        subject=claim.tenant_id if across else claim.user_id,
        summary=f"session is claimed by {whose} and was claimed by {earlier} before{reason}",
        observed={**tenants[0], "user": claim.user_id, "seen": list(claim.names), "owners": view.claimants},
        expected={**tenants[1], "user": first.user_id, "seen": list(first.names)},
    )


def _name(claimant: Claimant, *, across: bool) -> str:
    return f"user {claimant.user_id} of tenant {claimant.tenant_id}" if across else f"user {claimant.user_id}"


def _weight(view: ClaimView) -> tuple[Severity | None, str]:
    """Return the severity, or None for the detection's own, and the reason for a lower one as text."""
    if view.first.user_id.casefold() == view.claim.user_id.casefold():
        return Severity.LOW, ": the ids differ in letter case alone"
    if view.first.is_temporary and not view.claim.is_temporary:
        return Severity.LOW, ", as a guest's or temporary session"
    return None, ""


DETECTION = Detection(
    id="owner-change",
    title="Session with two owners",
    description=(
        "One session uid is used for two users of a tenant. A uid belongs to the user it was issued for; a second "
        "owner means that session records are forged or mixed up, or that a token of one user is accepted for another. "
        "By default, one uid in two tenants is no finding, because tenants choose their uids. With "
        "`correlation.across_tenants` it is a finding of the operator's tenant, about a broken tenant boundary."
    ),
    severity=Severity.CRITICAL,
    score=99,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),
        Attack("T1606.001", "Forge Web Credentials: Web Cookies"),
    ),
    false_positives=(
        "A user who was renamed or merged while a session was running.",
        "One user under two spellings of an id that differ in letter case (low).",
        "A guest who signs in and keeps the session's uid (low); a system should issue a new one (session fixation).",
    ),
    runbook=(
        "Compare the two owners in the evidence; the same person with two ids means a migration.",
        "Check in the identity provider for which user and client the session was issued.",
        "Revoke the session for both owners; across tenants, treat it as an incident of the platform.",
    ),
    sources=(
        "OWASP ASVS 5.0, V7: a session is bound to one user.",
        "OWASP API Security 2023, API1 and API2: broken object level authorisation and authentication.",
    ),
    triggers=Trigger.CLAIM,
    parameters=OwnerChange(),
    detect=detect,
    invariant=True,
)
