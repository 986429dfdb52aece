"""Writes an incident for people: title, sides, timeline, and what could not be judged."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from schemas.finding import Activity, Attack, Severity
from schemas.incident import Incident, IncidentFinding, IncidentState, Side, Sighting, TimelineEntry
from schemas.text import truncate
from worker.sessions.contracts import COVERED_BY, TOLD_BEFORE
from worker.sessions.incidents import DEVICE, NETWORK, GivenVerdict, acknowledgement
from worker.sessions.risk import raised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from worker.sessions.incidents import IncidentRecord, IncidentTracker, ObservedContext, TrackedFinding

    ContextKey = tuple[str, str, str]

MOST = 40
"""Most findings, timeline entries and sightings of an incident that are listed. The rest is counted."""
MOST_TEXT = 600
"""Most characters of a title or sentence: text from clients (user agent, location) must not fill a message."""


class About(NamedTuple):
    """Metadata of a detection.

    Attributes:
        sums_up: the detection only summarises the findings of others.
    """

    title: str
    runbook: tuple[str, ...]
    attacks: tuple[Attack, ...]
    sums_up: bool


def report(tracker: IncidentTracker, record: IncidentRecord, about: Callable[[str], About]) -> Incident:
    """Return an incident in full."""
    if not any(uid in tracker.findings for uid in record.members):
        return _forgotten(tracker, record, about)
    return _Report(tracker, record, about).incident()


def _forgotten(tracker: IncidentTracker, record: IncidentRecord, about: Callable[[str], About]) -> Incident:
    """Return an incident without findings, because none is kept any more: it can only be resolved."""
    leading = record.detections[0]
    who = f"{tracker.user_id or tracker.subject} ({tracker.tenant_id})"
    return Incident(
        uid=record.uid, revision=record.revision, activity=Activity.CLOSE, state=record.state,
        resolution=record.resolution, merged_into=record.merged_into, tenant_id=tracker.tenant_id,
        user_id=tracker.user_id, subject=tracker.subject, key=tracker.key,
        title=truncate(f"{who}: {_lower(about(leading).title)}", MOST_TEXT),
        severity=Severity(record.severity), risk_score=0, started_at=record.resolved_at,
        last_event_at=record.resolved_at, detected_at=record.changed_at, resolved_at=record.resolved_at,
        leading=leading, runbook=about(leading).runbook, detections=record.detections, attacks=about(leading).attacks,
        finding_count=len(record.members), findings=(),
    )  # fmt: skip


class _Report:
    """The report of one incident."""

    def __init__(self, tracker: IncidentTracker, record: IncidentRecord, about: Callable[[str], About]) -> None:
        self._tracker, self._record, self._about = tracker, record, about
        false = frozenset(uid for uid, verdict in tracker.verdicts.items() if verdict.is_false)
        self._members = [tracker.findings[uid] for uid in record.members if uid in tracker.findings]
        self._attached = [tracker.findings[uid] for uid in record.attached if uid in tracker.findings]
        self._all = sorted([*self._members, *self._attached], key=lambda each: (each.first, each.uid))
        self._false = false
        self._active = [each for each in self._members if each.uid not in false] or self._members
        self._sides = sides(self._all)
        self._leading = min(self._active, key=self._rank)

    def _rank(self, finding: TrackedFinding) -> tuple[bool, bool, int, int, int, str]:
        """Order findings by how well they speak for the whole: what the user's own side did speaks last."""
        is_user = self._side(finding.after) is Side.USER
        sums_up = self._about(finding.detection).sums_up
        return is_user, sums_up, -finding.severity, -finding.score, finding.first, finding.uid

    def _side(self, context: ObservedContext | None) -> Side:
        return self._sides.get(context_key(context), Side.UNKNOWN) if context else Side.UNKNOWN

    def incident(self) -> Incident:
        """Return the whole incident."""
        tracker, record, leading = self._tracker, self._record, self._leading
        kinds = list(dict.fromkeys([leading.detection, *record.detections]))
        sightings, timeline = self._sightings(), self._timeline()
        acknowledged = acknowledgement(tracker, record.members) or GivenVerdict(0, "")
        shown = timeline if len(timeline) <= MOST else [*timeline[: MOST // 2], *timeline[-MOST // 2 :]]
        return Incident(
            uid=record.uid,
            revision=record.revision,
            activity=self._activity(),
            state=record.state,
            resolution=record.resolution,
            merged_into=record.merged_into,
            tenant_id=tracker.tenant_id,
            user_id=tracker.user_id,
            subject=tracker.subject,
            key=tracker.key,
            title=truncate(self._title(), MOST_TEXT),
            severity=Severity(record.severity),
            risk_score=self._risk(),
            started_at=self._members[0].first,
            last_event_at=max(each.last for each in self._members),
            detected_at=record.changed_at,
            resolved_at=record.resolved_at,
            leading=leading.detection,
            runbook=self._about(leading.detection).runbook,
            detections=tuple(kinds),
            attacks=self._attacks(kinds),
            finding_count=len(self._members),
            findings=tuple(self._finding(each) for each in sorted(self._members, key=self._rank)[:MOST]),
            suppressed=tuple(self._finding(each) for each in self._attached[-MOST:]),
            timeline=tuple(shown),
            timeline_omitted=len(timeline) - len(shown),
            sessions=_unique(each.session for each in self._all),
            sightings=sightings,
            networks=_unique(each.network for each in sightings),
            devices=_unique(each.device for each in sightings),
            places=_unique(each.place for each in sightings),
            not_judged=_not_judged(self._all),
            acknowledged_at=acknowledged.time,
            acknowledged_by=acknowledged.author,
        )

    def _activity(self) -> Activity:
        if self._record.state is IncidentState.RESOLVED:
            return Activity.CLOSE
        return Activity.UPDATE if self._record.published else Activity.CREATE

    def _risk(self) -> int:
        """Combine the scores; findings that only sum up others add nothing."""
        risk = 0.0
        for each in self._active:
            if not self._about(each.detection).sums_up:
                risk = raised(risk, each.score)
        return round(risk) or self._leading.score

    def _attacks(self, kinds: Iterable[str]) -> tuple[Attack, ...]:
        return tuple(dict.fromkeys(attack for kind in kinds for attack in self._about(kind).attacks))

    def _finding(self, finding: TrackedFinding) -> IncidentFinding:
        return IncidentFinding(
            uid=finding.uid,
            detection=finding.detection,
            title=finding.title,
            summary=truncate(finding.summary, MOST_TEXT),
            severity=Severity(finding.severity),
            risk_score=finding.score,
            session_uid=finding.session,
            first_time=finding.first,
            last_time=finding.last,
            count=finding.count,
            status=finding.status,
            is_alert=finding.is_alert,
            false_positive=finding.uid in self._false,
            suppressed_by=finding.suppressed_by,
            is_covered=_is_covered(finding),
        )

    # Sentences

    def _title(self) -> str:
        """Return the title: who, what, from where to where, and since when."""
        tracker, leading = self._tracker, self._leading
        who = f"{tracker.user_id or tracker.subject} ({tracker.tenant_id})"
        before, after = self._from_to()
        if before and after:
            what = f"{_lower(leading.title)}, {change_name(before, after)}"
        else:
            what = leading.summary if after is None else f"{leading.summary}{_at(after, leading.summary)}"
        return f"{who}: {what}, since {_time(self._members[0].first)}"

    def _from_to(self) -> tuple[ObservedContext | None, ObservedContext | None]:
        """Return what the leading finding changed from and to, or the user's side and the intruder's."""
        before, after = self._leading.before, self._leading.after
        if intruder := self._first_of(Side.INTRUDER):
            after = after if self._side(after) is Side.INTRUDER else intruder
            before = before if self._side(before) is Side.USER else self._first_of(Side.USER) or before
        is_same = before and after and context_key(before) == context_key(after)
        return (None if is_same else before), after

    def _first_of(self, side: Side) -> ObservedContext | None:
        contexts = (context for each in self._all for context in (each.before, each.after) if context)
        return next((context for context in contexts if self._side(context) is side), None)

    def _timeline(self) -> list[TimelineEntry]:
        moments: dict[tuple[int, str], list[TrackedFinding]] = {}
        for each in self._all:
            moments.setdefault((each.first, each.session), []).append(each)
        return [self._entry(time, session, found) for (time, session), found in sorted(moments.items())]

    def _entry(self, time: int, session: str, found: Sequence[TrackedFinding]) -> TimelineEntry:
        ordered = sorted(found, key=lambda each: (not each.is_alert, each.after is None, each.before is None,
                                                  -each.severity, each.uid))  # fmt: skip
        first = next((each for each in ordered if each.after and each.before), ordered[0])
        return TimelineEntry(
            time=time,
            session_uid=session,
            severity=Severity(max(each.severity for each in found)),
            text=truncate(self._sentence(first, ordered), MOST_TEXT),
            detections=_unique(each.detection for each in ordered),
            findings=tuple(each.uid for each in ordered),
            before=self._sighting(first.before) if first.before else None,
            after=self._sighting(first.after) if first.after else None,
            what=self._what(first.before, first.after, ordered) if first.after else "",
        )

    def _what(self, before: ObservedContext | None, after: ObservedContext, found: Sequence[TrackedFinding]) -> str:
        """Say who did what, without what another finding says already."""
        if (self._side(before), self._side(after)) == (Side.INTRUDER, Side.USER):
            return "The user is back in the session"
        telling = [each for each in found if not _is_covered(each)] or found
        return truncate(f"{_who(self._side(after), found)}: {_titles(telling)}", MOST_TEXT)

    def _sentence(self, first: TrackedFinding, found: Sequence[TrackedFinding]) -> str:
        what = _titles(found)
        if first.after is None:
            return f"{what[:1].upper()}{what[1:]}: {first.summary}"
        is_same = first.before is None or context_key(first.before) == context_key(first.after)
        before = "" if is_same or first.before is None else f"; before: {context_name(first.before)}"
        return f"{_who(self._side(first.after), found)} ({context_name(first.after)}): {what}{before}"

    def _sightings(self) -> tuple[Sighting, ...]:
        found: dict[tuple[str, ContextKey], ObservedContext] = {}
        for each in self._all:
            for context in (each.before, each.after):
                if context:
                    found.setdefault((context.ip, context_key(context)), context)
        return tuple(self._sighting(context) for context in list(found.values())[:MOST])

    def _sighting(self, context: ObservedContext) -> Sighting:
        return Sighting(
            ip=context.ip, network=context.network, network_kind=context.kind, asn=context.asn, country=context.country,
            place=context.place, device=truncate(context.device, MOST_TEXT), side=self._side(context),
        )  # fmt: skip


# Sides


def context_key(context: ObservedContext) -> ContextKey:
    """Return what makes two contexts the same side: network, country and device."""
    return f"as{context.asn}" if context.asn else context.ip, context.country, context.device


def sides(findings: Sequence[TrackedFinding]) -> dict[ContextKey, Side]:
    """Tell the user from the intruder, by what the user's baseline knew of each when it was first seen.

    Args:
        findings: in order of time.
    """
    seen: dict[ContextKey, ObservedContext] = {}
    followed: dict[ContextKey, bool] = {}
    for each in findings:
        for context in (each.before, each.after):
            if context is not None:
                seen.setdefault(context_key(context), context)
                followed.setdefault(context_key(context), context is each.after and each.before is not None)
    best = max((context.known.bit_count() for context in seen.values() if context.known >= 0), default=0)
    return {key: _side_of(context, best, follows=followed[key]) for key, context in seen.items()}


def _side_of(context: ObservedContext, best: int, *, follows: bool) -> Side:
    if context.known < 0:
        # Without knowledge of the baseline: who held the session first is its user.
        return Side.INTRUDER if follows else Side.UNKNOWN
    knows_network, knows_device = context.known & NETWORK, context.known & DEVICE
    if knows_network and (knows_device or not context.device):
        return Side.USER
    if not (knows_network or knows_device) or context.known.bit_count() < best:
        return Side.INTRUDER
    return Side.UNKNOWN


# Words


_WHO = {Side.USER: "The user", Side.INTRUDER: "Probably the intruder", Side.UNKNOWN: "Somebody"}


def _who(side: Side, found: Iterable[TrackedFinding]) -> str:
    """Name a side. Only critical findings, which no habit of a user explains, make it certain who the intruder is."""
    is_certain = any(each.severity >= Severity.CRITICAL and each.status != "closed" for each in found)
    return "The intruder" if is_certain and side is Side.INTRUDER else _WHO[side]


def _titles(found: Sequence[TrackedFinding]) -> str:
    return ", ".join(_unique(_lower(each.title) + _excuse(each) for each in found))


def context_name(context: ObservedContext) -> str:
    """Return e.g. `Chrome 131 on Windows 10 at 203.0.113.7 (AS64500 Example ISP, hosting), Paris, FR`."""
    return f"{context.device} at {where_name(context)}" if context.device else where_name(context)


def where_name(context: ObservedContext) -> str:
    """Return e.g. `203.0.113.7 (AS64500 Example ISP, hosting), Paris, FR`."""
    return ", ".join(part for part in (context.network or context.ip, context.place) if part) or "an unknown place"


def change_name(before: ObservedContext, after: ObservedContext) -> str:
    """Return what changed between two contexts; what both have in common is said once."""
    if before.device and before.device == after.device:
        return f"from {where_name(before)} to {where_name(after)}, both {after.device}"
    if before.device and after.device and where_name(before) == where_name(after):
        return f"from {before.device} to {after.device}, both at {where_name(after)}"
    return f"from {context_name(before)} to {context_name(after)}"


def _at(context: ObservedContext, summary: str) -> str:
    """Return where something was seen, without what the summary says of it."""
    if (context.network or context.ip) not in summary:
        return f", at {context_name(context)}"
    return f", {context.place}" if context.place and context.place not in summary else ""


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:] if title[1:2].islower() or title[1:2] == " " else title


def _is_covered(finding: TrackedFinding) -> bool:
    reasons = finding.suppressed_by
    return bool(reasons) and all(each.startswith(COVERED_BY) or each == TOLD_BEFORE for each in reasons)


def _excuse(finding: TrackedFinding) -> str:
    if finding.suppressed_by:
        return f" (suppressed: {', '.join(finding.suppressed_by)})"
    return " (withdrawn by a late record)" if finding.status == "closed" else ""


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))[:MOST]


def _not_judged(findings: Sequence[TrackedFinding]) -> tuple[str, ...]:
    """Say what is unknown of the places events came from, and what could not be judged for it."""
    contexts = [context for each in findings for context in (each.before, each.after) if context]
    unknown: Mapping[str, Iterable[str]] = {
        "The place of {} is unknown: travel was not judged.": (each.ip for each in contexts if not each.country),
        "The autonomous system of {} is unknown: its network was judged by address.": (
            each.ip for each in contexts if not each.asn
        ),
        "The client at {} did not say what it is: its device was not compared.": (
            each.ip for each in contexts if not each.device
        ),
    }
    return _unique(text.format(ip or "an unknown address") for text, ips in unknown.items() for ip in ips)
