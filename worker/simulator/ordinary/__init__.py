"""Ordinary lives: weeks of people and machines who mean no harm, with stolen sessions laid over some of them.

The traffic of `worker.simulator.traffic` tests the written definitions; this measures how often they disturb people.
Nothing here knows a detection: a label says who was attacked and when, and what kind of person each user is.
"""

from __future__ import annotations

from worker.simulator.ordinary.config import OrdinaryConfig
from worker.simulator.ordinary.traffic import OrdinaryLives

__all__ = ["OrdinaryConfig", "OrdinaryLives"]
