"""What the pipeline reads: records become events, and events are enriched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from schemas.decoding import decode
from worker.sessions.limits import MINUTE

if TYPE_CHECKING:
    from schemas.decoding import Ignored, Rejected
    from schemas.event import SessionEvent
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
        max_bytes: a longer record value is rejected without being parsed.
        clock_skew: how far ahead of its record a time may lie before it is clamped, milliseconds.
    """

    may_repeat = True

    def __init__(self, enricher: EventEnricher, max_bytes: int = 1 << 20, clock_skew: int = MINUTE) -> None:
        self._enrich = enricher.enrich
        self._max_bytes = max_bytes
        self._clock_skew = clock_skew

    def decode(self, record: Record) -> SessionEvent | Ignored | Rejected:
        """Decode a record."""
        return decode(record.value, record_time=record.timestamp, skew_ms=self._clock_skew, max_bytes=self._max_bytes)

    def enrich(self, record: Record, event: SessionEvent) -> Enrichment:  # noqa: ARG002  the event says it all
        """Enrich an event."""
        return self._enrich(event.ip, event.location, event.user_agent)
