"""What the pipeline reads: records become events, and events are enriched."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import msgspec

from schemas.decoding import Decoder, Rejected
from schemas.event import SessionEvent
from worker.pipeline.ports import ahead_of, first_topic, owner_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.decoding import Ignored
    from worker.enrich.model import Enrichment
    from worker.pipeline.ports import Record


class EventEnricher(Protocol):
    """Looks up network, place and device."""

    def enrich(self, ip: str, location: str | None, user_agent: str) -> Enrichment:
        """Return network, place and device; unknown parts are values."""


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
        by_topic: decoders of further input topics.
    """

    may_repeat = True

    def __init__(
        self,
        enricher: EventEnricher,
        decoder: Decoder | None = None,
        by_topic: Mapping[str, Decoder] = MappingProxyType({}),
    ) -> None:
        self._enrich = enricher.enrich
        self._decoder = decoder or Decoder()
        self._by_topic = by_topic

    def decode(self, record: Record) -> SessionEvent | Ignored | Rejected:
        """Decode a record."""
        decoder = self._decoder
        if self._by_topic:
            decoder = self._by_topic.get(first_topic(record), decoder)
        event = decoder.decode(record.value, record.timestamp, record.headers)
        return _forwarded(record, event, decoder) if record.headers else event

    def enrich(self, record: Record, event: SessionEvent) -> Enrichment:  # noqa: ARG002  the event says it all
        """Enrich an event."""
        return self._enrich(event.ip, event.location, event.user_agent)


def _forwarded(
    record: Record, event: SessionEvent | Ignored | Rejected, decoder: Decoder
) -> SessionEvent | Ignored | Rejected:
    """Add to a record's event what a forward's headers say: whose row it was, and that it was ahead of its arrival."""
    if isinstance(event, Rejected) and event.row is not None and (owner := owner_of(record)) is not None:
        event = decoder.deletion_of(event.row, *owner, record.timestamp)
    if isinstance(event, SessionEvent) and (ahead := ahead_of(record)):
        return msgspec.structs.replace(event, future_by=max(event.future_by, ahead))
    return event
