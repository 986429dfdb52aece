"""What the pipeline reads: records become events, and events are enriched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from schemas.decoding import Decoder
from schemas.event import SessionEvent
from worker.pipeline.ports import ahead_of

if TYPE_CHECKING:
    from schemas.decoding import Ignored, Rejected
    from worker.enrich.model import Enrichment
    from worker.pipeline.ports import Record


class EventEnricher(Protocol):
    """Looks up network, place and device."""

    def enrich(self, ip: str, location: str | None, user_agent: str) -> Enrichment:
        """Return what is known; unknown parts are values."""


class EventReader(Protocol):
    """Turns records into enriched events.

    Attributes:
        may_repeat: the same record may be read again, so that its offset has to be compared with the state's.
    """

    may_repeat: bool

    def decode(self, record: Record) -> SessionEvent | Ignored | Rejected:
        """Return the event that a record holds."""

    def enrich(self, record: Record, event: SessionEvent) -> Enrichment:
        """Return network, place and device of a record's event."""


class KafkaReader:
    """Reads records as they come from Kafka: decodes their bytes and enriches their events.

    Args:
        enricher: networks, places and devices.
        decoder: of the input's records.
    """

    may_repeat = True

    def __init__(self, enricher: EventEnricher, decoder: Decoder | None = None) -> None:
        self._enrich = enricher.enrich
        self._decode = (decoder or Decoder()).decode

    def decode(self, record: Record) -> SessionEvent | Ignored | Rejected:
        """Decode a record."""
        event = self._decode(record.value, record.timestamp, record.headers)
        if record.headers and isinstance(event, SessionEvent) and (ahead := ahead_of(record)):
            return msgspec.structs.replace(event, future_by=max(event.future_by, ahead))
        return event

    def enrich(self, record: Record, event: SessionEvent) -> Enrichment:  # noqa: ARG002  the event says it all
        """Enrich an event."""
        return self._enrich(event.ip, event.location, event.user_agent)
