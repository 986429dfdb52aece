"""Records as Kafka hands them over, and a pipeline that takes them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import orjson

from schemas.decoding import Decoder
from worker.detections.policies import Policies
from worker.detections.registry import detections
from worker.enrich.enricher import build_enricher
from worker.pipeline.batch import Pipeline
from worker.pipeline.readers import KafkaReader
from worker.sessions.limits import Limits

T0 = 1_790_000_000_000
TOPICS = SimpleNamespace(
    events="events",
    by_user="by-user",
    starts="starts",
    dlq="dlq",
    findings="findings",
    incidents="incidents",
    feedback="feedback",
)
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)


class Taken(NamedTuple):
    value: bytes | None
    offset: int
    topic: str = "events"
    partition: int = 0
    timestamp: int = T0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def session(**changes: Any) -> bytes:
    base = {"uid": "s1", "user_id": "u1", "tenant_id": "acme", "user_agent": CHROME, "ip": "203.0.113.7",
            "created_at": T0, "last_used_at": T0, "max_age_minutes": 60, "location": "Paris, FR",
            "amr": ["otp", "pwd"]}  # fmt: skip
    return orjson.dumps({**base, **changes})


def pipeline(partition_of: Any = lambda _key: 0, engine_for: Any = None, limits: Limits | None = None) -> Pipeline:
    limits = limits or Limits()
    return Pipeline(
        reader=KafkaReader(build_enricher(None, None), Decoder(skew_ms=limits.clock_skew)),
        engine_for=engine_for or Policies(detections().values()).engine_for,
        topics=TOPICS,
        partition_of=partition_of,
        limits=limits,
    )
