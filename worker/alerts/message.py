"""The message about an incident, as values in plain text; each channel escapes and formats them."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode

from schemas.finding import SEVERITIES, Activity
from schemas.incident import Resolution, Side
from schemas.text import truncate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from schemas.incident import Incident, IncidentFinding, Sighting, TimelineEntry

_SPEED = re.compile(r"[\d,]+ km in [^:]{1,40}: [\d,]+ km/h")
LONGEST = 300
"""Most characters of one text from outside."""
MOST_CHANGES, MOST_FINDINGS, MOST_NAMES = 6, 6, 5
MARGIN_MS = 3_600_000
"""Milliseconds before and after the incident that a linked view shows."""
RESOLUTIONS = {
    Resolution.QUIET: "nothing more was found for the quiet time",
    Resolution.WITHDRAWN: "late records took its findings back",
    Resolution.FALSE_POSITIVE: "its findings were marked as false positives",
    Resolution.MERGED: "it is part of another incident",
}
ACKNOWLEDGED = "ACKNOWLEDGED"
_HEADINGS = {
    Activity.CREATE.name: "New incident",
    Activity.UPDATE.name: "Incident updated",
    ACKNOWLEDGED: "Incident acknowledged",
    Activity.CLOSE.name: "Incident resolved",
}
SIDES = {Side.USER: "the user", Side.INTRUDER: "probably the intruder", Side.UNKNOWN: ""}


class Links(NamedTuple):
    """Targets of links: the address of Grafana, and the address template of another console; empty: no link."""

    grafana: str = ""
    console: str = ""


class Change(NamedTuple):
    """What changed at one moment."""

    time: str
    text: str
    before: str
    after: str


class Link(NamedTuple):
    """A link with its label."""

    label: str
    url: str


class AlertMessage(NamedTuple):
    """A message about one state of one incident.

    Attributes:
        heading: state and severity, such as `New incident, critical`.
        facts: label and value: who, when, where, how sure, what else.
        changes: what changed from what to what, in order of time.
        findings: what was found, one sentence each. `steps`: what to do.
        notes: what the reader should know about this message and its gaps.
        acknowledge: a command that tells others that somebody looks into it; empty when that is known, or over.
        feedback, sql: a command that says that it is a false alarm, and a query for its events.
    """

    id: str
    incident_uid: str
    revision: int
    tenant_id: str
    user_id: str
    severity: str
    risk_score: int
    is_resolved: bool
    heading: str
    title: str
    facts: tuple[tuple[str, str], ...]
    changes: tuple[Change, ...]
    findings: tuple[str, ...]
    steps: tuple[str, ...]
    notes: tuple[str, ...]
    links: tuple[Link, ...]
    acknowledge: str
    feedback: str
    sql: str


def build_message(incident: Incident, links: Links, *, replaced: int = 0) -> AlertMessage:
    """Return the message about a state of an incident.

    Args:
        incident: the state.
        links: where links lead.
        replaced: earlier states that were left out in favour of this one.
    """
    return AlertMessage(
        id=f"{incident.uid}-{incident.revision}",
        incident_uid=incident.uid,
        revision=incident.revision,
        tenant_id=clean(incident.tenant_id),
        user_id=clean(incident.user_id),
        severity=SEVERITIES[incident.severity],
        risk_score=incident.risk_score,
        is_resolved=incident.is_resolved,
        heading=heading(incident),
        title=clean(incident.title),
        facts=tuple(_facts(incident)),
        changes=tuple(map(_change, _shown(incident.timeline))),
        findings=tuple(_findings(incident.findings)),
        steps=tuple(clean(step) for step in incident.runbook),
        notes=tuple(_notes(incident, replaced)),
        links=tuple(_links(incident, links)),
        acknowledge="" if incident.is_resolved or incident.acknowledged_at else _feedback(incident, "investigating"),
        feedback=_feedback(incident, "false-positive"),
        sql=_sql(incident),
    )


def heading(incident: Incident) -> str:
    """Return the state and the severity of an incident in two words."""
    return f"{_HEADINGS[_news(incident)]}, {SEVERITIES[incident.severity]}"


def _news(incident: Incident) -> str:
    is_acknowledged = incident.acknowledged_at and incident.acknowledged_at == incident.detected_at
    return ACKNOWLEDGED if is_acknowledged and incident.activity is Activity.UPDATE else incident.activity.name


def clean(text: str, longest: int = LONGEST) -> str:
    r"""Return text from outside on one line, without control and direction characters, cut when it is long.

    >>> clean("Chrome\n\u202egnp.exe")
    'Chrome gnp.exe'
    """
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " if letter.isspace() else "" for letter in text)
    return truncate(" ".join(text.split()), longest)


def moment(milliseconds: int) -> str:
    """Return a time for people, UTC."""
    try:
        return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return "an unknown time"


def _facts(incident: Incident) -> Iterable[tuple[str, str]]:
    who = incident.user_id or incident.subject or "no single user"
    yield "Who", f"{clean(who)} of tenant {clean(incident.tenant_id)}"
    yield "When", _period(incident)
    if incident.acknowledged_at:
        by = clean(incident.acknowledged_by, 80)
        yield "Acknowledged", f"{moment(incident.acknowledged_at)}{f' by {by}' if by else ''}"
    for label, side in (("Seen as the user", Side.USER), ("Seen as the intruder", Side.INTRUDER)):
        if found := [each for each in incident.sightings if each.side is side]:
            yield label, _several([_place(each) for each in found])
    if not any(each.side is not Side.UNKNOWN for each in incident.sightings):
        yield "Where", _several([_place(each) for each in incident.sightings]) or "unknown"
    if speed := _speed(incident):
        yield "How fast", speed
    yield "How sure", _sureness(incident)
    yield "What else", _else(incident)
    if incident.sessions:
        yield "Sessions", _several([clean(uid, 80) for uid in incident.sessions])
    if incident.attacks:
        yield "ATT&CK", _several([f"{each.uid} {clean(each.name)}" for each in incident.attacks])


def _period(incident: Incident) -> str:
    begin, end = moment(incident.started_at), moment(incident.last_event_at)
    return begin if begin == end else f"{begin} to {end}"


def _speed(incident: Incident) -> str:
    """Return distance, time and speed, if a finding says them: an alerting one, or one that it covers."""
    covered = (each for each in incident.suppressed if each.is_covered)
    found = (_SPEED.search(each.summary) for each in (*incident.findings, *covered))
    return next((clean(match[0], 100) for match in found if match), "")


def _sureness(incident: Incident) -> str:
    alerting = [each for each in incident.findings if each.is_alert]
    kinds = len({each.detection for each in alerting})
    covered = sum(each.is_covered for each in incident.suppressed)
    others = len(incident.suppressed) - covered
    return "; ".join((
        f"risk {incident.risk_score} of 100, from {_count(len(alerting), 'finding')} of {_count(kinds, 'kind')}",
        *((f"{covered} more {'says' if covered == 1 else 'say'} the same",) if covered else ()),
        *((f"{others} more {'does' if others == 1 else 'do'} not alert",) if others else ()),
    ))  # fmt: skip


def _else(incident: Incident) -> str:
    detections = [clean(each, 80) for each in incident.detections]
    parts = [
        _count(incident.finding_count, "finding"),
        _count(len(incident.sessions), "session"),
        _count(len(incident.networks), "network"),
        _count(len(incident.devices), "device"),
        _count(len(incident.places), "place"),
    ]
    return f"{', '.join(parts)}: {_several(detections)}"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _several(texts: Sequence[str]) -> str:
    shown = ", ".join(dict.fromkeys(texts[:MOST_NAMES]))
    return f"{shown} and {len(texts) - MOST_NAMES} more" if len(texts) > MOST_NAMES else shown


def _place(sighting: Sighting) -> str:
    parts = [clean(each) for each in (sighting.place or sighting.country, sighting.network or sighting.ip)]
    parts.append(clean(sighting.device))
    return ", ".join(filter(None, parts)) or "unknown"


def _shown(timeline: Sequence[TimelineEntry]) -> Sequence[TimelineEntry]:
    """Return the entries that are shown: the first, and the last ones."""
    if len(timeline) <= MOST_CHANGES:
        return timeline
    half = MOST_CHANGES // 2
    return [*timeline[:half], *timeline[-half:]]


def _change(entry: TimelineEntry) -> Change:
    return Change(moment(entry.time), clean(entry.what or entry.text), _side(entry.before), _side(entry.after))


def _side(sighting: Sighting | None) -> str:
    if sighting is None:
        return ""
    side = SIDES[sighting.side]
    return f"{_place(sighting)} ({side})" if side else _place(sighting)


def _findings(findings: Sequence[IncidentFinding]) -> Iterable[str]:
    alerting = [each for each in findings if each.is_alert] or list(findings)
    for each in alerting[:MOST_FINDINGS]:
        times = f", {each.count} times" if each.count > 1 else ""
        yield f"{clean(each.title)} ({SEVERITIES[each.severity]}{times}): {clean(each.summary)}"
    if len(alerting) > MOST_FINDINGS:
        yield f"and {len(alerting) - MOST_FINDINGS} more"


def _notes(incident: Incident, replaced: int) -> Iterable[str]:
    if incident.is_resolved:
        yield f"Resolved because {RESOLUTIONS.get(incident.resolution, 'its state says so')}."
    if incident.merged_into:
        yield f"It goes on as incident {clean(incident.merged_into)}."
    if replaced:
        yield f"{_count(replaced, 'earlier state')} of it could not be delivered in time and {_is(replaced)} left out."
    omitted = incident.timeline_omitted + len(incident.timeline) - len(_shown(incident.timeline))
    if omitted:
        yield f"{_count(omitted, 'event')} of the timeline {_is(omitted)} not shown here."
    for each in incident.not_judged[:MOST_NAMES]:
        yield f"Not judged: {clean(each)}"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _links(incident: Incident, links: Links) -> Iterable[Link]:
    if links.grafana:
        yield Link("Session explorer", grafana_url(links.grafana, "sessionwatch-session", incident, "session"))
        yield Link("User and network", grafana_url(links.grafana, "sessionwatch-pivot", incident, ""))
    if links.console:
        named = {"incident": incident.uid, "tenant": incident.tenant_id, "user": incident.user_id}
        yield Link("Console", _filled(links.console, named))


def grafana_url(base: str, dashboard: str, incident: Incident, session: str) -> str:
    """Return the address of a dashboard that shows the user, in the time of the incident."""
    variables = {
        "from": str(incident.started_at - MARGIN_MS),
        "to": str(max(incident.last_event_at, incident.started_at) + MARGIN_MS),
        "var-tenant": incident.tenant_id,
        "var-user": incident.user_id,
    }
    if session and incident.sessions:
        variables["var-session"] = incident.sessions[0]
    return f"{base.rstrip('/')}/d/{dashboard}?{urlencode(variables, errors='replace')}"


def _filled(template: str, named: dict[str, str]) -> str:
    for name, value in named.items():
        template = template.replace(f"{{{name}}}", quote(value, safe="", errors="replace"))
    return template


def _feedback(incident: Incident, verdict: str) -> str:
    return shlex.join(["sessionwatch", "feedback", incident.uid, verdict, "--tenant", clean(incident.tenant_id)])


def commands(message: AlertMessage) -> list[tuple[str, str]]:
    """Return what a reader can do with commands, as question and command."""
    found = [("You look into it?", message.acknowledge), ("False alarm?", message.feedback)]
    return [(question, command) for question, command in found if command]


def _sql(incident: Incident) -> str:
    about = "".join(f"AND {column} = {_quoted(value)} " for column, value in _named(incident))
    return (
        f"SELECT * FROM session_events FINAL WHERE tenant_id = {_quoted(incident.tenant_id)} "  # noqa: S608  a query to show, with its values quoted
        f"{about}AND event_time BETWEEN "
        f"fromUnixTimestamp64Milli(toInt64({incident.started_at - MARGIN_MS})) AND "
        f"fromUnixTimestamp64Milli(toInt64({incident.last_event_at + MARGIN_MS})) ORDER BY event_time"
    )


def _named(incident: Incident) -> list[tuple[str, str]]:
    """Return the columns of `session_events` that tell the events of an incident, with their values."""
    if incident.user_id:
        return [("user_id", incident.user_id)]
    try:
        return [("prefix", str(ip_network(incident.subject)))]
    except ValueError:
        return []


def _quoted(text: str) -> str:
    r"""Return a string literal of ClickHouse's SQL.

    >>> print(_quoted("it's"))
    'it\'s'
    """
    escaped = clean(text).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
