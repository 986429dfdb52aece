"""Ordinary lives: weeks of benign people and machines, with thefts of some of their sessions.

The traffic of `worker.simulator.traffic` tests the written definitions; this package measures false alerts. It does not
depend on detections: labels say who was attacked and when, and which persona each user has.
"""

from __future__ import annotations

from worker.simulator.ordinary.config import OrdinaryConfig
from worker.simulator.ordinary.traffic import OrdinaryLives

__all__ = ["OrdinaryConfig", "OrdinaryLives"]
