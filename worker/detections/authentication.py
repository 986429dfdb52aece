"""Whether an event authenticates the user anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.sessions.strength import strength

if TYPE_CHECKING:
    from worker.detections.api import View


def is_reauthenticated(view: View) -> bool:
    """Tell whether this event re-authenticates: creation time moves forward, or the strength grows."""
    session = view.session
    if session is None:
        return False
    stronger = session.strength >= 0 and strength(view.context.amr) > session.strength
    return stronger or view.context.created_at > session.created > 0
