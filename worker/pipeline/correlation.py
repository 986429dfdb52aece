"""The correlation stage: turns session starts, announced by uid and by network, into findings across users.

State is kept by tenant, so events of one tenant do not affect the state or findings of another. An operator whose uids
are unique over all tenants can also have them compared across tenants, in a separate state; these findings belong to
the operator's tenant.

Announcements are delivered at least once, after a crash again at other offsets. The state keeps them as a set, so a
repeated announcement changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import DecodeError

from schemas.keys import user_key
from schemas.vocabulary import SessionClass
from worker.detections.evidence import device_name, network_name, place_name
from worker.pipeline.findings import Cause, FindingCollector
from worker.pipeline.ports import BatchResult, Message
from worker.sessions.announcements import Deed, SessionStart, decode_deed, decode_start, encode_deed, encode_start
from worker.sessions.baseline import device_key
from worker.sessions.correlation import (
    CLIENT,
    DEED,
    EVERYWHERE,
    NETWORK,
    UID,
    CorrelationState,
    appear,
    arrive,
    claim,
    decode_correlation,
    encode_correlation,
    share,
)
from worker.sessions.reorder import FindingChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from schemas.event import SessionEvent
    from schemas.policy import TenantPolicy
    from worker.pipeline.ports import Origin, Record, Shard
    from worker.sessions.contracts import RuleEngine
    from worker.sessions.limits import Limits
    from worker.sessions.reorder import StartedSession
    from worker.sessions.state import Context

_DEED_KEY = f"/{DEED}/".encode()
MAX_STARTS = 500
"""Starts of one user within five minutes above which no more are announced. A person does not sign in that often, and
each announcement is kept for days."""


def start_of(
    event: SessionEvent, started: StartedSession, origin: Origin, record_time: int, policy: TenantPolicy
) -> SessionStart:
    """Return the announcement of a session's start that an event caused."""
    context = started.context
    is_temporary = policy.vocabulary.session_class(context.session_type) is SessionClass.TEMPORARY
    names = (network_name(context.network), place_name(context.place), device_name(context.device))
    return SessionStart(
        event.tenant_id, event.user_id, started.uid, started.time, names,
        *started.history[:3], origin, record_time, is_temporary, started.replaces, started.history.is_new_client,
    )  # fmt: skip


def announcements(
    start: SessionStart, context: Context, topic: str, *, is_derived: bool, operator: str = ""
) -> Iterator[Message]:
    """Yield the messages that announce a session's start.

    One under its uid, unless the uid was derived, because then it names its user; one under its network when that is
    public and the user has a baseline, because other users do not count there. Keys begin with a slash, as no user's
    does: tenants have names. With an operator's tenant, one under its uid among all tenants, too. One under its client
    when that is new to its user.
    """
    value = encode_start(start)
    if not is_derived:
        # Escaped, so that a slash in a name cannot give the key of another tenant.
        key = f"/{UID}/".encode() + user_key(start.tenant_id, start.session_uid)
        yield Message(topic, key, value, timestamp=start.record_time)
        if operator:
            key = f"/{EVERYWHERE}/{start.session_uid}".encode()
            yield Message(topic, key, value, timestamp=start.record_time)
    if (start.has_baseline or start.replaces) and context.network.prefix:
        key = f"/{NETWORK}/{context.network.prefix}/{start.tenant_id}".encode()
        yield Message(topic, key, value, timestamp=start.record_time)
    if start.has_baseline and start.is_new_client:
        key = f"/{CLIENT}/".encode() + user_key(start.tenant_id, device_key(context.device))
        yield Message(topic, key, value, timestamp=start.record_time)


def deed_message(deed: Deed, topic: str) -> Message:
    """Return the message that announces a change to a finding, keyed by the change that users of a tenant may share."""
    key = f"/{DEED}/{deed.finding.detection}/".encode() + user_key(deed.tenant_id, deed.finding.subject)
    return Message(topic, key, encode_deed(deed), timestamp=deed.record_time)


class CorrelationStage:
    """Applies announcements to state.

    Args:
        engine_for: returns the rule engine of a tenant.
        findings: topic of findings.
        limits: bounds and times.
        operator: tenant of findings about uids in several tenants; empty: there are none.
        quiet: alerts of one user this close to each other cost an alert budget once, milliseconds.
    """

    def __init__(
        self, engine_for: Callable[[str], RuleEngine], findings: str, limits: Limits, operator: str, quiet: int
    ) -> None:
        self._operator = operator
        self._quiet = quiet
        self._engine_for = engine_for
        self._findings = findings
        self._limits = limits

    def process(self, records: Sequence[Record], shard: Shard) -> BatchResult:
        """Apply announcements of one partition in order; the shard is not changed before everything that can fail."""
        result, states = BatchResult(), dict[bytes, CorrelationState]()
        collector = FindingCollector(result, self._findings, self._engine_for, shard, self._quiet)
        for record in records:
            if record.key is not None and record.value is not None:
                self._apply(record.key, record, states, shard, collector)
        for key, state in states.items():
            result.states[key] = encoded = encode_correlation(state)
            shard.put(key, encoded)
        collector.settle()
        if rows := collector.rows():
            result.rows["findings"] = rows
        result.counters["starts-correlated",] += len(records)
        return result

    def _apply(
        self,
        key: bytes,
        record: Record,
        states: dict[bytes, CorrelationState],
        shard: Shard,
        collector: FindingCollector,
    ) -> None:
        state = states.get(key) or _load(shard.get(key))
        if record.offset <= state.offset:
            return
        states[key] = state
        state.offset = record.offset
        try:
            if key.startswith(_DEED_KEY):
                self._share(key, state, decode_deed(record.value or b""), collector)
            else:
                self._start(key, state, decode_start(record.value or b""), collector)
        except DecodeError:
            # Only workers write to this topic.
            return

    def _start(self, key: bytes, state: CorrelationState, start: SessionStart, collector: FindingCollector) -> None:
        changes = self._changes(key, state, start)
        cause = Cause(start.origin, start.record_time, state.applied)
        for change in changes:
            # All findings of a user are on one partition, whichever stage publishes them.
            own = user_key(change.tenant_id, change.user_id) if change.user_id else key
            collector.add(change, own, cause)

    def _share(self, key: bytes, state: CorrelationState, deed: Deed, collector: FindingCollector) -> None:
        """Publish a user's finding, those of other users that it makes tenant-wide, and the tenant's own."""
        engine = self._engine_for(deed.tenant_id)
        restated, changes = share(state, deed, engine, self._limits)
        for each in restated:
            about, cause = each.deed, Cause(each.deed.origin, each.deed.record_time, state.applied)
            is_material = about is not deed or deed.is_material
            change = FindingChange(about.tenant_id, about.user_id, about.uid, each.activity, each.finding, is_material)
            collector.add(change, about.key, cause, about.after, about.before)
        for change in changes:
            collector.add(change, key, Cause(deed.origin, deed.record_time, state.applied))

    def _changes(self, key: bytes, state: CorrelationState, start: SessionStart) -> list[FindingChange]:
        _, kind, rest = key.decode().split("/", 2)
        if kind == EVERYWHERE:
            operator = self._operator
            return claim(state, start, self._engine_for(operator), self._limits, operator) if operator else []
        engine = self._engine_for(start.tenant_id)
        if kind == UID:
            return claim(state, start, engine, self._limits)
        if kind == CLIENT:
            client = rest.removeprefix(user_key(start.tenant_id, "").decode())
            return appear(state, start, client.replace("%2F", "/").replace("%25", "%"), engine, self._limits)
        network = rest.removesuffix(f"/{start.tenant_id}")
        return arrive(state, start, network, engine, self._limits)


def _load(state: bytes | None) -> CorrelationState:
    return CorrelationState() if state is None else decode_correlation(state)
