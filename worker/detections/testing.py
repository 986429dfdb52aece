"""Test cases of detections, for our tests, `sessionwatch detections test`, and the tests of plug-ins.

A file of cases is YAML. It has `detection` (an id; without it the cases are about ordinary behaviour and no single
detection), `networks` and `devices` (by name, in addition to the common ones below) and `cases`. A case has a `name`,
`events` in order of arrival, and `expect`: the expected findings of this detection (`severity`, and optionally `count`,
`session` or `suppressed_by`), `[]` for none. `none_above` is the highest severity that *any* detection may have. A case
may have its own `networks` and `policy`.

An event has `at` (`5m`, `-2h`, …: its time relative to the start of the case) and `from` (a network). If they differ
from the session's last event, it also has `device`, `session`, `user`, `kind`, `created`, `scopes`, `amr`, `aud`,
`max_age`, `type`, `future_by` or `used` (when the user acted; `null`: the event does not say).

A network has `ip`, `asn`, `org`, `kind`, `place` (`City, CC, latitude, longitude, radius in km`, or only a country
code), `source` of the place (`ip`, or `location` if the event states it), `stated` (a country stated by the event that
contradicts the place) and `threats` (names of threat lists). `like` names a network from which the other values are
taken.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import yaml

from schemas.event import EventKind, SessionEvent, Shape
from schemas.finding import SEVERITIES, Activity
from schemas.policy import TenantPolicy
from schemas.vocabulary import SessionClass
from worker.detections.engine import TenantRuleEngine
from worker.enrich.model import UNKNOWN_DEVICE, UNKNOWN_PLACE, Device, Enrichment, Network, Place
from worker.enrich.networks import is_private, prefix_of
from worker.sessions.announcements import Deed, SessionStart
from worker.sessions.baseline import device_key
from worker.sessions.codec import NEVER
from worker.sessions.correlation import CorrelationState, appear, arrive, claim, share
from worker.sessions.limits import Limits
from worker.sessions.reorder import FindingChange, apply
from worker.sessions.state import decode_user, encode_user, new_user

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from worker.detections.api import Detection
    from worker.sessions.reorder import StartedSession
    from worker.sessions.state import OpenFinding, User

START = 1_790_000_000_000
"""Start time of every case: 2026-09-21T14:13:20Z, in milliseconds since the epoch."""
TENANT = "acme"
_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_OFFSET = re.compile(r"(-?)(\d+(?:\.\d+)?)([smhd])")
COMMON_NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "home": {"ip": "203.0.113.7", "asn": 64500, "org": "Home ISP", "kind": "isp", "place": "Paris, FR, 48.85, 2.35"},
    "home-next": {"ip": "203.0.113.99", "like": "home"},
    "home-other-block": {"ip": "198.18.1.7", "like": "home"},
    "home-v6": {"ip": "2001:db8:1:1::7", "like": "home"},
    "home-v6-privacy": {"ip": "2001:db8:1:1:abcd::9", "like": "home"},
    "office": {"ip": "198.51.100.7", "asn": 64501, "org": "Office", "kind": "isp", "place": "Paris, FR, 48.87, 2.33"},
    "carrier": {"ip": "192.0.2.7", "asn": 64502, "org": "Carrier", "kind": "mobile", "place": "Paris, FR, 48.8, 2.3"},
    "carrier-next": {"ip": "192.0.3.7", "like": "carrier", "place": "Orleans, FR, 48.6, 2.2, 80"},
    "lyon": {"ip": "198.18.5.7", "asn": 64503, "org": "Lyon ISP", "kind": "isp", "place": "Lyon, FR, 45.76, 4.84"},
    "berlin": {"ip": "198.18.6.7", "asn": 64504, "org": "Berlin ISP", "kind": "isp", "place": "Berlin, DE, 52.5, 13.4"},
    "tokyo": {"ip": "198.18.7.7", "asn": 64505, "org": "Tokyo ISP", "kind": "isp", "place": "Tokyo, JP, 35.7, 139.7"},
    "new-york": {
        "ip": "198.18.8.7",
        "asn": 64506,
        "org": "NY ISP",
        "kind": "isp",
        "place": "New York, US, 40.7, -74.0",
    },
    "hosting": {"ip": "198.18.9.7", "asn": 64507, "org": "Cloud", "kind": "hosting", "place": "Dublin, IE, 53.3, -6.3"},
    "hosting-paris": {
        "ip": "198.18.9.7",
        "asn": 64507,
        "org": "Cloud",
        "kind": "hosting",
        "place": "Paris, FR, 48.8, 2.3",
    },
    "vpn": {"ip": "198.18.10.7", "asn": 64508, "org": "VPN", "kind": "vpn", "place": "Reykjavik, IS, 64.1, -21.9"},
    "tor": {"ip": "198.18.11.7", "asn": 64509, "org": "Tor exit", "kind": "tor", "place": "Bucharest, RO, 44.4, 26.1"},
    "relay": {"ip": "198.18.12.7", "asn": 64510, "org": "Relay", "kind": "relay", "place": "Marseille, FR, 43.3, 5.4"},
    "satellite": {
        "ip": "198.18.13.7",
        "asn": 14593,
        "org": "Starlink",
        "kind": "satellite",
        "place": "Madrid, ES, 40.4, -3.7",
    },
    "private": {"ip": "10.1.2.3"},
    "unknown": {"ip": "198.18.14.7"},
    "no-place": {"ip": "198.18.15.7", "asn": 64511, "org": "Placeless ISP", "kind": "isp"},
}
COMMON_DEVICES: Mapping[str, Sequence[Any]] = {
    "laptop": ("Chrome", 131, "Windows", "10", "desktop", False),
    "laptop-upgraded": ("Chrome", 132, "Windows", "11", "desktop", False),
    "laptop-downgraded": ("Chrome", 120, "Windows", "10", "desktop", False),
    "firefox": ("Firefox", 133, "Windows", "10", "desktop", False),
    "mac": ("Chrome", 131, "Mac OS X", "14", "desktop", False),
    "phone": ("Mobile Safari", 17, "iOS", "17", "mobile", False),
    "curl": ("curl", 8, "", "", "script", True),
    "requests": ("Python Requests", 2, "", "", "script", True),
    "unknown": ("", 0, "", "", "", False),
}


class Case(NamedTuple):
    """One case. `events` are ready to be applied, in order of arrival."""

    detection: str
    name: str
    events: tuple[tuple[SessionEvent, Enrichment], ...]
    expect: tuple[Mapping[str, Any], ...]
    none_above: str | None
    policy: TenantPolicy

    @property
    def is_positive(self) -> bool:
        """Whether the case expects a finding of the detection."""
        return bool(self.expect)


class CaseResult(NamedTuple):
    """Result of a case. `problems` is empty when the case passed."""

    case: Case
    problems: tuple[str, ...]


class BadCaseError(ValueError):
    """A file of cases is invalid."""


def milliseconds(offset: str) -> int:
    """Return an offset like `90s`, `-2h` or `1h30m` in milliseconds.

    >>> milliseconds("1h30m"), milliseconds("-5s")
    (5400000, -5000)
    """
    parts = _OFFSET.findall(offset)
    if "".join("".join(part) for part in parts) != offset or not parts:
        raise BadCaseError(f"{offset!r} is not a time like 90s, -2h or 1h30m")
    sign = -1 if parts[0][0] else 1
    return sign * int(sum(float(number) * _UNITS[unit] for _, number, unit in parts))


def shipped_cases() -> Path:
    """Return the folder with the cases of the built-in detections.

    In a wheel it is next to this file (`force-include` in `pyproject.toml`); in the repository it is `tests/cases`.
    """
    packaged = Path(__file__).with_name("cases")
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "tests" / "cases"


def load_cases(path: Path) -> list[Case]:
    """Read a file of cases.

    Raises:
        BadCaseError: the file does not have the format described above.
    """
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
        return [_case(document, case) for case in document["cases"]]
    except (KeyError, TypeError, yaml.YAMLError) as error:
        raise BadCaseError(f"{path.name}: {error!r}") from error


def _case(document: Mapping[str, Any], case: Mapping[str, Any]) -> Case:
    networks = {**COMMON_NETWORKS, **document.get("networks", {}), **case.get("networks", {})}
    devices = {**COMMON_DEVICES, **document.get("devices", {})}
    script = _Script(networks, devices)
    return Case(
        document.get("detection", ""),
        case["name"],
        tuple(script.event(event) for event in case["events"]),
        tuple(case["expect"]),
        case.get("none_above"),
        TenantPolicy.model_validate({**document.get("policy", {}), **case.get("policy", {})}),
    )


class _Script:
    """Builds session events from the events of a case. Omitted values are those of the session's last event."""

    def __init__(self, networks: Mapping[str, Mapping[str, Any]], devices: Mapping[str, Sequence[Any]]) -> None:
        self._networks = networks
        self._devices = devices
        self._last: dict[str, dict[str, Any]] = {}

    def event(self, given: Mapping[str, Any]) -> tuple[SessionEvent, Enrichment]:
        """Return an event and its enrichment."""
        uid = given.get("session", "s1")
        last = self._last.get(uid)
        now = START + milliseconds(given["at"])
        first = {"created": given["at"], "device": "laptop", "max_age": 600}
        whole = {**(first if last is None else last), **given}
        self._last[uid] = {key: value for key, value in whole.items() if key not in ("kind", "future_by", "used")}
        known = Enrichment(*network_of(self._networks, whole["from"]), Device(*self._devices[whole["device"]]))
        kind = given.get("kind", "created" if last is None else "refreshed")
        return make_event(now, uid, known.network.ip, EventKind(kind), whole), known


def network_of(networks: Mapping[str, Mapping[str, Any]], name: str) -> tuple[Network, Place]:
    """Return network and place of a network named in a case."""
    import ipaddress  # noqa: PLC0415  only cases parse addresses here

    given = networks[name]
    while "like" in given:
        given = {**networks[given["like"]], **{key: value for key, value in given.items() if key != "like"}}
    address = ipaddress.ip_address(given["ip"])
    private = is_private(address)
    network = Network(
        str(address),
        address.version,
        "" if private else prefix_of(address),
        given.get("asn", 0),
        given.get("org", ""),
        "private" if private else given.get("kind", ""),
        given.get("threats", ""),
    )
    place = _place(given.get("place"), given.get("source", "ip"))
    return network, msgspec.structs.replace(place, stated_country=given.get("stated", ""))


def _place(text: str | None, source: str) -> Place:
    if not text:
        return UNKNOWN_PLACE
    if "," not in text:
        return Place(text, "", None, None, 0.0, source)
    city, country, latitude, longitude, *radius = (part.strip() for part in text.split(","))
    return Place(country, city, float(latitude), float(longitude), float(radius[0]) if radius else 25.0, source)


def make_event(now: int, uid: str, ip: str, kind: EventKind, given: Mapping[str, Any]) -> SessionEvent:
    """Build a session event.

    Args:
        now: event time, milliseconds; also the time of activity, unless `given["used"]` is another one.
        uid: the session.
        ip: address text.
        kind: what happened.
        given: `tenant`, `user`, `created` (offset), `used` (offset; null: no time of use), `scopes`, `amr`, `aud`,
            `max_age`, `type`, `future_by`.
    """
    deleted = kind is EventKind.DELETED
    used = _time(given["used"]) if "used" in given else now
    scopes, amr = given.get("scopes"), given.get("amr")
    return SessionEvent(
        tenant_id=given.get("tenant", TENANT),
        user_id=given.get("user", "u1"),
        session_uid=uid,
        uid_derived=False,
        kind=kind,
        shape=Shape.SNAPSHOT,
        event_time=now,
        activity_time=used if "used" in given or not deleted else None,
        created_at=_time(given.get("created")),
        updated_at=now,
        last_used_at=used if "used" in given or not deleted else None,
        future_by=int(given.get("future_by", 0)),
        is_deleted=deleted,
        max_age_minutes=given.get("max_age"),
        ip=ip,
        user_agent="",
        location=None,
        scopes=None if scopes is None else tuple(sorted(scopes)),
        amr=None if amr is None else tuple(sorted(amr)),
        aud=given.get("aud"),
        workspace_id=None,
        session_type=given.get("type"),
        meta_data=None,
    )


def _time(offset: str | None) -> int | None:
    return START + milliseconds(offset) if offset else None


def run_case(case: Case, detections: Iterable[Detection[Any]], limits: Limits | None = None) -> CaseResult:
    """Apply the events of a case to an empty state and compare the findings with the expected ones."""
    found = open_findings(case.events, TenantRuleEngine(detections, case.policy), limits or Limits())
    problems = [*_compare(case, found), *_too_loud(case, found)]
    return CaseResult(case, tuple(problems))


def run_cases(paths: Iterable[Path], detections: Iterable[Detection[Any]]) -> list[CaseResult]:
    """Run all cases of all files.

    Raises:
        BadCaseError: a file is invalid.
    """
    chosen = tuple(detections)
    return [run_case(case, chosen) for path in paths for case in load_cases(path)]


def open_findings(
    events: Iterable[tuple[SessionEvent, Enrichment]], engine: TenantRuleEngine, limits: Limits
) -> list[OpenFinding]:
    """Return the findings that remain after all events, in order of their first occurrence."""
    users: dict[tuple[str, str], User] = {}
    correlated: dict[str, CorrelationState] = {}
    found: dict[str, OpenFinding] = {}
    for event, known in events:
        key = event.tenant_id, event.user_id
        user = users.get(key) or new_user(*key)
        applied = apply(user, event, known, engine, limits)
        crossed = [
            each for started in applied.started for each in _correlated(event, started, correlated, engine, limits)
        ]
        changes = (each for change in applied.changes for each in _shared(change, correlated, engine, limits))
        for change in (*changes, *crossed):
            if change.activity is Activity.CLOSE:
                found.pop(change.uid, None)
            else:
                found[change.uid] = change.finding
        # Only the encoded state may affect later events.
        users[key] = decode_user(encode_user(user, NEVER))
    return sorted(found.values(), key=lambda each: (each.first, each.detection, each.subject))


def _shared(
    change: FindingChange, correlated: dict[str, CorrelationState], engine: TenantRuleEngine, limits: Limits
) -> Iterator[FindingChange]:
    """Process a change of a finding as the correlation stage does."""
    if not engine.is_tenant_wide(change.finding.detection):
        yield change
        return
    deed = Deed(*change[:2], b"", change.uid, change.activity, change.finding, None, None, ("", 0, 0), 0)
    key = f"deed {change.tenant_id} {change.finding.detection} {change.finding.subject}"
    restated, changes = share(correlated.setdefault(key, CorrelationState()), deed, engine, limits)
    for each in restated:
        yield FindingChange(each.deed.tenant_id, each.deed.user_id, each.deed.uid, each.activity, each.finding)
    yield from changes


def _correlated(
    event: SessionEvent,
    started: StartedSession,
    correlated: dict[str, CorrelationState],
    engine: TenantRuleEngine,
    limits: Limits,
) -> list[FindingChange]:
    """Process the start of a session as the correlation stage does."""
    network, history = started.context.network, started.history
    start = SessionStart(
        event.tenant_id, event.user_id, started.uid, started.time, (network.ip,), *history[:3], ("", 0, 0), 0,
        engine.policy.vocabulary.session_class(event.session_type) is SessionClass.TEMPORARY, started.replaces,
        history.is_new_client,
    )  # fmt: skip
    state = correlated.setdefault(f"uid {event.tenant_id} {started.uid}", CorrelationState())
    found = claim(state, start, engine, limits)
    if (history.has_baseline or started.replaces) and network.prefix:
        state = correlated.setdefault(f"{event.tenant_id} {network.prefix}", CorrelationState())
        found += arrive(state, start, network.prefix, engine, limits)
    if history.has_baseline and history.is_new_client:
        client = device_key(started.context.device)
        state = correlated.setdefault(f"client {event.tenant_id} {client}", CorrelationState())
        found += appear(state, start, client, engine, limits)
    return found


def _compare(case: Case, found: Sequence[OpenFinding]) -> Iterable[str]:
    own = [group for group in found if group.detection == case.detection]
    if len(own) != len(case.expect):
        told = "; ".join(f"{SEVERITIES[group.severity]}: {group.summary}" for group in own) or "nothing"
        yield f"expected {len(case.expect)} findings of {case.detection}, found {told}"
        return
    for group, wanted in zip(own, case.expect, strict=True):
        actual = {
            "severity": SEVERITIES[group.severity],
            "count": group.count,
            "session": group.session,
            "suppressed_by": list(group.suppressed_by),
        }
        for name, value in wanted.items():
            if actual[name] != value:
                yield f"{name} is {actual[name]!r}, not {value!r}: {group.summary}"


def _too_loud(case: Case, found: Sequence[OpenFinding]) -> Iterable[str]:
    if case.none_above is None:
        return
    bound = SEVERITIES.index(case.none_above)
    for group in found:
        if group.severity > bound and not group.suppressed_by:
            yield f"{group.detection} says {SEVERITIES[group.severity]}, above {case.none_above}: {group.summary}"


__all__ = ["UNKNOWN_DEVICE", "Case", "CaseResult", "load_cases", "make_event", "open_findings", "run_case", "run_cases"]
