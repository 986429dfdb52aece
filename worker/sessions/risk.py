"""Decaying risk, 0–100."""

from __future__ import annotations

CRITICAL = 90.0
"""Risk from which a session is in the wrong hands as good as surely."""

CONTRIBUTION = 60.0
"""Risk from which a session counts as one of those that put its user at risk: a high finding, or two medium ones."""


def decayed(risk: float, elapsed: int, half_life: int) -> float:
    """Return what is left of `risk` after `elapsed` milliseconds, halving every `half_life` milliseconds."""
    return risk * 0.5 ** (max(elapsed, 0) / half_life) if risk else 0.0


def raised(risk: float, score: int) -> float:
    """Add a finding's score to a risk: what was missing to 100 shrinks by the score's share (noisy or)."""
    return risk + (100.0 - risk) * score / 100.0
