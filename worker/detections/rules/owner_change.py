"""`owner-change`: one session is claimed by two users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.detections.api import Attack, Detection, Parameters, Scope, Severity, Signal, Trigger

if TYPE_CHECKING:
    from worker.sessions.announcements import ClaimView


class OwnerChange(Parameters):
    """`owner-change` has no parameters."""


def detect(view: ClaimView, _parameters: OwnerChange) -> Signal | None:
    """Name both users; their tenants, too, where the finding is the operator's."""
    first, claim = view.first, view.claim
    if first.tenant_id == claim.tenant_id:
        return Signal(
            subject=claim.user_id,
            summary=f"session is claimed by user {claim.user_id} and was claimed by user {first.user_id} before",
            observed={"user": claim.user_id, "seen": list(claim.names), "owners": view.claimants},
            expected={"user": first.user_id, "seen": list(first.names)},
        )
    return Signal(
        subject=claim.tenant_id,
        summary=(
            f"session is claimed by user {claim.user_id} of tenant {claim.tenant_id} and was claimed by user "
            f"{first.user_id} of tenant {first.tenant_id} before"
        ),
        observed={
            "tenant": claim.tenant_id,
            "user": claim.user_id,
            "seen": list(claim.names),
            "owners": view.claimants,
        },
        expected={"tenant": first.tenant_id, "user": first.user_id, "seen": list(first.names)},
    )


DETECTION = Detection(
    id="owner-change",
    title="Session with two owners",
    description=(
        "One session uid is used for two users of a tenant. A uid belongs to whoever it was issued for; another owner "
        "means that session records are forged or mixed up, or that a token of one user is accepted for another. One "
        "uid in two tenants is nothing by default, since tenants choose their uids; with `correlation.across_tenants` "
        "it is a finding of the operator's tenant, about a broken tenant boundary."
    ),
    severity=Severity.CRITICAL,
    score=99,
    scope=Scope.SESSION,
    attacks=(
        Attack("T1550.004", "Use Alternate Authentication Material: Web Session Cookie"),
        Attack("T1606.001", "Forge Web Credentials: Web Cookies"),
    ),
    false_positives=("A user who was renamed or merged while a session was running.",),
    runbook=(
        "Compare the two owners in the evidence: the same person under two ids is a migration.",
        "Look in the identity provider at whom the session was issued for, and by which client.",
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
