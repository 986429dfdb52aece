"""States of incidents are read and laid out once for all destinations."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.receivers import incident
from worker.alerts.message import Links
from worker.alerts.prepared import PreparedStates, message_of


def test_a_state_is_made_once_and_the_oldest_are_dropped() -> None:
    states = PreparedStates(Links(), capacity=2)
    made = [incident(f"a{number}").message() for number in range(3)]
    first = states.get((0, 0), made[0], 0)
    assert states.get((0, 0), made[0], 0) is first
    states.get((0, 1), made[1], 0)
    states.get((0, 2), made[2], 0)
    assert states.get((0, 0), made[0], 0) is not first


def test_states_left_out_are_named_to_the_destination_that_missed_them_alone() -> None:
    states, document = PreparedStates(Links()), incident("a").message()
    assert any("3 earlier states" in note for note in states.get((0, 0), document, 3).message.notes)
    assert states.get((0, 0), document, 0).message.notes == ()


def test_what_is_no_incident_raises() -> None:
    with pytest.raises(msgspec.MsgspecError):
        PreparedStates(Links()).get((0, 0), b"{}", 0)


def test_an_incident_that_cannot_be_laid_out_in_full_still_has_a_message() -> None:
    broken = msgspec.structs.replace(incident("a"), timeline=(None,))  # type: ignore[arg-type]
    message = message_of(broken, Links())
    assert (message.title, message.changes) == (broken.title, ())
