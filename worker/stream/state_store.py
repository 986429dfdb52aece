"""The state of the partitions this worker owns: one shard a partition, behind a Faust table store.

The processor uses a shard's `get`, `put`, `pop_due` and `len`. The rest is for the stream layer: `restore` fills a
shard from the changelog, `persist` is called when states are durable in the changelog, and `offset` is the changelog
offset up to which the shard is complete (None: the shard is empty, recover from the beginning).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Protocol

from faust.stores.base import Store

from worker.stream.timers import TimerQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

MAX_TIMERS = 5_000


class DurableShard(Protocol):
    """The state of one partition, and how far it is durable."""

    offset: int | None

    def get(self, key: bytes) -> bytes | None:
        """Return the newest state of a key, None when there is none."""

    def put(self, key: bytes, state: bytes | None) -> None:
        """Set (or with None delete) the state of a key."""

    def pop_due(self, now: int) -> Iterable[bytes]:
        """Return keys whose timer is due at `now`, at most `MAX_TIMERS`; see `TimerQueue.pop_due`."""

    def __len__(self) -> int:
        """Count the keys."""

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys and their newest states."""

    def restore(self, changes: Iterable[tuple[bytes, bytes | None]], offset: int) -> None:
        """Apply changelog records in order; `offset` is the last one's."""

    def restored(self) -> None:
        """Make the shard ready for use after `restore`."""

    def persist(self, states: Mapping[bytes, bytes | None], offset: int) -> None:
        """Called when these states are durable in the changelog, up to `offset`."""

    def clear(self) -> None:
        """Delete everything, on disk as well."""

    def close(self) -> None:
        """Close the shard; the data on disk stays."""


class MemoryShard:
    """A partition's state in a dictionary. A restart recovers it from the changelog.

    Args:
        max_due: most keys that one `pop_due` returns.
    """

    def __init__(self, *, max_due: int = MAX_TIMERS) -> None:
        self.offset: int | None = None
        self._data: dict[bytes, bytes] = {}
        self._max_due = max_due
        self._wheel = TimerQueue(self._data.get)
        self._unqueued = False

    def get(self, key: bytes) -> bytes | None:
        """Return the newest state of a key, None when there is none."""
        return self._data.get(key)

    def put(self, key: bytes, state: bytes | None) -> None:
        """Set (or with None delete) the state of a key."""
        if state is None:
            self._data.pop(key, None)
            self._wheel.cancel(key)
            return
        old = self._data.get(key)
        self._data[key] = state
        self._wheel.schedule(key, old, state)

    def pop_due(self, now: int) -> list[bytes]:
        """Return keys whose timer is due at `now`, at most `max_due`; see `TimerQueue.pop_due`."""
        return self._wheel.pop_due(now, self._max_due)

    def __len__(self) -> int:
        return len(self._data)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys and their newest states, as they are now."""
        return iter(list(self._data.items()))

    def restore(self, changes: Iterable[tuple[bytes, bytes | None]], offset: int) -> None:
        """Apply changelog records in order; `offset` is the last one's."""
        data = self._data
        for key, state in changes:
            self._unqueued = True
            if state is None:
                data.pop(key, None)
            else:
                data[key] = state
        self.offset = offset

    def restored(self) -> None:
        """Schedule the timers, if anything was restored."""
        if not self._unqueued:
            return
        self._unqueued = False
        self._wheel = TimerQueue(self._data.get)
        for key, state in self._data.items():
            self._wheel.schedule(key, None, state)

    def persist(self, states: Mapping[bytes, bytes | None], offset: int) -> None:  # noqa: ARG002  nothing is on disk
        """Record the changelog offset that covers this shard."""
        self.offset = offset

    def clear(self) -> None:
        """Delete everything."""
        self._data.clear()
        self._wheel = TimerQueue(self._data.get)
        self.offset = None

    def close(self) -> None:
        """Do nothing: memory is released with the object."""


class RocksShard:
    """A partition's state in RocksDB (package `rocksdict`), for more state than memory holds.

    The disk is always at a durable point: states and the changelog offset that covers them are written in one atomic
    batch, after the changelog has them. Newer states are in memory until then; a crash loses them, and their records
    are processed again. Otherwise only keys and timer buckets are in memory. The write-ahead log is not synced at each
    batch: after a power loss the disk is at an earlier durable point, and the changelog provides the rest.

    A key that was deleted while this disk was not in use, and whose tombstone is already compacted away, remains; its
    next timer deletes it again.

    Args:
        path: directory of this partition's database; its parents are created.
        max_due: most keys that one `pop_due` returns.
    """

    _OFFSET = b"\x00offset"
    _DATA = b"\x01"

    def __init__(self, path: Path, *, max_due: int = MAX_TIMERS) -> None:
        import rocksdict  # noqa: PLC0415  an optional extra

        self._rocks = rocksdict
        self._path = path
        self._max_due = max_due
        self._ahead: dict[bytes, bytes | None] = {}
        self._wheel = TimerQueue(self.get)
        self._count = 0
        self._unqueued = True
        self.offset: int | None = None
        self._db = self._open()
        self.restored()

    def _open(self) -> Any:
        self._path.mkdir(parents=True, exist_ok=True)
        options = self._rocks.Options(raw_mode=True)
        options.set_max_open_files(256)
        db = self._rocks.Rdict(str(self._path), options)
        stored = db.get(self._OFFSET)
        self.offset = None if stored is None else int(stored)
        return db

    def get(self, key: bytes) -> bytes | None:
        """Return the newest state of a key, None when there is none."""
        if key in self._ahead:
            return self._ahead[key]
        found: bytes | None = self._db.get(self._DATA + key)
        return found

    def put(self, key: bytes, state: bytes | None) -> None:
        """Set (or with None delete) the state of a key, in memory until `persist`."""
        old = self.get(key)
        self._ahead[key] = state
        self._count += (state is not None) - (old is not None)
        if state is None:
            self._wheel.cancel(key)
        else:
            self._wheel.schedule(key, old, state)

    def pop_due(self, now: int) -> list[bytes]:
        """Return keys whose timer is due at `now`, at most `max_due`; see `TimerQueue.pop_due`."""
        return self._wheel.pop_due(now, self._max_due)

    def __len__(self) -> int:
        return self._count

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys and their newest states."""
        for raw, state in self._db.items(from_key=self._DATA):
            if raw[1:] not in self._ahead:
                yield raw[1:], state
        for key, ahead in list(self._ahead.items()):
            if ahead is not None:
                yield key, ahead

    def restore(self, changes: Iterable[tuple[bytes, bytes | None]], offset: int) -> None:
        """Write changelog records in their order, and their last offset, in one atomic batch."""
        changed = list(changes)
        self._unqueued = self._unqueued or bool(changed)
        self._write(changed, offset)

    def restored(self) -> None:
        """Count the keys and schedule their timers, if anything was restored."""
        if not self._unqueued:
            return
        self._unqueued = False
        self._wheel, self._count = TimerQueue(self.get), 0
        for key, state in self.items():
            self._wheel.schedule(key, None, state)
            self._count += 1

    def persist(self, states: Mapping[bytes, bytes | None], offset: int) -> None:
        """Write states and the changelog offset that covers them in one atomic batch."""
        self._write(states.items(), offset)
        for key, state in states.items():
            # A newer state may have been put since; that one is not durable yet.
            if self._ahead.get(key, b"") is state:
                del self._ahead[key]

    def _write(self, changes: Iterable[tuple[bytes, bytes | None]], offset: int) -> None:
        batch = self._rocks.WriteBatch(raw_mode=True)
        for key, state in changes:
            if state is None:
                batch.delete(self._DATA + key)
            else:
                batch.put(self._DATA + key, state)
        batch.put(self._OFFSET, str(offset).encode())
        self._db.write(batch)
        self.offset = offset

    def clear(self) -> None:
        """Delete everything, on disk as well."""
        self.close()
        shutil.rmtree(self._path)
        self._ahead.clear()
        self._db = self._open()
        self._unqueued = True
        self.restored()

    def close(self) -> None:
        """Close the database; states that were not persisted are lost."""
        self._db.close()


class ShardStore(Store):  # type: ignore[misc]  # Faust is untyped
    """Faust table store with one shard a partition.

    Faust asks for `persisted_offset` and passes changelog batches; the agents use `shards` directly, because a Faust
    table sends one changelog message for each write of a key.

    Args:
        make_shard: opens the shard of a partition number.
        changelog: the changelog's topic.
        on_drop: called with the number of a partition that is dropped.
    """

    def __init__(
        self,
        *args: Any,
        make_shard: Callable[[int], DurableShard],
        changelog: str,
        on_drop: Callable[[int], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.shards: dict[int, DurableShard] = {}
        self._make_shard = make_shard
        self._changelog = changelog
        self._on_drop = on_drop
        self._generation = 0

    def open(self, partition: int) -> DurableShard:
        """Return the shard of a partition; open it if it is not open."""
        if partition not in self.shards:
            self.shards[partition] = self._make_shard(partition)
        return self.shards[partition]

    def drop(self, partition: int) -> None:
        """Drop a partition; if it comes back, everything that is not on disk has to be recovered."""
        shard = self.shards.pop(partition, None)
        if shard is not None:
            shard.close()
            self._on_drop(partition)

    async def on_rebalance(
        self,
        assigned: set[Any],
        revoked: set[Any],  # noqa: ARG002  Faust's signature
        newly_assigned: set[Any],  # noqa: ARG002
        generation_id: int = 0,
    ) -> None:
        """Keep the partitions that this worker owned without interruption, drop all others.

        No other worker can have owned a partition between two consecutive generations in which this one owned it. If
        the worker missed a generation (it was frozen or disconnected), its states are recovered.
        """
        mine = {tp.partition for tp in assigned if tp.topic == self._changelog}
        if generation_id != self._generation + 1:
            mine.clear()
        for partition in set(self.shards) - mine:
            self.drop(partition)
        self._generation = generation_id

    def persisted_offset(self, tp: Any) -> int | None:
        """Return the changelog offset up to which this partition is complete here."""
        shard = self.shards.get(tp.partition)
        return shard.offset if shard else None

    def set_persisted_offset(self, tp: Any, offset: int) -> None:
        """Record the changelog offset that covers a partition."""
        self.open(tp.partition).persist({}, offset)

    def apply_changelog_batch(self, batch: Iterable[Any], to_key: Any, to_value: Any) -> None:  # noqa: ARG002  Faust's signature
        """Apply fetched batches of the changelog."""
        for event in batch:
            message = event.message
            changes = ((record.key, record.value) for record in message.value.records if record.key)
            self.open(message.partition).restore(changes, message.offset)

    async def need_active_standby_for(self, tp: Any) -> bool:
        """Return whether a standby on another worker would help."""
        return tp.partition not in self.shards

    def reset_state(self) -> None:
        """Delete everything, on disk as well."""
        for shard in self.shards.values():
            shard.clear()

    async def backup_partition(self, tp: Any, flush: bool = True, purge: bool = False, keep: int = 1) -> None:  # noqa: FBT001, FBT002  Faust's signature
        """Do nothing: the changelog is the backup."""

    def restore_backup(self, tp: Any, latest: bool = True, backup_id: int = 0) -> None:  # noqa: FBT001, FBT002  Faust's signature
        """Do nothing: the changelog is the backup."""

    def _clear(self) -> None:
        self.reset_state()

    def __len__(self) -> int:
        return sum(len(shard) for shard in self.shards.values())

    def __iter__(self) -> Iterator[bytes]:
        return (key for shard in list(self.shards.values()) for key, _ in shard.items())

    def __getitem__(self, key: bytes) -> bytes:
        for shard in self.shards.values():
            if (state := shard.get(key)) is not None:
                return state
        raise KeyError(key)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        raise TypeError("states are put into a partition's shard, by the processor")

    def __delitem__(self, key: bytes) -> None:
        raise TypeError("states are put into a partition's shard, by the processor")
