"""The callbacks of the stream layer, and the view of a running worker that pages and gauges read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from faust.types import TP

    from worker.pipeline.ports import BatchResult, Record


class StreamObserver:
    """Callbacks of the stream layer, called in the event loop; override those of interest."""

    def on_batch(self, tp: TP, records: int, seconds: float, result: BatchResult) -> None:
        """Called when records of a topic-partition were processed, with the seconds it took."""

    def on_timers(self, partition: int, seconds: float, result: BatchResult) -> None:
        """Called when timers of a partition changed something, with the seconds it took."""

    def on_insert(self, rows: Mapping[str, int], record_times: Sequence[int]) -> None:
        """Called when rows are durable: their number by table, and the oldest record time of each batch, ms."""

    def on_commit(self, tp: TP, offset: int) -> None:
        """Called when everything before `offset` is committed."""

    def on_lag(self, tp: TP, records: int) -> None:
        """Called with the number of records of an input partition that are not durable yet."""

    def on_watermark_lag(self, milliseconds: int) -> None:
        """Called with the group's watermark lag, in milliseconds."""

    def on_assigned(self, partitions: Iterable[int]) -> None:
        """Called with the partitions that are processed from now on, to the exclusion of all others."""

    def on_restored(self, states: int, seconds: float) -> None:
        """Called when the state of the assigned partitions was recovered, with its number of keys."""

    def on_oversize(self, topic: str, size: int) -> None:
        """Called when a message was published without its value, because it was too large."""

    def on_poison(self, record: Record, error: Exception) -> None:
        """Called when the processor failed on a record, which became a dead letter."""


class ReadableShard(Protocol):
    """The state of one partition, to be read."""

    def get(self, key: bytes) -> bytes | None:
        """Return the state of a key, None when there is none."""

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys and states."""

    def __len__(self) -> int:
        """Count the keys."""


class ObservedWorker(Protocol):
    """A running worker, to be read; Faust's own parts (`page`, `web`, `router`, `http_client`) are untyped."""

    delivery: Any
    settings: Any
    router: Any
    http_client: Any
    page: Any
    web: Any

    @property
    def problems(self) -> list[str]:
        """Why the worker is not ready; empty when it is."""

    def clock(self) -> int:
        """Return milliseconds since the epoch."""
