"""What the pipeline makes of simulated events: the last state of every finding and incident."""

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
"""How far outside an attack, by event time, a finding or an incident may lie and still be about it."""
NEVER_WAS: Final = frozenset({Resolution.MERGED, Resolution.WITHDRAWN})
"""Resolutions of incidents that are none of their own."""


class Collected(msgspec.Struct):
    """Findings and incidents by uid, and how many events there were."""

    events: int = 0
    findings: dict[str, Finding] = msgspec.field(default_factory=dict)
    incidents: dict[str, Incident] = msgspec.field(default_factory=dict)


class AttackTarget(NamedTuple):
    """Who was attacked, from the first to the last malicious event."""

    tenant_id: str
    user_id: str
    since: int
    until: int


def collect(events: Iterable[SimEvent], local: LocalPipeline) -> Collected:
    """Put simulated events through the pipeline; timers fire after every batch, as they do in a worker."""
    found = Collected()
    for records in batches(as_records(events)):
        for result in (*local.process(records), local.fire_timers(records[-1].timestamp)):
            found.findings.update((finding.uid, finding) for finding in result.findings)
            found.incidents.update((incident.uid, incident) for incident in result.incidents)
        found.events += len(records)
    return found


def incidents_per_attack(incidents: Iterable[Incident], targets: Iterable[AttackTarget]) -> float | None:
    """Return how many incidents there are on average of an attack that has any; None when none has."""
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
