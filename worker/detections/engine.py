"""Rule engine of a tenant: the detections, configured by the tenant's policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson
from pydantic import ValidationError

from schemas.finding import SCORES, SEVERITIES, Severity
from schemas.policy import DEFAULT_POLICY, DetectionPolicy, TenantPolicy
from schemas.text import validation_words
from worker.detections.api import Detection, Parameters, Scope, Signal, Trigger, View
from worker.detections.comparison import other_system
from worker.detections.evidence import render
from worker.detections.familiarity import is_known_network
from worker.sessions.baseline import is_clean, is_learned, is_reported, report_key
from worker.sessions.contracts import COVERED_BY, TOLD_BEFORE, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from worker.sessions.announcements import ClaimView, CrowdView, DeedView, SurgeView

PARTS = ("network", "place", "device", "amr")
"""Parts of an event that may be unknown."""
TIMED = Trigger.EXPIRED | Trigger.ENDED | Trigger.TRAVEL
"""Triggers that require a use of the session at a known time."""


class Rule(NamedTuple):
    """A detection as configured by a tenant's policy."""

    detection: Detection[Any]
    parameters: Parameters
    severity: Severity | None
    shadow: bool


class TenantRuleEngine:
    """Evaluates the detections that a policy enables. It implements `worker.sessions.contracts.RuleEngine`.

    Args:
        chosen: the detections in use.
        policy: the tenant's policy.
        on_failure: called with the id of a detection that raised an exception, and the exception; the other detections
            are still evaluated. Without it, the exception propagates.

    Raises:
        ValueError: the policy overrides a detection or a parameter that does not exist, or sets an invalid value.
    """

    def __init__(
        self,
        chosen: Iterable[Detection[Any]],
        policy: TenantPolicy = DEFAULT_POLICY,
        on_failure: Callable[[str, Exception], None] | None = None,
    ) -> None:
        self.policy = policy
        self._on_failure = on_failure
        known = {each.id: each for each in chosen}
        self._rules = tuple(_rules(known, policy))
        # Independent of the policy, so that the writer of a finding never changes.
        self._tenant_wide = frozenset(uid for uid, each in known.items() if each.tenant_wide)
        self._by_trigger: dict[int, tuple[Rule, ...]] = {}
        self._covers = {
            rule.detection.id: rule.detection.covers
            for rule in self._rules
            if rule.detection.covers and not rule.shadow
        }
        self._shadows = frozenset(rule.detection.id for rule in self._rules if rule.shadow)
        self._needing = {
            part: tuple(rule.detection.id for rule in self._rules if part in rule.detection.needs) for part in PARTS
        }
        self._needing["time"] = tuple(rule.detection.id for rule in self._rules if rule.detection.triggers & TIMED)
        self.triggers = 0
        for rule in self._rules:
            self.triggers |= int(rule.detection.triggers)

    def __call__(self, view: View) -> list[Verdict]:
        """Evaluate every detection that has one of the view's triggers."""
        verdicts: list[Verdict] = []
        if not view.verdicts:
            view.verdicts = verdicts
        for rule in self._listeners(int(view.trigger)):
            try:
                signal = rule.detection.detect(view, rule.parameters)
                if signal is not None:
                    verdicts.append(_verdict(rule, signal, view))
            except Exception as error:  # noqa: BLE001  a plug-in may raise anything
                self._failed(rule, error)
        if len(verdicts) > 1:
            self._cover(verdicts)
        return verdicts

    def _cover(self, verdicts: list[Verdict]) -> None:
        """Suppress the verdicts that another verdict on the same event covers, so that one event gives one alert."""
        for number, verdict in enumerate(verdicts):
            covering = next((each for each in verdicts if self._covers_it(each, verdict)), None)
            if covering is not None:
                reasons = (*verdict.suppressed_by, f"{COVERED_BY}{covering.detection}")
                verdicts[number] = msgspec.structs.replace(verdict, suppressed_by=reasons)

    def _covers_it(self, covering: Verdict, verdict: Verdict) -> bool:
        known = verdict.detection in self._covers.get(covering.detection, ())
        return known and Severity.MEDIUM <= covering.severity >= verdict.severity

    def _failed(self, rule: Rule, error: Exception) -> None:
        if self._on_failure is None:
            raise error
        self._on_failure(rule.detection.id, error)

    def evaluate_claim(self, view: ClaimView) -> list[Verdict]:
        """Evaluate the detections for a uid that another user claimed before."""
        return self._evaluate_correlation(view, int(Trigger.CLAIM), view.session_uid)

    def evaluate_crowd(self, view: CrowdView) -> list[Verdict]:
        """Evaluate the detections for the users who appeared on a network."""
        return self._evaluate_correlation(view, int(Trigger.ARRIVAL), "")

    def evaluate_client(self, view: CrowdView) -> list[Verdict]:
        """Evaluate the detections for the users who appeared with a client that is new to them."""
        return self._evaluate_correlation(view, int(Trigger.CLIENT), "")

    def evaluate_rate(self, view: SurgeView) -> list[Verdict]:
        """Evaluate the detections for the number of users who signed in from a network."""
        return self._evaluate_correlation(view, int(Trigger.RATE), "")

    def evaluate_deed(self, view: DeedView) -> list[Verdict]:
        """Evaluate the detections for a change that several users of a tenant made on one day."""
        return self._evaluate_correlation(view, int(Trigger.DEED), "")

    def parameters_of(self, uid: str) -> Parameters | None:
        """Return the parameters in force for a detection; None when the policy disables it."""
        return next((rule.parameters for rule in self._rules if rule.detection.id == uid), None)

    def _evaluate_correlation(
        self, view: ClaimView | CrowdView | DeedView | SurgeView, trigger: int, session_uid: str
    ) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for rule in self._listeners(trigger):
            try:
                signal = rule.detection.detect(view, rule.parameters)
                if signal is not None:
                    verdicts.append(_correlation_verdict(rule, signal, session_uid))
            except Exception as error:  # noqa: BLE001  as above
                self._failed(rule, error)
        return verdicts

    def needing(self, part: str) -> tuple[str, ...]:
        """Return the detections that need a part: `network`, `place`, `device`, `amr`, or the `time` of use."""
        return self._needing[part]

    def is_first_party(self, user_agent: str) -> bool:
        """Return whether a user agent is one of the tenant's own clients."""
        return self.policy.is_first_party(user_agent)

    def is_shadow(self, uid: str) -> bool:
        """Return whether a detection's findings are stored without an alert."""
        return uid in self._shadows

    def is_tenant_wide(self, uid: str) -> bool:
        """Return whether a detection's findings are written by the correlation stage."""
        return uid in self._tenant_wide

    def _listeners(self, trigger: int) -> tuple[Rule, ...]:
        listeners = self._by_trigger.get(trigger)
        if listeners is None:
            asked = (rule for rule in self._rules if int(rule.detection.triggers) & trigger)
            listeners = tuple(sorted(asked, key=lambda rule: rule.detection.sums_up))
            self._by_trigger[trigger] = listeners
        return listeners


def _rules(chosen: Mapping[str, Detection[Any]], policy: TenantPolicy) -> Iterable[Rule]:
    unknown = sorted(set(policy.detections) - set(chosen))
    if unknown:
        raise ValueError(f"detections.{unknown[0]}: there is no such detection")
    for uid, each in chosen.items():
        wish = policy.detections.get(uid, _AS_IS)
        if wish.enabled:
            severity = None if wish.severity is None else Severity(SEVERITIES.index(wish.severity))
            yield Rule(each, _parameters(each, wish), severity, policy.shadow or wish.shadow)


def _parameters(each: Detection[Any], wish: DetectionPolicy) -> Parameters:
    if not wish.parameters:
        return each.parameters  # type: ignore[no-any-return]
    kind = type(each.parameters)
    try:
        return kind.model_validate({**each.parameters.model_dump(), **wish.parameters})  # type: ignore[no-any-return]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(("detections", each.id, "parameters", *map(str, first["loc"])))
        raise ValueError(f"{field}: {validation_words(first['msg'])}") from None


def _weight(rule: Rule, signal: Signal) -> tuple[int, int]:
    """Return severity and score of a signal under the policy."""
    own = rule.detection.severity
    chosen = own if signal.severity is None else signal.severity
    severity = chosen if rule.severity is None else rule.severity
    return int(severity), rule.detection.score if severity == own else SCORES[severity]


def _correlation_verdict(rule: Rule, signal: Signal, session_uid: str) -> Verdict:
    evidence = {"observed": signal.observed, "expected": signal.expected, "suppressed_by": signal.suppressed_by}
    return Verdict(
        rule.detection.id, session_uid, signal.subject, *_weight(rule, signal), signal.summary,
        orjson.dumps(evidence, option=orjson.OPT_SORT_KEYS), signal.suppressed_by, None,
    )  # fmt: skip


def _verdict(rule: Rule, signal: Signal, view: View) -> Verdict:
    detection = rule.detection
    severity, score = _weight(rule, signal)
    once = report_key(detection.id, signal.once) if signal.once else 0
    return Verdict(
        detection.id,
        view.context.uid if detection.scope is Scope.SESSION else "",
        signal.subject,
        severity,
        score,
        signal.summary,
        render(signal, view),
        (*signal.suppressed_by, *_told_before(once, severity, signal, view), *_suppressors(rule, signal, view)),
        signal.before,
        detection.casts_doubt,
        once,
        detection.tenant_wide and _joins(view, signal),
    )


def _told_before(once: int, severity: int, signal: Signal, view: View) -> tuple[str, ...]:
    """Return the suppressor of a finding that was raised before, if it is raised only once."""
    history = view.user.baseline
    if TOLD_BEFORE in signal.suppressed_by or not is_reported(history, once, severity, view.now, view.limits):
        return ()
    is_fresh = view.now - history.reported[once].first < view.limits.quarantine
    return () if signal.renewed and is_fresh else (TOLD_BEFORE,)


def _joins(view: View, signal: Signal) -> bool:
    """Return whether a user counts among those of the tenant who did the same; see `Verdict.joins`.

    An attacker with many stolen sessions, or with accounts created for this purpose, must not count as many users.
    """
    profile, session, context = view.user, view.session, view.context
    doubted = session is None or not is_clean(session, view.now, view.limits) or context.device.scripted
    moved = signal.before is not None and other_system(signal.before.network, context.network)
    elsewhere = moved and not is_known_network(view, context.network)
    return not doubted and not elsewhere and (is_learned(profile.baseline, view.now) or _is_unused(view))


def _is_unused(view: View) -> bool:
    """Return whether the session's record changed without a use of the session: a system of the tenant wrote it.

    The holder of the session, such as an attacker, cannot cause this. So the user's habits need not be known.
    """
    session, before, context = view.session, view.before, view.context
    if session is None or before is None or not 0 < view.activity <= session.activity:
        return False
    return before.network == context.network and before.device == context.device


def _suppressors(rule: Rule, signal: Signal, view: View) -> tuple[str, ...]:
    """Return the suppressor if the event's network, or the one it is compared with, is on a list of trusted ones."""
    policy = view.policy
    if rule.detection.invariant or not (policy.allowed_networks or policy.allowed_asns):
        return ()
    either = view.is_allowed() or (signal.before is not None and view.is_allowed(signal.before))
    return ("allowed-network",) if either else ()


_AS_IS = DetectionPolicy()
