"""Scores ordinary lives under several policies: false alerts, the people who get them, and the recall of thefts."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import orjson

from schemas.finding import Activity, Finding, Severity, Status
from worker.apps.collecting import AttackTarget, incidents_per_attack

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.apps.collecting import Collected

DAY_MS: Final = 86_400_000
BEFORE_MS, AFTER_MS = 60_000, 2 * DAY_MS
"""How long before a theft and after its last use an alert on its user counts for it, milliseconds."""
POLICIES: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    "mfa-always": {"mfa": "always"},
    "budget-20": {"alert_budget": 20},
}
"""Policies under which the same lives are replayed, by name."""
ASKED_FOR: Final[dict[str, frozenset[str]]] = {"mfa-always": frozenset({"weak-authentication"})}
"""Detections whose alerts a policy asks for: what it flags is what it is there for, and no false alert."""


class Bar(NamedTuple):
    """The project's targets under a policy."""

    per_thousand_sessions: float = 5.0
    alerted_user_days: float = 0.005
    noisy_users: float = 0.01
    recall: float = 0.95


BARS: Final = {"default": Bar(), "mfa-always": Bar(), "budget-20": Bar(recall=0.9)}


class Exposure(msgspec.Struct):
    """False alerts of the people of one persona or trait."""

    people: int = 0
    alerted: int = 0
    alerts: int = 0


class Recall(msgspec.Struct):
    """Thefts of one kind, and those of them that raised an alert."""

    thefts: int = 0
    found: int = 0


class PolicyReport(msgspec.Struct):
    """The figures of one policy.

    Attributes:
        sessions, user_days, users: benign sessions, days and users; a user-day has at least one event.
        alerts: false alerts, findings of medium and above that no theft explains.
        alerted_days: user-days with a false alert.
        noisy: users with more than one false alert a week on average.
        detections: false alerts by detection.
        exposure: false alerts by persona and by trait.
        thefts: recall by kind of theft.
        incidents: incidents per theft that was found; None when none was.
    """

    sessions: int
    user_days: int
    users: int
    weeks: float
    alerts: int = 0
    alerted_days: int = 0
    noisy: int = 0
    detections: dict[str, int] = msgspec.field(default_factory=dict)
    exposure: dict[str, Exposure] = msgspec.field(default_factory=dict)
    thefts: dict[str, Recall] = msgspec.field(default_factory=dict)
    incidents: float | None = None

    @property
    def per_thousand_sessions(self) -> float:
        """False alerts per 1,000 sessions."""
        return 1_000 * self.alerts / max(self.sessions, 1)

    @property
    def per_thousand_user_days(self) -> float:
        """False alerts per 1,000 user-days."""
        return 1_000 * self.alerts / max(self.user_days, 1)

    @property
    def recall(self) -> float | None:
        """Share of the thefts found; None when there were none."""
        every = sum(each.thefts for each in self.thefts.values())
        return sum(each.found for each in self.thefts.values()) / every if every else None

    def missed_bars(self, bar: Bar) -> list[str]:
        """Return the figures that miss their targets."""
        figures = (
            ("false alerts per 1,000 sessions", self.per_thousand_sessions, bar.per_thousand_sessions),
            (
                "share of user-days with a false alert",
                self.alerted_days / max(self.user_days, 1),
                bar.alerted_user_days,
            ),
            ("share of users with more than one a week", self.noisy / max(self.users, 1), bar.noisy_users),
        )
        short = [f"{what} {value:.4g} (at most {most:g})" for what, value, most in figures if value > most]
        if self.recall is not None and self.recall < bar.recall:
            short.append(f"recall of thefts {self.recall:.3f} (at least {bar.recall:g})")
        return short

    def as_json(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {
            **found,
            "per_thousand_sessions": round(self.per_thousand_sessions, 3),
            "per_thousand_user_days": round(self.per_thousand_user_days, 3),
            "alerted_user_days_share": round(self.alerted_days / max(self.user_days, 1), 5),
            "noisy_users_share": round(self.noisy / max(self.users, 1), 5),
            "recall": self.recall,
        }


def is_alert(finding: Finding) -> bool:
    """Return whether a finding is an alert."""
    return (
        finding.severity >= Severity.MEDIUM
        and finding.status is not Status.SUPPRESSED
        and finding.activity is not Activity.CLOSE
        and not finding.shadow
    )


def judge_lives(policy: str, collected: Collected, labels: Mapping[str, Any]) -> PolicyReport:
    """Compare the findings under a policy with the truth.

    Args:
        policy: its name in `POLICIES`.
        collected: the last state of every finding and incident.
        labels: `OrdinaryLives.labels()` after the run.
    """
    thefts = _thefts_by_user(labels)
    alerts = [finding for finding in collected.findings.values() if is_alert(finding)]
    asked = ASKED_FOR.get(policy, frozenset())
    false = [each for each in alerts if each.detection not in asked and not _about_theft(each, thefts)]
    users = [each for each in labels["users"] if each["days"]]
    report = PolicyReport(
        sessions=labels["sessions"],
        user_days=sum(user["days"] for user in users),
        users=len(users),
        weeks=(labels["end_ms"] - labels["start_ms"]) / (7 * DAY_MS),
        alerts=len(false),
        detections=dict(sorted(Counter(each.detection for each in false).items())),
        thefts=_recall(alerts, labels),
        incidents=incidents_per_attack(collected.incidents.values(), map(_target, labels["attacks"])),
    )
    _add_people(report, false, users)
    return report


def _target(theft: Mapping[str, Any]) -> AttackTarget:
    return AttackTarget(theft["tenant_id"], theft["user_id"], theft["since"], theft["until"])


def users_of(finding: Finding) -> list[tuple[str, str]]:
    """Return the users of a finding; those that the evidence names when the finding has no single user."""
    if finding.user_id:
        return [(finding.tenant_id, finding.user_id)]
    named = orjson.loads(finding.evidence)["observed"].get("users", [])
    return [(finding.tenant_id, user) for user in named]


def _thefts_by_user(labels: Mapping[str, Any]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    thefts: defaultdict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for theft in labels["attacks"]:
        thefts[theft["tenant_id"], theft["user_id"]].append(theft)
    return thefts


def _about_theft(finding: Finding, thefts: Mapping[tuple[str, str], list[Mapping[str, Any]]]) -> bool:
    return any(_in_time(finding, theft) for user in users_of(finding) for theft in thefts.get(user, ()))


def _in_time(finding: Finding, theft: Mapping[str, Any]) -> bool:
    since: int = theft["since"] - BEFORE_MS
    until: int = theft["until"] + AFTER_MS
    return finding.last_event_time >= since and finding.event_time <= until


def _recall(alerts: Iterable[Finding], labels: Mapping[str, Any]) -> dict[str, Recall]:
    """Count a theft as found when an alert names its user, at the time, and its session or no session."""
    by_user: defaultdict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in alerts:
        for user in users_of(finding):
            by_user[user].append(finding)
    found: defaultdict[str, Recall] = defaultdict(Recall)
    for theft in labels["attacks"]:
        tally = found[theft["attack"]]
        tally.thefts += 1
        candidates = by_user[theft["tenant_id"], theft["user_id"]]
        tally.found += any(_finds(finding, theft) for finding in candidates)
    return dict(sorted(found.items()))


def _finds(finding: Finding, theft: Mapping[str, Any]) -> bool:
    return finding.session_uid in ("", theft["session_uid"]) and _in_time(finding, theft)


def _add_people(report: PolicyReport, false: Iterable[Finding], users: Iterable[Mapping[str, Any]]) -> None:
    """Add the false alerts by user-day, noisy user, persona and trait."""
    per_user: Counter[tuple[str, str]] = Counter()
    days = set()
    for finding in false:
        for user in users_of(finding):
            per_user[user] += 1
            days.add((user, finding.event_time // DAY_MS))
    report.alerted_days = len(days)
    report.noisy = sum(count > report.weeks for count in per_user.values())
    for person in users:
        alerts = per_user[person["tenant_id"], person["user_id"]]
        for name in (f"persona:{person['persona']}", *(f"trait:{trait}" for trait in person["traits"])):
            exposure = report.exposure.setdefault(name, Exposure())
            exposure.people += 1
            exposure.alerted += alerts > 0
            exposure.alerts += alerts
