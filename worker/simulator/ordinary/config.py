"""Configuration of a simulation of ordinary lives."""

from __future__ import annotations

from dataclasses import dataclass

from worker.simulator.config import DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdinaryConfig:
    """The size of a simulation; equal configurations give equal bytes.

    Attributes:
        seed: of every random draw.
        people: users with a persona of their own; call-centre agents come on top, one for every four.
        days: length of the simulation.
        thefts_per_kind: stolen sessions of every kind, on different users, in the second half.
        start_ms: event time of the first day's midnight, UTC.
    """

    seed: int = 1
    people: int = 300
    days: int = 56
    thefts_per_kind: int = 6
    start_ms: int = 1_746_403_200_000  # 2025-05-05, a Monday

    @property
    def end_ms(self) -> int:
        """Event time at which the last day ends."""
        return self.day(self.days)

    def day(self, number: float) -> int:
        """Event time at which a day begins; the first is 0."""
        return self.start_ms + int(number * DAY)

    def share(self, share: float) -> int:
        """Event time at a share of the simulation, at midnight UTC."""
        return self.day(int(self.days * share))
