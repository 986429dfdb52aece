"""An incident as plain text, for terminals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from schemas.finding import SEVERITIES
from schemas.incident import IncidentState, Resolution, Side
from schemas.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schemas.incident import Incident, IncidentFinding, Sighting

_RESOLVED = {
    Resolution.QUIET: "nothing more was found",
    Resolution.WITHDRAWN: "late records took its findings back",
    Resolution.FALSE_POSITIVE: "its findings were marked as false positives",
    Resolution.MERGED: "it is part of another incident",
}


def as_line(incident: Incident) -> str:
    """Return an incident on one line."""
    severity = SEVERITIES[incident.severity]
    head = f"{incident.uid}  {_time(incident.started_at)}  {severity:8} {incident.state:8}"
    return printable(f"{head} {_mark(incident)}{incident.title}")


def _mark(incident: Incident) -> str:
    """Return who acknowledged an incident, for its line; empty when nobody did."""
    if not incident.acknowledged_at:
        return ""
    return f"[ack{f' {incident.acknowledged_by}' if incident.acknowledged_by else ''}] "


def as_text(incident: Incident) -> str:
    """Return all of an incident as lines of text, without control characters."""
    return "\n".join(printable(line) for line in _lines(incident))


def _lines(incident: Incident) -> Iterator[str]:
    yield incident.title
    yield ""
    yield f"Incident   {incident.uid}, revision {incident.revision}"
    yield f"State      {_state(incident)}"
    if incident.acknowledged_at:
        by = f" by {incident.acknowledged_by}" if incident.acknowledged_by else ""
        yield f"Acknowledged at {_time(incident.acknowledged_at)} UTC{by}"
    yield f"Severity   {SEVERITIES[incident.severity]}, risk {incident.risk_score} of 100"
    yield f"Time       {_span(incident.started_at, incident.last_event_at)}"
    yield f"Tenant     {incident.tenant_id}"
    yield f"User       {incident.user_id}" if incident.user_id else f"Network    {incident.subject}"
    yield f"Sessions   {', '.join(incident.sessions) or 'none'}"
    yield f"ATT&CK     {', '.join(f'{each.uid} {each.name}' for each in incident.attacks) or 'none'}"
    yield from _section("Who was where", map(_sighting, incident.sightings))
    yield from _section("Timeline", _timeline(incident))
    yield from _section(f"Findings ({incident.finding_count})", map(_finding, _by_severity(incident.findings)))
    yield from _section("Not alerting", map(_finding, _by_severity(incident.suppressed)))
    yield from _section("Not judged", incident.not_judged)
    yield from _section("What to do", _steps(incident))


def _steps(incident: Incident) -> Iterator[str]:
    yield from (f"{n}. {step}" for n, step in enumerate(incident.runbook, 1))
    if incident.state is IncidentState.RESOLVED:
        return
    command = f"sessionwatch feedback {incident.uid}"
    if not incident.acknowledged_at:
        yield f"Acknowledge: `{command} investigating`"
    yield f"False alarm: `{command} false-positive`"


def _by_severity(findings: Iterable[IncidentFinding]) -> list[IncidentFinding]:
    return sorted(findings, key=lambda each: -each.severity)


def _span(first: int, last: int) -> str:
    begin, end = _time(first), _time(last)
    return f"{begin} UTC" if begin == end else f"{begin} to {end} UTC"


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield ""
        yield title
        yield from (f"  {line}" for line in found)


def _state(incident: Incident) -> str:
    if incident.state is not IncidentState.RESOLVED:
        return str(incident.state)
    into = f" ({incident.merged_into})" if incident.merged_into else ""
    return f"resolved at {_time(incident.resolved_at)} UTC: {_RESOLVED[incident.resolution]}{into}"


def _sighting(sighting: Sighting) -> str:
    where = ", ".join(each for each in (sighting.network or sighting.ip, sighting.place, sighting.device) if each)
    side = "unclear" if sighting.side is Side.UNKNOWN else sighting.side
    return f"{side:9}{where or 'nothing is known'}"


def _timeline(incident: Incident) -> Iterator[str]:
    half = len(incident.timeline) // 2
    for number, entry in enumerate(incident.timeline):
        if incident.timeline_omitted and number == half:
            yield f"… {incident.timeline_omitted} entries are left out"
        yield f"{_time(entry.time)}  {SEVERITIES[entry.severity]:13} {entry.text}"


def _finding(finding: IncidentFinding) -> str:
    why = f" [suppressed: {', '.join(finding.suppressed_by)}]" if finding.suppressed_by else ""
    why += " [false positive]" if finding.false_positive else ""
    why += f" [{finding.status}]" if finding.status == "closed" else ""
    times = f" ({finding.count} times)" if finding.count > 1 else ""
    return f"{SEVERITIES[finding.severity]:13} {finding.detection}: {finding.summary}{times}{why}  {finding.uid}"


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
