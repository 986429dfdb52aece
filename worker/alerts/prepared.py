"""Incidents and their messages, made once for all destinations that are told at about the same time."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from schemas.incident import decode_incident
from worker.alerts.message import AlertMessage, Links, build_message

if TYPE_CHECKING:
    from schemas.incident import Incident

log = structlog.get_logger(__name__)
CAPACITY = 256
"""States kept: a message in full takes some 20 kB."""


class PreparedState(NamedTuple):
    """A state of an incident, and its message."""

    incident: Incident
    message: AlertMessage


class PreparedStates:
    """The states used last, by their place on the incidents topic.

    Args:
        links: where the links of messages lead.
        capacity: most states kept.
    """

    def __init__(self, links: Links, capacity: int = CAPACITY) -> None:
        self._links = links
        self._capacity = capacity
        self._kept: OrderedDict[tuple[int, int], PreparedState] = OrderedDict()

    def get(self, place: tuple[int, int], document: bytes, replaced: int) -> PreparedState:
        """Return the state that a document holds.

        Args:
            place: its partition and offset.
            document: as it stands there.
            replaced: earlier states that were left out in favour of this one; the message says so.

        Raises:
            msgspec.MsgspecError: the document is no incident.
        """
        found = self._kept.get(place)
        if found is None:
            incident = decode_incident(document)
            found = self._kept[place] = PreparedState(incident, message_of(incident, self._links))
            if len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return found._replace(message=message_of(found.incident, self._links, replaced)) if replaced else found


def message_of(incident: Incident, links: Links, replaced: int = 0) -> AlertMessage:
    """Return the message about an incident, with less in it when it cannot be made in full."""
    try:
        return build_message(incident, links, replaced=replaced)
    except Exception as error:  # noqa: BLE001  no field may keep an alert from going out
        log.error(  # noqa: TRY400  a traceback could show what an incident holds
            "a message could not be made in full", incident=incident.uid, why=repr(type(error))
        )
    trimmed = msgspec.structs.replace(
        incident, timeline=(), sightings=(), attacks=(), not_judged=(), findings=(), started_at=0, last_event_at=0
    )
    return build_message(trimmed, Links(), replaced=replaced)
