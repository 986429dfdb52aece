"""The interface between state and detections: the view of an event, triggers, verdicts and the rule engine.

A view holds the event and everything that was known *before* it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag
from typing import TYPE_CHECKING, Protocol

import msgspec

from schemas.policy import ALLOWED, DENIED, LISTED, TenantPolicy
from schemas.vocabulary import UNKNOWN, SessionClass
from worker.sessions.baseline import is_interactive
from worker.sessions.limits import Limits
from worker.sessions.state import Context, Contexts, Observation, Profile, Session

if TYPE_CHECKING:
    from worker.sessions.announcements import ClaimView, CrowdView, DeedView, SurgeView


TOLD_BEFORE = "told-before"
"""Suppressor of a finding that was raised before for the same user and value."""
COVERED_BY = "covered-by-"
"""Prefix of the suppressor of a finding that adds nothing to another finding of the same event."""


class Trigger(IntFlag):
    """What is noteworthy about an event. A detection runs only on events with one of its triggers."""

    START = 1
    """The first event of a session (not a deletion)."""
    NETWORK = 2
    """The address, or what is known of its network, differs from the session's last one."""
    PLACE = 4
    """The place differs from the session's last one."""
    DEVICE = 8
    """The device differs from the session's last one."""
    GRANT = 16
    """Scopes, methods, audience, lifetime, type or creation time differ from the session's last ones."""
    EXPIRED = 32
    """The user acted later than the session's expiry plus `Limits.clock_skew`."""
    ENDED = 64
    """The session was deleted before."""
    TRAVEL = 128
    """The user may have acted elsewhere than at the last place that is known to be the user's own."""
    CLOCK = 256
    """A timestamp is ahead of the record's timestamp, or the last use is before the creation."""
    RISK = 512
    """The findings of this event raised the session's risk to the tenant's threshold, or on to `risk.CRITICAL`."""
    CLAIM = 1024
    """Another user claimed the session's uid before; the view is a `worker.sessions.announcements.ClaimView`."""
    ARRIVAL = 2048
    """A session began on a network; the view is a `worker.sessions.announcements.CrowdView`."""
    CLIENT = 131072
    """A session began with a client new to its user; the view is a `worker.sessions.announcements.CrowdView`."""
    RATE = 262144
    """Users signed in from a network within one hour; the view is a `worker.sessions.announcements.SurgeView`."""
    DEED = 4096
    """Several users of a tenant did the same; the view is a `worker.sessions.announcements.DeedView`."""
    USER_RISK = 65536
    """The findings of this event raised the user's risk to the tenant's threshold, or on to `risk.CRITICAL`; or they
    raised this session's risk to `risk.CONTRIBUTION` while the user's risk is at the threshold or above."""


def is_allowed(context: Context, policy: TenantPolicy) -> bool:
    """Return whether the network of a context is on the policy's lists of trusted networks."""
    return bool(context.listed & ALLOWED) or policy.allows(context.network.ip, context.network.asn)


class View(msgspec.Struct, gc=False):
    """One event as a detection sees it. Detections only read it.

    Attributes:
        kind: `created`, `refreshed`, `changed` or `deleted`.
        now: event time, milliseconds. `activity`: when the user acted; 0 when the event is not an activity.
        context: the event's own context (network, place, device, grant).
        session: the session before this event; None when the session is new.
        before: the session's last context; None when the session is new.
        same_family: the session's last context of the event's address family; None when there is none.
        user: the user's profile before this event.
        contexts: the contexts that `Session.context`, `Profile.place` and other references point to.
        verdicts: the verdicts on this event so far; set for the triggers `RISK` and `USER_RISK`, and for detections
            that summarise others.
        risk: risk of the session (trigger `RISK`) or of the user (trigger `USER_RISK`) after these verdicts, 0–100.
    """

    tenant_id: str
    user_id: str
    trigger: Trigger
    kind: str
    now: int
    activity: int
    observation: Observation
    context: Context
    session: Session | None
    before: Context | None
    same_family: Context | None
    user: Profile
    contexts: Contexts
    limits: Limits
    policy: TenantPolicy
    verdicts: Sequence[Verdict] = ()
    risk: float = 0.0

    @property
    def strength(self) -> int:
        """Strength of the event's authentication, see `schemas.vocabulary`.

        On a refresh an empty list of methods means unknown, because the user does not authenticate then. At the start
        of a session it means that there was no method.
        """
        if self.session is not None and not self.context.amr:
            return UNKNOWN
        return self.policy.vocabulary.strength(self.context.amr)

    @property
    def session_class(self) -> SessionClass:
        """The class of the session's type. If the event omits the type, the session's last one counts."""
        stated = self.context.session_type or (self.before and self.before.session_type)
        return self.policy.vocabulary.session_class(stated or None)

    def is_new_class(self) -> bool:
        """Return whether the user never had a session of this class; False while no session of the user is known."""
        types, vocabulary = self.user.baseline.types, self.policy.vocabulary
        known = {vocabulary.session_class(word) for word in types if word}
        if known:
            return self.session_class not in known
        # The user's events never stated a type: the user is a person if one of their devices is used by people.
        return bool(types) and any(is_interactive(key) for key in self.user.baseline.devices)

    def is_machine(self) -> bool:
        """Return whether a machine holds the session: its type says so, and the user's sessions so far confirm it.

        A producer that writes another type must not switch off the checks of people.
        """
        return self.session_class is SessionClass.MACHINE and not self.is_new_class()

    @property
    def revoked_at(self) -> int:
        """When the session was deleted, in milliseconds, if that was before this event; else 0."""
        return self.session.ended if self.session else self.user.revoked_at(self.context.uid)

    def is_allowed(self, context: Context | None = None) -> bool:
        """Return whether the network of a context (by default the event's) is on the tenant's lists of trusted ones."""
        return is_allowed(context or self.context, self.policy)

    def is_denied(self) -> bool:
        """Return whether the event's network is on the tenant's lists of denied networks."""
        network = self.context.network
        return bool(self.context.listed & DENIED) or self.policy.denies(network.ip, network.asn)

    def is_listed(self) -> bool:
        """Return whether the event's network is on the tenant's own threat list."""
        return bool(self.context.listed & LISTED) or self.policy.lists(self.context.network.ip)


class Verdict(msgspec.Struct, frozen=True):
    """The result of one detection for one event, before grouping.

    Attributes:
        session_uid: session that the finding is about; `""` when it is about the user.
        severity: index into `schemas.finding.SEVERITIES`. `score`: risk score 0–100.
        evidence: JSON object.
        before: the context that the event was compared with; None when there is none.
        casts_doubt: whether it casts doubt on who holds the session.
        once: key of `Baseline.reported` if the finding is raised once for the user and value; 0 when every occurrence
            is raised.
        joins: whether the user counts among those of the tenant who did the same. This takes a user whose habits are
            known, a client known of them, the same network operator as before, and a session without doubt.
    """

    detection: str
    session_uid: str
    subject: str
    severity: int
    score: int
    summary: str
    evidence: bytes
    suppressed_by: tuple[str, ...]
    before: Context | None
    casts_doubt: bool = True
    once: int = 0
    joins: bool = False


class RuleEngine(Protocol):
    """Rule engine of a tenant: evaluates the detections under the tenant's policy."""

    @property
    def policy(self) -> TenantPolicy:
        """The tenant's policy."""

    @property
    def triggers(self) -> int:
        """Union of the triggers of all detections."""

    def evaluate_claim(self, view: ClaimView) -> Sequence[Verdict]:
        """Return the verdicts on a uid that another user claimed before."""

    def evaluate_crowd(self, view: CrowdView) -> Sequence[Verdict]:
        """Return the verdicts on the users who appeared on a network."""

    def evaluate_client(self, view: CrowdView) -> Sequence[Verdict]:
        """Return the verdicts on the users who appeared with a client that is new to them."""

    def evaluate_rate(self, view: SurgeView) -> Sequence[Verdict]:
        """Return the verdicts on how many users signed in from a network."""

    def evaluate_deed(self, view: DeedView) -> Sequence[Verdict]:
        """Return the verdicts on a change that several users of a tenant made on one day."""

    def parameters_of(self, uid: str) -> object | None:
        """Return the parameters in force for a detection; None when the policy disables it."""

    def needing(self, part: str) -> tuple[str, ...]:
        """Return the detections that need a part: `network`, `place`, `device`, `amr`, or the `time` of use."""

    def is_first_party(self, user_agent: str) -> bool:
        """Return whether a user agent is one of the tenant's own clients."""

    def is_shadow(self, uid: str) -> bool:
        """Return whether a detection's findings are stored without an alert."""

    def is_tenant_wide(self, uid: str) -> bool:
        """Return whether a detection's findings are written by the correlation stage."""

    def __call__(self, view: View) -> Sequence[Verdict]:
        """Return the verdicts on an event."""
