"""The rule engine of a tenant: the catalogue as the tenant's policy configures it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from pydantic import ValidationError

from schemas.finding import SCORES, SEVERITIES, Severity
from schemas.policy import DEFAULT_POLICY, DetectionPolicy, TenantPolicy
from worker.detections.api import Detection, Parameters, Scope, Signal, Trigger, View
from worker.detections.evidence import render
from worker.sessions.contracts import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from worker.sessions.announcements import ClaimView, CrowdView

PARTS = ("network", "place", "device", "amr")
"""What of an event may be unknown."""
TIMED = Trigger.EXPIRED | Trigger.ENDED | Trigger.TRAVEL
"""Triggers that only a use of the session at a known time brings about."""


class Rule(NamedTuple):
    """A detection as a tenant's policy runs it."""

    detection: Detection[Any]
    parameters: Parameters
    severity: Severity | None
    shadow: bool


class TenantRuleEngine:
    """Judges events by the detections a policy enables; `worker.sessions.contracts.RuleEngine` is the port it fits.

    Args:
        chosen: the detections in use.
        policy: the tenant's.
        on_failure: called with the id of a detection that raised, and its exception; the event is judged by the
            others. Without it the exception passes through.

    Raises:
        ValueError: the policy overrides a detection or a parameter that does not exist, or to a wrong value.
    """

    def __init__(
        self,
        chosen: Iterable[Detection[Any]],
        policy: TenantPolicy = DEFAULT_POLICY,
        on_failure: Callable[[str, Exception], None] | None = None,
    ) -> None:
        self.policy = policy
        self._on_failure = on_failure
        self._rules = tuple(_rules({each.id: each for each in chosen}, policy))
        self._by_trigger: dict[int, tuple[Rule, ...]] = {}
        self._shadows = frozenset(rule.detection.id for rule in self._rules if rule.shadow)
        self._needing = {
            part: tuple(rule.detection.id for rule in self._rules if part in rule.detection.needs) for part in PARTS
        }
        self._needing["time"] = tuple(rule.detection.id for rule in self._rules if rule.detection.triggers & TIMED)
        self.triggers = 0
        for rule in self._rules:
            self.triggers |= int(rule.detection.triggers)

    def __call__(self, view: View) -> list[Verdict]:
        """Ask every detection that listens to one of the view's triggers."""
        verdicts: list[Verdict] = []
        if not view.verdicts:
            view.verdicts = verdicts
        for rule in self._listeners(int(view.trigger)):
            try:
                signal = rule.detection.detect(view, rule.parameters)
                if signal is not None:
                    verdicts.append(_verdict(rule, signal, view))
            except Exception as error:  # noqa: BLE001  of a plug-in, anything
                self._failed(rule, error)
        return verdicts

    def _failed(self, rule: Rule, error: Exception) -> None:
        if self._on_failure is None:
            raise error
        self._on_failure(rule.detection.id, error)

    def evaluate_claim(self, view: ClaimView) -> list[Verdict]:
        """Ask about a uid that somebody else claimed before."""
        return self._evaluate_correlation(view, int(Trigger.CLAIM), view.session_uid)

    def evaluate_crowd(self, view: CrowdView) -> list[Verdict]:
        """Ask about the arrivals on a network."""
        return self._evaluate_correlation(view, int(Trigger.ARRIVAL), "")

    def _evaluate_correlation(self, view: ClaimView | CrowdView, trigger: int, session_uid: str) -> list[Verdict]:
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
        """Return the detections that cannot do without `network`, `place`, `device`, `amr` or the `time` of use."""
        return self._needing[part]

    def is_first_party(self, user_agent: str) -> bool:
        """Tell whether a user agent is one of the tenant's own clients."""
        return self.policy.is_first_party(user_agent)

    def is_shadow(self, uid: str) -> bool:
        """Tell whether a detection's findings are stored and not alerted."""
        return uid in self._shadows

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
        raise ValueError(f"{field}: {first['msg'].removeprefix('Value error, ')}") from None


def _weight(rule: Rule, signal: Signal) -> tuple[int, int]:
    """Return severity and score of a signal, by policy."""
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
    return Verdict(
        detection.id,
        view.context.uid if detection.scope is Scope.SESSION else "",
        signal.subject,
        *_weight(rule, signal),
        signal.summary,
        render(signal, view),
        (*signal.suppressed_by, *_suppressors(rule, view)),
        signal.before,
    )


def _suppressors(rule: Rule, view: View) -> tuple[str, ...]:
    """Return why the tenant's own lists take the network's side."""
    policy = view.policy
    if rule.detection.invariant or not (policy.allowed_networks or policy.allowed_asns):
        return ()
    return ("allowed-network",) if view.is_allowed() else ()


_AS_IS = DetectionPolicy()
