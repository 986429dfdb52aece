"""Scores labelled traffic: recall and precision of each detection, false alarms of each benign class.

The labels come from the simulator; the code of the detections is not used to decide what they should find.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from schemas.finding import SEVERITIES, Activity, Finding, Severity, Status
from worker.apps.collecting import AFTER_MS, BEFORE_MS, AttackTarget, incidents_per_attack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from worker.apps.collecting import Collected

EXAMPLES = 5


class Tally(msgspec.Struct):
    """The figures of one detection.

    Attributes:
        attacks: complete attacks that it should find. `found`: those it found.
        right: findings above informational, not suppressed, that belong to an attack. `wrong`: those that do not.
        by_definition: findings that are not an attack but match the definition, such as a change of country in flight.
        missed, wrongs: examples of each.
    """

    attacks: int = 0
    found: int = 0
    right: int = 0
    by_definition: int = 0
    wrong: int = 0
    missed: list[str] = msgspec.field(default_factory=list)
    wrongs: list[str] = msgspec.field(default_factory=list)

    @property
    def recall(self) -> float | None:
        """Share of the attacks found; None when there were none."""
        return self.found / self.attacks if self.attacks else None

    @property
    def precision(self) -> float | None:
        """Share of right findings among right and wrong ones; None when there were none."""
        judged = self.right + self.wrong
        return self.right / judged if judged else None

    def as_json(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {**msgspec.to_builtins(self), "recall": self.recall, "precision": self.precision}


class BenignTally(msgspec.Struct):
    """Sessions of one benign class, and alerts (medium and above) that they raised."""

    sessions: int = 0
    alerts: int = 0
    detections: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def per_thousand(self) -> float:
        """Alerts per 1,000 sessions."""
        return 1_000 * self.alerts / self.sessions if self.sessions else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {**msgspec.to_builtins(self), "per_thousand": round(self.per_thousand, 3)}


class Evaluation(msgspec.Struct):
    """The result. `total` is over all benign sessions; `incidents` is the mean of attacks on one user that have any."""

    events: int
    detections: dict[str, Tally]
    benign: dict[str, BenignTally]
    total: BenignTally
    incidents: float | None = None

    def below_the_bar(self) -> list[str]:
        """Return the figures that miss the project's targets: recall 0.99, precision 0.98, 0.5 alerts in 1,000."""
        short = [
            f"{uid} recall {each.recall:.3f}"
            for uid, each in self.detections.items()
            if each.recall is not None and each.recall < 0.99
        ]
        short += [
            f"{uid} precision {each.precision:.3f}"
            for uid, each in self.detections.items()
            if each.precision is not None and each.precision < 0.98
        ]
        many = self.total.per_thousand
        return [*short, f"{many:.2f} alerts in 1,000 benign sessions"] if many >= 0.5 else short

    def as_json(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {
            "events": self.events,
            "detections": {uid: tally.as_json() for uid, tally in sorted(self.detections.items())},
            "benign": {name: tally.as_json() for name, tally in sorted(self.benign.items())},
            "total": self.total.as_json(),
            "incidents_per_attack": self.incidents,
        }


def score(collected: Collected, labels: Mapping[str, Any]) -> Evaluation:
    """Compare findings with labels.

    Args:
        collected: the last state of every finding and incident.
        labels: `Simulator.labels()` after the run.
    """
    alive = [each for each in collected.findings.values() if each.activity is not Activity.CLOSE]
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    found = _by_subject(alive)
    for label in labels["attacks"]:
        if label["complete"]:
            _recall(label, found, tallies)
    explained = _Explanations(labels)
    total, benign = BenignTally(len(labels["benign"])), _benign_classes(labels)
    for finding in alive:
        if finding.severity > Severity.INFORMATIONAL and finding.status is not Status.SUPPRESSED:
            _precision(finding, explained, tallies[finding.detection])
            _alarm(finding, explained, benign, total)
    return Evaluation(collected.events, dict(tallies), benign, total, _incidents(collected, labels))


def _incidents(collected: Collected, labels: Mapping[str, Any]) -> float | None:
    """Return incidents per attack, of complete attacks on one user."""
    targets = [
        AttackTarget(tenant, user, label["event_time"], label["until"])
        for label in labels["attacks"]
        if label["complete"] and len(label["users"]) == 1
        for tenant, user in label["users"]
    ]
    return incidents_per_attack(collected.incidents.values(), targets)


def _by_subject(findings: Iterable[Finding]) -> dict[tuple[str, str, str], list[Finding]]:
    """Index findings by (detection, tenant, session) and, with `user:` before it, by user."""
    index: defaultdict[tuple[str, str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.session_uid:
            index[finding.detection, finding.tenant_id, finding.session_uid].append(finding)
        index[finding.detection, finding.tenant_id, f"user:{finding.user_id}"].append(finding)
        for user in _crowd(finding):
            index[finding.detection, finding.tenant_id, f"user:{user}"].append(finding)
    return index


def _crowd(finding: Finding) -> list[str]:
    """Return the users that the evidence of a finding without a user names."""
    if finding.user_id:
        return []
    users: list[str] = orjson.loads(finding.evidence)["observed"].get("users", [])
    return users


def _recall(label: Mapping[str, Any], found: Mapping[Any, list[Finding]], tallies: dict[str, Tally]) -> None:
    for uid in label["expected"]:
        tally = tallies[uid]
        tally.attacks += 1
        if any(_in_time(finding, label) for finding in _candidates(uid, label, found)):
            tally.found += 1
        elif len(tally.missed) < EXAMPLES:
            tally.missed.append(f"{label['attack']}/{label['variant']} {label['instance']} of {label['users'][:1]}")


def _candidates(uid: str, label: Mapping[str, Any], found: Mapping[Any, list[Finding]]) -> Iterator[Finding]:
    for tenant, user in label["users"]:
        yield from found.get((uid, tenant, f"user:{user}"), ())


def _in_time(finding: Finding, label: Mapping[str, Any]) -> bool:
    since: int = label["event_time"] - BEFORE_MS
    until: int = label["until"] + AFTER_MS
    return finding.last_event_time >= since and finding.event_time <= until


class _Explanations:
    """Looks up which labels explain a finding."""

    def __init__(self, labels: Mapping[str, Any]) -> None:
        self._attacks: defaultdict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
        for label in labels["attacks"]:
            for tenant, user in label["users"]:
                self._attacks[tenant, user].append(label)
        self.benign = {(each["tenant_id"], each["session_uid"]): each for each in labels["benign"]}

    def of(self, finding: Finding) -> tuple[bool, bool]:
        """Return whether an attack explains a finding, and whether any attack on that user was in progress."""
        users = [finding.user_id] if finding.user_id else _crowd(finding)
        near = [label for user in users for label in self._attacks[finding.tenant_id, user] if _in_time(finding, label)]
        named = any(finding.detection in label["expected"] or finding.detection in label["allowed"] for label in near)
        return named, bool(near)

    def by_definition(self, finding: Finding) -> bool:
        """Return whether the benign session matches the definition of the detection, with that severity."""
        label = self.benign.get((finding.tenant_id, finding.session_uid))
        highest = label["allowed"].get(finding.detection) if label else None
        return highest is not None and finding.severity <= SEVERITIES.index(highest)


def _precision(finding: Finding, explained: _Explanations, tally: Tally) -> None:
    named, _ = explained.of(finding)
    if named:
        tally.right += 1
    elif explained.by_definition(finding):
        tally.by_definition += 1
    else:
        tally.wrong += 1
        if len(tally.wrongs) < EXAMPLES:
            where = f"{finding.tenant_id}/{finding.user_id} {finding.session_uid}"
            tally.wrongs.append(f"{SEVERITIES[finding.severity]} {where}: {finding.summary}")


def _benign_classes(labels: Mapping[str, Any]) -> dict[str, BenignTally]:
    counts = Counter(name for label in labels["benign"] for name in label["classes"])
    return {name: BenignTally(count) for name, count in counts.items()}


def _alarm(finding: Finding, explained: _Explanations, benign: Mapping[str, BenignTally], total: BenignTally) -> None:
    if finding.severity < Severity.MEDIUM or explained.of(finding)[1]:
        return
    label = explained.benign.get((finding.tenant_id, finding.session_uid))
    for tally in (total, *(benign[name] for name in (label["classes"] if label else ()))):
        tally.alerts += 1
        tally.detections[finding.detection] = tally.detections.get(finding.detection, 0) + 1
