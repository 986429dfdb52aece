"""`evaluate`: measures the detections on labelled simulated traffic, and on ordinary lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson

from worker.apps.collecting import Collected, collect
from worker.apps.lives import BARS, POLICIES, PolicyReport, judge_lives
from worker.apps.local import local_pipeline
from worker.apps.scoring import Evaluation, score
from worker.detections.registry import detections

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from worker.settings import Settings
    from worker.simulator import SimEvent

RECORD_FORMAT = 1


class EvaluationSize(NamedTuple):
    """The amount of simulated traffic.

    Attributes:
        users, attacks_per_kind: size of the traffic that tests the definitions; 0 users: this part is skipped.
        people, days, thefts: size of ordinary lives, with thefts of every kind; 0 people: this part is skipped.
    """

    seed: int
    users: int
    attacks_per_kind: int
    people: int = 300
    days: int = 56
    thefts: int = 6


class Report(msgspec.Struct):
    """The result of an evaluation: against the written definitions, and on ordinary lives by policy."""

    size: EvaluationSize
    definitions: Evaluation | None
    lives: dict[str, PolicyReport]

    def below_the_bar(self) -> list[str]:
        """Return the figures that miss the project's own targets."""
        short = self.definitions.below_the_bar() if self.definitions else []
        for policy, report in self.lives.items():
            short += [f"{policy}: {each}" for each in report.missed_bars(BARS[policy])]
        return short

    def as_json(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {
            **(self.definitions.as_json() if self.definitions else {}),
            "lives": {policy: report.as_json() for policy, report in self.lives.items()},
        }

    def record(self) -> dict[str, Any]:
        """Return the false alerts of every detection, as the documentation quotes them."""
        return {
            "format": RECORD_FORMAT,
            "size": self.size._asdict(),
            "policies": {policy: _recorded(report) for policy, report in self.lives.items()},
        }

    def save(self, path: Path) -> None:
        """Write the record to a file.

        Raises:
            OSError: the file cannot be written.
        """
        path.write_bytes(orjson.dumps(self.record(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _recorded(report: PolicyReport) -> dict[str, Any]:
    return {
        "sessions": report.sessions,
        "user_days": report.user_days,
        "users": report.users,
        "false_alerts": report.alerts,
        "noisy_users": report.noisy,
        "recall": report.recall,
        "detections": {uid: report.detections.get(uid, 0) for uid in sorted({*detections(), *report.detections})},
    }


def evaluate(settings: Settings, size: EvaluationSize) -> Report:
    """Run the catalogue over simulated traffic, without broker and store, and compare it with the labels."""
    definitions = evaluate_definitions(settings, size) if size.users else None
    return Report(size, definitions, evaluate_lives(settings, size) if size.people else {})


def evaluate_definitions(settings: Settings, size: EvaluationSize) -> Evaluation:
    """Compare the findings on labelled attacks and hard benign cases with the written definitions."""
    from worker.simulator import Simulator, profile  # noqa: PLC0415  an optional extra

    simulator = Simulator(
        profile("evaluation", seed=size.seed, users=size.users, attacks_per_kind=size.attacks_per_kind)
    )
    with local_pipeline(settings, simulator.labels()["tenants"]) as local:
        collected = collect(simulator.events(), local)
    return score(collected, simulator.labels())


def evaluate_lives(settings: Settings, size: EvaluationSize) -> dict[str, PolicyReport]:
    """Replay the same ordinary lives under every policy."""
    from worker.simulator.ordinary import OrdinaryConfig, OrdinaryLives  # noqa: PLC0415  an optional extra

    config = OrdinaryConfig(seed=size.seed, people=size.people, days=size.days, thefts_per_kind=size.thefts)
    lives = OrdinaryLives(config)
    events, labels = list(lives.events()), lives.labels()
    tenants = sorted({user["tenant_id"] for user in labels["users"]})
    return {
        name: judge_lives(name, replay_lives(settings, events, dict.fromkeys(tenants, policy)), labels)
        for name, policy in POLICIES.items()
    }


def replay_lives(settings: Settings, events: Sequence[SimEvent], tenants: dict[str, Any]) -> Collected:
    """Run the events of ordinary lives through a new pipeline."""
    with local_pipeline(settings, tenants) as local:
        return collect(events, local)
