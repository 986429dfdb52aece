"""From the raw bytes of a record to a `SessionEvent`, in every accepted shape. One file a shape.

| file | what it knows |
|---|---|
| `decode` | the way of a record: native snapshots fast, everything else step by step |
| `document` | bytes to a JSON document: frames, byte order marks, bad encoding, doubled keys, depth |
| `cloudevents`, `debezium` | the envelopes |
| `mapping` | records of other identity systems, by the mappings in `schemas/mappings/` |
| `fields` | values as databases, connectors and clients write them, to those of the schema |
| `results` | what comes of a record that is no event |
"""

from __future__ import annotations

from schemas.decoding.decode import MAX_BYTES, SKEW, Decoder, decode, rejection
from schemas.decoding.document import MAX_DEPTH
from schemas.decoding.results import Ignored, Rejected, RejectReason

__all__ = ["MAX_BYTES", "MAX_DEPTH", "SKEW", "Decoder", "Ignored", "RejectReason", "Rejected", "decode", "rejection"]
