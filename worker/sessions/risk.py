"""Decaying risk, 0–100."""

from __future__ import annotations

CRITICAL = 90.0
"""Risk from which the session is almost certainly used by somebody else than its user."""

CONTRIBUTION = 60.0
"""Risk from which a session counts towards the risk of its user: one high finding, or two medium ones."""


def decayed(risk: float, elapsed: int, half_life: int) -> float:
    """Return `risk` after `elapsed` milliseconds; it halves every `half_life` milliseconds."""
    return risk * 0.5 ** (max(elapsed, 0) / half_life) if risk else 0.0


def raised(risk: float, score: int) -> float:
    """Return a risk with a finding's score added: the distance to 100 shrinks by `score` percent (noisy-or)."""
    return risk + (100.0 - risk) * score / 100.0
