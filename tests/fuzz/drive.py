"""Records through `decode` and through the pipeline, and what must hold of whatever comes out."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from schemas.decoding import Decoder, Ignored, Rejected
from schemas.event import SessionEvent
from schemas.mappings import builtin
from tests.fuzz.mutate import START
from tests.support.records import TOPICS, Taken
from worker.detections.policies import Policies
from worker.detections.registry import detections
from worker.enrich.enricher import build_enricher
from worker.pipeline.batch import Pipeline
from worker.pipeline.ports import REASON
from worker.pipeline.readers import KafkaReader
from worker.sessions.limits import Limits
from worker.sessions.state import decode_user, is_user
from worker.stream.state_store import MemoryShard

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST = 1 << 16
SLOW_SECONDS = 1.0
"""What a record may take at most of a processor, garbage collection included; the usual is 0.1 ms."""
USERS_KEPT = 20_000


class Driver:
    """Takes records in; raises `AssertionError` for what must not be.

    Attributes:
        outcomes: how many records were accepted, rejected (by reason) and ignored.
        slowest: processor seconds of the slowest record, and the record.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.slowest: tuple[float, bytes] = (0.0, b"")
        self._offset = 0
        self._shard = MemoryShard()
        self._decoder = Decoder(max_bytes=LARGEST, mappings=builtin().values())
        enricher = build_enricher(None, None, cache_size=4096)
        enricher.warm()
        self._pipeline = Pipeline(
            reader=KafkaReader(enricher, self._decoder),
            engine_for=Policies(detections().values()).engine_for,
            topics=TOPICS,
            partition_of=lambda _key: 0,
            limits=Limits(),
            max_bytes=LARGEST,
        )

    def take(self, values: Sequence[bytes]) -> None:
        """Take in records, one by one."""
        for value in values:
            begun = time.process_time()
            self._take(value)
            spent = time.process_time() - begun
            self.slowest = max(self.slowest, (spent, value))
        if len(self._shard) > USERS_KEPT:
            self._shard = MemoryShard()

    def _take(self, value: bytes) -> None:
        timestamp = START + self._offset
        result = self._decoder.decode(value, timestamp)
        outcome = self._pipeline.process(0, [Taken(value, self._offset, timestamp=timestamp)], self._shard)
        self._offset += 1
        # Nothing may depend on which of the two ways a record is decoded.
        assert type(result) is type(self._decoder.decode_slowly(value, timestamp)) or len(value) > LARGEST
        rows, letters = len(outcome.rows.get("session_events", ())), [m for m in outcome.messages if m.topic == "dlq"]
        if isinstance(result, SessionEvent):
            assert result == self._decoder.decode_slowly(value, timestamp)
            self.outcomes["accepted"] += 1
            _check_event(result)
            assert (rows, letters) == (1, [])
        elif isinstance(result, Rejected) and result.row is not None and not letters:
            (forward,) = outcome.messages
            again = Taken(value, self._offset, forward.topic, 0, timestamp, forward.key, forward.headers)
            assert len(self._pipeline.process(0, [again], self._shard).rows["session_events"]) == 1
            self.outcomes["forwarded"] += 1
        elif isinstance(result, Rejected):
            self.outcomes[f"rejected {result.reason}"] += 1
            assert len(letters) == 1
            assert letters[0].value == value
            assert dict(letters[0].headers)[REASON] == result.reason.encode()
            assert len(result.message) < 300
            assert len(result.field) <= 200
        else:
            assert isinstance(result, Ignored)
            self.outcomes["ignored"] += 1
            assert (rows, letters) == (0, [])
        for state in outcome.states.values():
            assert state is None or not is_user(state) or decode_user(state).applied


def _check_event(event: SessionEvent) -> None:
    """Hold an event to what everything after it relies on."""
    assert event.tenant_id
    assert event.user_id
    assert event.session_uid
    texts: tuple[Any, ...] = (event.tenant_id, event.user_id, event.session_uid, event.user_agent, event.location or "",
                              *(event.scopes or ()), *(event.amr or ()), event.meta_data or "")  # fmt: skip
    for text in texts:
        text.encode()
        assert "\0" not in text
    assert 0 < event.event_time < 1 << 63
