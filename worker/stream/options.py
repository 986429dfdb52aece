"""Options of the stream layer; `worker.apps.build` derives them from the settings."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Literal

import msgspec

from worker.stream.inflight import DeliveryLimits

TABLE = "user-state"


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the stream layer.

    Attributes:
        kafka: aiokafka connection options.
        group: consumer group, and prefix of the changelog's name.
        events: topic of events.
        sources: further topics of events.
        by_user: topic of forwarded events.
        starts: topic of session starts, for the correlation stage; `""` for none.
        findings: topic of findings, which the pipeline publishes and consumes; `""` for none.
        feedback: topic of feedback on findings; `""` for none.
        dlq: topic of dead letters.
        policies: topic of tenant policies.
        partitions: of `events`, `by_user` and the changelog, each.
        replication: of the changelog, if the worker creates it.
        session_timeout: seconds without heartbeat after which the group expels this worker.
        fetch_wait: seconds a broker may delay a fetch response while it has no records.
        commit_interval: seconds between commits.
        batch_records: most records of a batch.
        fetch_bytes: most bytes fetched of a partition at once.
        buffered_batches: batches that wait for the agent.
        limits: bounds of the delivery.
        timer_interval: seconds between two rounds of timers.
        timer_clock: which time fires timers: `wall`, held back by the group's watermark, or `stream`, event time, which
            does not pass before the end of the input: see `Timers.fire_last`.
        lag_interval: seconds between two measurements of the lag.
        drain_seconds: how long a rebalance or stop waits for batches in flight before it abandons them.
        state_dir: directory of the RocksDB state; None keeps state in memory.
        web: whether the web server runs.
        web_bind: address it listens on.
        web_host: name by which other workers reach it.
        web_port: port it listens on.
        web_socket: the socket to listen on instead, bound already.
    """

    kafka: dict[str, Any]
    group: str = "sessionwatch"
    events: str = "auth.sessions"
    sources: tuple[str, ...] = ()
    by_user: str = "auth.sessions.by-user"
    starts: str = ""
    findings: str = ""
    feedback: str = ""
    dlq: str = "auth.sessions.dlq"
    policies: str = "session.policies"
    partitions: int = 4
    replication: int = 1
    session_timeout: float = 10.0
    fetch_wait: float = 0.1
    commit_interval: float = 1.0
    batch_records: int = 2_000
    fetch_bytes: int = 4 << 20
    buffered_batches: int = 4
    limits: DeliveryLimits = DeliveryLimits()
    timer_interval: float = 1.0
    timer_clock: Literal["wall", "stream"] = "wall"
    lag_interval: float = 2.0
    drain_seconds: float = 5.0
    state_dir: Path | None = None
    web: bool = False
    web_bind: str = "127.0.0.1"
    web_host: str = "127.0.0.1"
    web_port: int = 6066
    web_socket: socket.socket | None = None

    def inputs(self) -> list[str]:
        """Return the consumed topics; a record of one may cause records of the next."""
        # Feedback precedes the topic that it is forwarded to.
        return [*self.firsts(), self.by_user, *filter(None, [self.feedback, self.starts, self.findings])]

    def firsts(self) -> list[str]:
        """Return the topics on which events arrive."""
        return [self.events, *self.sources]

    def stages(self) -> list[list[str]]:
        """Return the stages an event passes through, each with its topics, and each making records of the next."""
        return [self.firsts(), *([topic] for topic in (self.by_user, self.starts, self.findings) if topic)]
