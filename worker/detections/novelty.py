"""Checks for what is new to a user at the start of a session. An unknown value is never new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.vocabulary import TWO_FACTORS
from worker.detections.api import Parameters
from worker.detections.familiarity import is_known_device
from worker.enrich.model import NetworkKind, is_anonymiser
from worker.sessions import baseline as history
from worker.sessions.baseline import LEARNED_AFTER, LEARNED_SESSIONS, device_key, network_key
from worker.sessions.contracts import TOLD_BEFORE
from worker.sessions.limits import DAY

if TYPE_CHECKING:
    from worker.detections.api import View
    from worker.sessions.state import Context


class Learning(Parameters):
    """Length of the learning period, in which nothing counts as new. It ends when either limit is reached."""

    sessions: int = LEARNED_SESSIONS
    """Sessions admitted before."""
    days: float = LEARNED_AFTER / DAY
    """Days since the user's first event."""


def is_learned(view: View, learning: Learning) -> bool:
    """Return whether the learning period is over."""
    return history.is_learned(view.user.baseline, view.now, learning.sessions, learning.days * DAY)


def is_new_country(view: View) -> bool:
    """Return whether the country is known, not that of an anonymiser, and new to the user."""
    country = view.context.place.country
    return (
        bool(country) and not is_anonymiser(view.context.network.kind) and country not in view.user.baseline.countries
    )


def is_new_network(view: View) -> bool:
    """Return whether the autonomous system is known and new to the user.

    Relays and satellite networks do not count, because people everywhere share them.
    """
    network = view.context.network
    shared = network.kind in (NetworkKind.RELAY, NetworkKind.SATELLITE)
    return bool(network.asn) and not shared and network_key(network) not in view.user.baseline.networks


def is_new_device(view: View) -> bool:
    """Return whether the combination of browser family, operating system and class is known and new to the user."""
    key = device_key(view.context.device)
    return bool(key) and key not in view.user.baseline.devices


def is_own_sign_in(view: View) -> bool:
    """Return whether the user signed in with two factors and a known device, most likely on a journey."""
    return view.strength >= TWO_FACTORS and is_known_device(view, view.context.device)


def news(view: View) -> list[str]:
    """Return which parts are new: `country`, `network`, `device`."""
    checks = {"country": is_new_country, "network": is_new_network, "device": is_new_device}
    return [name for name, is_new in checks.items() if is_new(view)]


def told_before(view: View) -> tuple[str, ...]:
    """Return the suppressor if another session in quarantine has the same country, network and device.

    So a journey is reported once, not at every sign-in of its first day. If that other session was ended, as a stolen
    one is, the next session is reported again.
    """
    same = _place_network_device(view.context)
    waiting = (view.contexts[each.context] for each in view.user.waiting)
    return (TOLD_BEFORE,) if any(_place_network_device(context) == same for context in waiting) else ()


def _place_network_device(context: Context) -> tuple[str, str, str]:
    return context.place.country, network_key(context.network), device_key(context.device)
