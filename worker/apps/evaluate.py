"""`evaluate`: the detections against labelled simulated traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.apps.local import local_pipeline
from worker.apps.scoring import run, score

if TYPE_CHECKING:
    from worker.apps.scoring import Evaluation
    from worker.settings import Settings


def evaluate(settings: Settings, *, seed: int, users: int, attacks_per_kind: int) -> Evaluation:
    """Run the catalogue over labelled simulated traffic, without broker and store, and compare it with the labels."""
    from worker.simulator import Simulator, profile  # noqa: PLC0415  an optional extra

    simulator = Simulator(profile("evaluation", seed=seed, users=users, attacks_per_kind=attacks_per_kind))
    with local_pipeline(settings, simulator) as local:
        count, findings = run(simulator.events(), local)
    return score(count, findings, simulator.labels())
