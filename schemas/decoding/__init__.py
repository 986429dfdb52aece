"""Decodes the raw bytes of a record, in every accepted shape, to a `SessionEvent`.

| file | what it does |
|---|---|
| `decode` | decodes a record: a fast path for native snapshots, and one for everything else |
| `document` | parses bytes as JSON: frames, byte order marks, bad encoding, duplicate keys, depth |
| `cloudevents`, `debezium` | open the envelopes |
| `mapping` | reads records of other identity systems by the mappings in `schemas/mappings/` |
| `fields` | normalises values of databases, connectors and clients to those of the schema |
| `results` | the results for records that are not events |
"""

from __future__ import annotations

from schemas.decoding.decode import MAX_BYTES, SKEW, Decoder, decode, rejection
from schemas.decoding.document import MAX_DEPTH
from schemas.decoding.results import Ignored, Rejected, RejectReason

__all__ = ["MAX_BYTES", "MAX_DEPTH", "SKEW", "Decoder", "Ignored", "RejectReason", "Rejected", "decode", "rejection"]
