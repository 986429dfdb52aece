"""A simulated world of sign-ins: tenants, people, networks, and attackers with labels.

Everything follows from the seed: the same configuration gives the same bytes. Labels come from what the simulator
did and from the written definitions, never from the detectors' code.
"""

from __future__ import annotations

from worker.simulator.config import SimulatorConfig
from worker.simulator.geo import write_geo
from worker.simulator.profiles import PROFILES, profile
from worker.simulator.traffic import SimEvent, Simulator

__all__ = ["PROFILES", "SimEvent", "Simulator", "SimulatorConfig", "profile", "write_geo"]
