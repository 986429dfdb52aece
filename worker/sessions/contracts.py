"""What a detection is shown of an event: the event, and everything known *before* it."""

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
"""The suppressor of what was raised before for the same user and value."""
COVERED_BY = "covered-by-"
"""What the suppressor begins with of a finding that says no more than another one of the same event."""


class Trigger(IntFlag):
    """What is noteworthy about an event; a detection runs only on events that bear one of its triggers."""

    START = 1
    """The first event of a session (not a deletion)."""
    NETWORK = 2
    """Another address than the session's last of the same family, or another family."""
    PLACE = 4
    """Another place than the session's last."""
    DEVICE = 8
    """Another device than the session's last."""
    GRANT = 16
    """Other scopes, methods, audience, lifetime, type or creation time than the session's last."""
    EXPIRED = 32
    """Activity later than the session's sliding expiry plus skew."""
    ENDED = 64
    """The session was deleted before."""
    TRAVEL = 128
    """Activity elsewhere than the user's last activity at a place of the user's own."""
    CLOCK = 256
    """A time ahead of the record's own, or a last use before the creation."""
    RISK = 512
    """The findings of this event took the session's risk over the tenant's threshold."""
    CLAIM = 1024
    """Somebody else claimed the session's uid before; the view is a `worker.sessions.correlation.ClaimView`."""
    ARRIVAL = 2048
    """A session began on a network; the view is a `worker.sessions.correlation.CrowdView`."""
    CLIENT = 131072
    """A session began with a client new to its user; the view is a `worker.sessions.announcements.CrowdView`."""
    RATE = 262144
    """Users signed in from a network within an hour; the view is a `worker.sessions.announcements.SurgeView`."""
    DEED = 4096
    """Users of a tenant did the same; the view is a `worker.sessions.announcements.DeedView`."""
    USER_RISK = 65536
    """The findings of this event took the user's risk over the tenant's threshold, or brought another session in."""


def is_allowed(context: Context, policy: TenantPolicy) -> bool:
    """Return whether a policy's lists name the network of a context as trusted."""
    return bool(context.listed & ALLOWED) or policy.allows(context.network.ip, context.network.asn)


class View(msgspec.Struct, gc=False):
    """One event as a detection sees it. Detections read it and never change it.

    Attributes:
        kind: `created`, `refreshed`, `changed` or `deleted`.
        now: event time, milliseconds. `activity`: when the user acted; 0 when it is no activity.
        context: the event's own context (network, place, device, grant).
        session: the session before this event; None when it is new.
        before: the session's last context; None when it is new.
        same_family: the session's last context of the event's address family; None when there is none.
        user: the fold before this event.
        contexts: what `Session.context`, `Profile.place` and the like refer to.
        verdicts: what the event was found to be: all of it with the trigger `RISK`, and for detections that sum up.
        risk: with the triggers `RISK` and `USER_RISK`, what the session's or the user's came to.
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
        """How strong the authentication of the event was, see `schemas.vocabulary`.

        An empty list on a refresh tells nothing: nobody authenticates then. At the start of a session it says none.
        """
        if self.session is not None and not self.context.amr:
            return UNKNOWN
        return self.policy.vocabulary.strength(self.context.amr)

    @property
    def session_class(self) -> SessionClass:
        """The class of the session's type; of the type last told, where the event omits it."""
        told = self.context.session_type or (self.before and self.before.session_type)
        return self.policy.vocabulary.session_class(told or None)

    def is_new_class(self) -> bool:
        """Return whether the user never had a session of this class; False while none is known of the user."""
        types, vocabulary = self.user.baseline.types, self.policy.vocabulary
        known = {vocabulary.session_class(word) for word in types if word}
        if known:
            return self.session_class not in known
        # Types were never told: the user is a person where any device was one for people.
        return bool(types) and any(is_interactive(key) for key in self.user.baseline.devices)

    def is_machine(self) -> bool:
        """Return whether no person holds the session: its type says so, and the user is no person as far as is known.

        Whoever writes a session's type must not switch off what is asked of people.
        """
        return self.session_class is SessionClass.MACHINE and not self.is_new_class()

    @property
    def revoked_at(self) -> int:
        """When the session was deleted before this event; 0 if it was not."""
        return self.session.ended if self.session else self.user.revoked_at(self.context.uid)

    def is_allowed(self, context: Context | None = None) -> bool:
        """Return whether the tenant's lists name the network of a context (the event's by default) as trusted."""
        return is_allowed(context or self.context, self.policy)

    def is_denied(self) -> bool:
        """Return whether the tenant's lists name the event's network as denied."""
        network = self.context.network
        return bool(self.context.listed & DENIED) or self.policy.denies(network.ip, network.asn)

    def is_listed(self) -> bool:
        """Return whether the event's network is on the tenant's own threat list."""
        return bool(self.context.listed & LISTED) or self.policy.lists(self.context.network.ip)


class Verdict(msgspec.Struct, frozen=True):
    """A detection's word on one event, ready to be grouped.

    Attributes:
        session_uid: session it is about, or `""` when the finding is about the user.
        severity: index into `schemas.finding.SEVERITIES`. `score`: risk score 0–100.
        evidence: JSON object.
        before: the context it was held against; None when there is none.
        casts_doubt: whether it casts doubt on who holds the session.
        once: key of `Baseline.reported`; 0 when every occurrence is raised.
        joins: whether the user counts among those of the tenant who did the same: one whose habits are known, by a
            client of theirs, on the operator's network of before, in a session nobody has reason to doubt.
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
    """Whoever knows the detections and the tenant's policy."""

    @property
    def policy(self) -> TenantPolicy:
        """The tenant's policy."""

    @property
    def triggers(self) -> int:
        """The triggers any detection listens to."""

    def evaluate_claim(self, view: ClaimView) -> Sequence[Verdict]:
        """Return the verdicts on a uid that somebody else claimed before."""

    def evaluate_crowd(self, view: CrowdView) -> Sequence[Verdict]:
        """Return the verdicts on the arrivals on a network."""

    def evaluate_client(self, view: CrowdView) -> Sequence[Verdict]:
        """Return the verdicts on the users to whom a client is new."""

    def evaluate_rate(self, view: SurgeView) -> Sequence[Verdict]:
        """Return the verdicts on how many users signed in from a network."""

    def evaluate_deed(self, view: DeedView) -> Sequence[Verdict]:
        """Return the verdicts on what users of a tenant did alike on one day."""

    def parameters_of(self, uid: str) -> object | None:
        """Return the parameters of a detection in force, None when the policy disables it."""

    def needing(self, part: str) -> tuple[str, ...]:
        """Return the detections that cannot do without `network`, `place`, `device`, `amr` or the `time` of use."""

    def is_first_party(self, user_agent: str) -> bool:
        """Return whether a user agent is one of the tenant's own clients."""

    def is_shadow(self, uid: str) -> bool:
        """Return whether a detection's findings are stored and not alerted."""

    def is_tenant_wide(self, uid: str) -> bool:
        """Return whether a detection's findings are written by the correlation stage."""

    def __call__(self, view: View) -> Sequence[Verdict]:
        """Return the verdicts on an event."""
