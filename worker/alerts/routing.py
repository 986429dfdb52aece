"""Decides which destinations get an incident, and why others do not: pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from schemas.alerting import DAYS, AlertingPolicy, QuietHours, Silence
from schemas.finding import SEVERITIES, Activity
from schemas.incident import Side

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from schemas.incident import Incident
    from worker.alerts.config import AlertSettings, Destination, Route

HARD_INVARIANTS = frozenset({"use-after-revocation", "owner-change"})
CRITICAL_INVARIANTS = frozenset({"session-hijack"})
"""Detections that may ask for revocation when they are critical."""
PEOPLE = frozenset({"slack", "teams", "email", "apprise"})
"""Kinds of destinations that people read: they get digests, and no resolution of an incident that they did not get."""
HELD = PEOPLE | {"pagerduty"}
"""Kinds of destinations that quiet hours hold back."""
CONDITIONAL = PEOPLE | {"pagerduty", "alertmanager", "shared-signals", "revoke"}
"""Kinds of destinations that get a resolution only if they got the incident."""
OWN = ":"
"""Separator between tenant and name in the full name of a tenant's own destination."""
_ASN = re.compile(r"(?i)^AS(\d{1,10})$")


class Routed(NamedTuple):
    """One destination of an incident.

    Attributes:
        left_out: why it is not delivered; empty: it is.
        hold_until: milliseconds since the epoch before which it is not delivered; 0: at once. `reason` says why.
    """

    destination: str
    left_out: str = ""
    hold_until: int = 0
    reason: str = ""


def route(
    incident: Incident,
    settings: AlertSettings,
    policy: AlertingPolicy,
    own: Mapping[str, Destination],
    known: Iterable[str],
    now: int,
) -> list[Routed]:
    """Return where a state of an incident goes.

    Args:
        incident: the state.
        settings: the operator's destinations, routes and silences.
        policy: the tenant's.
        own: the tenant's own destinations by their full names.
        known: destinations that got the incident before; they get its later states as well.
        now: milliseconds since the epoch.
    """
    candidates = {**({} if policy.only_own else _by_routes(incident, settings)), **own}
    known = set(known)
    found = []
    for name, destination in {**candidates, **_known(settings, own, known)}.items():
        if not destination.enabled or (name not in known and not _wants(incident, destination, policy)):
            continue
        silence = "" if name in known else _silenced(incident, (*settings.silences, *policy.silences), now)
        until, reason = (0, "") if silence else _held(incident, kind_of(destination), policy.quiet_hours, now)
        found.append(Routed(name, silence, until, reason))
    return found


def kind_of(destination: Destination) -> str:
    """Return a destination's kind."""
    return str(getattr(destination, "kind", ""))


def may_revoke(incident: Incident) -> bool:
    """Return whether an incident has a finding of a hard invariant, so that a policy may revoke its sessions."""
    return bool(revocable_sessions(incident))


def revocable_sessions(incident: Incident) -> list[str]:
    """Return the sessions of alerting findings that are hard invariants."""
    hard = [each for each in incident.findings if each.is_alert and not each.false_positive and _is_hard(each)]
    return list(dict.fromkeys(each.session_uid for each in hard if each.session_uid))


def _is_hard(finding: object) -> bool:
    detection, severity = getattr(finding, "detection", ""), getattr(finding, "severity", 0)
    critical = severity >= SEVERITIES.index("critical")
    return detection in HARD_INVARIANTS or (detection in CRITICAL_INVARIANTS and critical)


def _known(settings: AlertSettings, own: Mapping[str, Destination], known: set[str]) -> dict[str, Destination]:
    every: dict[str, Destination] = {**settings.destinations, **own}
    return {name: every[name] for name in known if name in every}


def _wants(incident: Incident, destination: Destination, policy: AlertingPolicy) -> bool:
    """Return whether an incident goes to a destination that did not get it before."""
    kind = kind_of(destination)
    if kind == "revoke" and not (policy.revoke and may_revoke(incident)):
        return False
    if incident.activity is Activity.CLOSE and kind in CONDITIONAL:
        return False
    return int(incident.severity) >= destination.severity_id()


def _by_routes(incident: Incident, settings: AlertSettings) -> dict[str, Destination]:
    if not settings.routes:
        return dict(settings.destinations)
    names: list[str] = []
    for each in settings.routes:
        if _route_matches(incident, each):
            names += each.destinations
            if not each.proceed:
                break
    return {name: settings.destinations[name] for name in names}


def _route_matches(incident: Incident, route: Route) -> bool:
    return (
        int(incident.severity) >= SEVERITIES.index(route.min_severity)
        and _tenant_matches(incident.tenant_id, route.tenants)
        and (not route.detections or bool(set(route.detections) & set(incident.detections)))
        and _network_matches(incident, route.networks)
    )


def _tenant_matches(tenant: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(tenant, pattern) for pattern in patterns)


def _network_matches(incident: Incident, networks: Sequence[str]) -> bool:
    return not networks or any(_lies_in(sighting.ip, sighting.asn, networks) for sighting in incident.sightings)


def _is_all_in(incident: Incident, networks: Sequence[str]) -> bool:
    """Return whether all that was seen of others than the user lies in networks: what else came is not silenced."""
    others = [each for each in incident.sightings if each.side is not Side.USER] or incident.sightings
    return not networks or (bool(others) and all(_lies_in(each.ip, each.asn, networks) for each in others))


def _lies_in(ip: str, asn: int, networks: Sequence[str]) -> bool:
    for network in networks:
        named = _ASN.match(network)
        if named and int(named[1]) == asn:
            return True
        if not named and _in_network(ip, network):
            return True
    return False


def _in_network(ip: str, network: str) -> bool:
    try:
        return ip_address(ip) in ip_network(network, strict=False)
    except ValueError:
        return False


def _silenced(incident: Incident, silences: Iterable[Silence], now: int) -> str:
    """Return why an incident is silenced; empty when it is not."""
    at = datetime.fromtimestamp(now / 1000, UTC)
    for each in silences:
        if each.is_active(at) and _is_silenced_by(incident, each):
            return f"silenced until {each.until:%Y-%m-%d %H:%M %Z}: {each.reason}"
    return ""


def _is_silenced_by(incident: Incident, silence: Silence) -> bool:
    return (
        int(incident.severity) <= SEVERITIES.index(silence.max_severity)
        and _tenant_matches(incident.tenant_id, silence.tenants)
        and (not silence.users or incident.user_id in silence.users)
        and (not silence.detections or set(incident.detections) <= set(silence.detections))
        and _is_all_in(incident, silence.networks)
    )


def _held(incident: Incident, kind: str, quiet: Iterable[QuietHours], now: int) -> tuple[int, str]:
    """Return the end of the quiet hours that hold an incident back, and why."""
    if kind not in HELD:
        return 0, ""
    ends = [
        (quiet_until(each, now), each.reason)
        for each in quiet
        if int(incident.severity) <= SEVERITIES.index(each.max_severity)
    ]
    until, reason = max(ends, default=(0, ""))
    return (until, f"quiet hours: {reason}") if until else (0, "")


def quiet_until(quiet: QuietHours, now: int) -> int:
    """Return the end of the current quiet hours, milliseconds; 0 when there are none."""
    zone = ZoneInfo(quiet.timezone)
    local = datetime.fromtimestamp(now / 1000, zone)
    for day in (local.date() - timedelta(days=1), local.date()):
        if DAYS[day.weekday()] not in quiet.days:
            continue
        begin = _local(day.year, day.month, day.day, quiet.start, zone)
        last = day + timedelta(days=quiet.end <= quiet.start)
        end = _local(last.year, last.month, last.day, quiet.end, zone)
        if begin <= local < end:
            return int(end.timestamp() * 1000)
    return 0


def _local(year: int, month: int, day: int, at: time, zone: ZoneInfo) -> datetime:
    return datetime(year, month, day, at.hour, at.minute, at.second, tzinfo=zone)
