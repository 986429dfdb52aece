"""Collects the findings and incidents of simulated events, each in its last state."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from schemas.finding import Finding, Severity
from schemas.incident import Incident, Resolution
from worker.apps.local import as_records
from worker.pipeline.local import batches

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.pipeline.local import LocalPipeline
    from worker.simulator import SimEvent

BEFORE_MS, AFTER_MS = 60_000, 600_000
"""How long before and after an attack, by event time, a finding or an incident still belongs to it, milliseconds."""
NEVER_WAS: Final = frozenset({Resolution.MERGED, Resolution.WITHDRAWN})
"""Resolutions of incidents that do not count: they became part of another, or their findings were withdrawn."""


class Collected(msgspec.Struct):
    """Findings and incidents by uid, and the number of events."""

    events: int = 0
    findings: dict[str, Finding] = msgspec.field(default_factory=dict)
    incidents: dict[str, Incident] = msgspec.field(default_factory=dict)


class AttackTarget(NamedTuple):
    """The attacked user, and the times of the first and the last malicious event."""

    tenant_id: str
    user_id: str
    since: int
    until: int


def collect(events: Iterable[SimEvent], local: LocalPipeline) -> Collected:
    """Run simulated events through the pipeline; timers fire after every batch, as in a worker."""
    found = Collected()
    for records in batches(as_records(events)):
        for result in (*local.process(records), local.fire_timers(records[-1].timestamp)):
            found.findings.update((finding.uid, finding) for finding in result.findings)
            found.incidents.update((incident.uid, incident) for incident in result.incidents)
        found.events += len(records)
    return found


def incidents_per_attack(incidents: Iterable[Incident], targets: Iterable[AttackTarget]) -> float | None:
    """Return the mean number of incidents of the attacks that have any; None when none has."""
    by_user: defaultdict[tuple[str, str], list[Incident]] = defaultdict(list)
    for incident in incidents:
        if incident.severity >= Severity.MEDIUM and incident.resolution not in NEVER_WAS:
            by_user[incident.tenant_id, incident.user_id].append(incident)
    counts = [
        sum(_overlap(incident, target) for incident in by_user[target.tenant_id, target.user_id]) for target in targets
    ]
    found = [count for count in counts if count]
    return sum(found) / len(found) if found else None


def _overlap(incident: Incident, target: AttackTarget) -> bool:
    return incident.started_at <= target.until + AFTER_MS and incident.last_event_at >= target.since - BEFORE_MS
